"""The command line: `nextok "prompt"` and other commands. Large modules are imported when a command needs them."""

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line, by default the process's own; return its exit code (see docs/cli.md)."""
    try:
        from nextok.cli.arguments import cut_at_dashes, route
        from nextok.cli.failures import flush_streams, report_failure
        from nextok.cli.terminal import prepare_streams, show_warnings
    except KeyboardInterrupt:
        return 130

    given = list(sys.argv[1:] if arguments is None else arguments)
    flags = cut_at_dashes(given)
    try:
        prepare_streams(color="--no-color" not in flags)
        from nextok.cli.app import run

        with show_warnings(quiet=not {"-q", "--quiet"}.isdisjoint(flags)):
            code = run(route(given))
        sys.stdout.flush()
    except BaseException as error:
        code = report_failure(error, as_json="--json" in flags, debug="--debug" in flags)
    finally:
        flush_streams()
    return code
