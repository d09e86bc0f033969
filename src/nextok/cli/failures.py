"""How every failure is reported: one line on stderr that says what to do, and an exit code."""

import errno
import os
import sys
import traceback
from contextlib import suppress

import typer

from nextok.cli.flags import as_typed
from nextok.cli.terminal import escape_controls, format_json
from nextok.errors import NextokError

FAILED, USAGE, LIMIT, INTERRUPTED, READER_GONE = 1, 2, 4, 130, 141

EXIT_CODES = (
    "Exit codes: 0 done, 1 failed while running, 2 wrong usage, 3 no such model or a bad model file, "
    "4 too long or too large, 5 network, 130 interrupted, 141 the reader of the output has gone."
)


def report_failure(error: BaseException, *, as_json: bool, debug: bool) -> int:
    """Report what ended the program and return its exit code; a full traceback only with `debug`."""
    if isinstance(error, typer.Exit):
        return error.exit_code
    if isinstance(error, SystemExit) and isinstance(error.__context__, BrokenPipeError):
        return READER_GONE  # rich ends a program so
    if isinstance(error, SystemExit | GeneratorExit):
        raise error
    code, message = explain(error)
    if code == READER_GONE:
        return code
    with suppress(OSError):  # stderr may be closed
        if debug:
            traceback.print_exception(error)
        if as_json and code != INTERRUPTED:
            facts = {"kind": type(error).__name__, "message": message, "exit_code": code}
            with suppress(OSError):
                print(format_json({"error": facts}), flush=True)
                return code
        print(f"nextok: {message}", file=sys.stderr, flush=True)
    return code


def explain(error: BaseException) -> tuple[int, str]:
    """The exit code of a failure and its message, on one line and safe to show."""
    code, message = _classify(error)
    return code, escape_controls(" ".join(message.split()))


def flush_streams() -> None:
    """Flush stdout and stderr, or drop what they hold, so that the end of the process cannot fail over it."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _classify(error: BaseException) -> tuple[int, str]:
    match error:
        case KeyboardInterrupt():
            return INTERRUPTED, "interrupted"
        case NextokError():
            return error.exit_code, str(error)
        case typer.TyperException():
            return USAGE, _explain_usage(error)
        case ValueError():
            return USAGE, as_typed(str(error))
        case MemoryError():
            return LIMIT, "out of memory: use a smaller model, a shorter prompt or fewer beams"
        case BrokenPipeError():
            return READER_GONE, "the reader of the output has gone"
        case OSError(errno=errno.EPIPE):
            return READER_GONE, "the reader of the output has gone"
        case OSError():
            reason = error.strerror or str(error) or type(error).__name__
            return FAILED, f"{error.filename}: {reason}" if error.filename else f"cannot read or write: {reason}"
        case _:
            return FAILED, f"unexpected {type(error).__name__}: {error} (run again with --debug, and report it)"


def _explain_usage(error: typer.TyperException) -> str:
    message = error.format_message().rstrip(".")
    context, details = getattr(error, "ctx", None), getattr(error.__cause__, "errors", None)
    if details and (given := repr(details()[0]["input"])) not in message:
        message += f", got {given}"
    return f"{message}; see {context.command_path if context else 'nextok'} --help"
