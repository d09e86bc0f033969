"""The streams that the commands write to: they take any text, and control characters of a model are made harmless."""

import json
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def prepare_streams(*, color: bool = True) -> None:
    """Set the standard streams to UTF-8 in any locale; output to a stream that is closed is dropped."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  # for as long as the process
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="replace")
    if not color:
        os.environ["NO_COLOR"] = "1"


def escape_controls(text: str) -> str:
    r"""The text with control characters spelled out (`\x1b`), except newline and tab."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def format_json(value: Any) -> str:
    """JSON on one line, readable in any script and safe to show in a terminal."""
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", json.dumps(value, ensure_ascii=False))


def print_note(text: str) -> None:
    """Print a remark to stderr, where it is not mixed with generated text."""
    print(escape_controls(text), file=sys.stderr, flush=True)


@contextmanager
def show_warnings(*, quiet: bool = False) -> Iterator[None]:
    """Say each warning of a library as one line on stderr; nothing if `quiet`."""

    def show(message: Warning | str, *place: Any, **more: Any) -> None:
        if not quiet:
            print_note(f"nextok: {' '.join(str(message).split())}")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


@contextmanager
def show_activity(text: str, *, quiet: bool = False) -> Iterator[None]:
    """Show on stderr what is being done while the inside runs; nothing where stderr is no terminal."""
    watched = sys.stderr.isatty() and not quiet
    if watched:
        print(f"{escape_controls(text)} ...", end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        if watched:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def make_console(stream: TextIO | None = None) -> "Console":
    """A console for tables on stdout or the given stream; it has 80 columns where that is no terminal."""
    from rich.console import Console

    return Console(file=stream or sys.stdout, markup=False, highlight=False, emoji=False)


class StdoutWriter:
    """Writes generated text to stdout without delay: unchanged for a pipe, with escaped controls for a terminal."""

    def __init__(self) -> None:
        self.length = 0  # number of characters written since the last end()
        self._last = ""
        self._safe = escape_controls if sys.stdout.isatty() else str

    def write(self, text: str) -> None:
        """Write a piece of text and flush it."""
        if text:
            self.length += len(text)
            self._last = text[-1]
            sys.stdout.write(self._safe(text))
            sys.stdout.flush()

    def end(self) -> None:
        """Finish a text: it ends with a newline, its own or one more."""
        if self._last != "\n":
            sys.stdout.write("\n")
        sys.stdout.flush()
        self.length, self._last = 0, ""


def format_size(size: float) -> str:
    """A number of bytes in a readable unit."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size:.0f} bytes"
