"""The command line: `nextok "prompt"` and its sisters. Nothing heavy is imported before a command needs it."""

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line, by default the process's own; return its exit code (see docs/cli.md)."""
    try:
        from nextok.cli.arguments import before_dashes, routed
        from nextok.cli.failures import failed, settle
        from nextok.cli.terminal import prepare, showing_warnings
    except KeyboardInterrupt:
        return 130

    given = list(sys.argv[1:] if arguments is None else arguments)
    flags = before_dashes(given)
    try:
        prepare(color="--no-color" not in flags)
        from nextok.cli.app import run

        with showing_warnings(quiet=not {"-q", "--quiet"}.isdisjoint(flags)):
            code = run(routed(given))
        sys.stdout.flush()
    except BaseException as error:
        code = failed(error, as_json="--json" in flags, debug="--debug" in flags)
    finally:
        settle()
    return code
