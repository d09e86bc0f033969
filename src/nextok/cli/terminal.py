"""What the commands write to: streams that take any text, and never let a model steer the terminal."""

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


def prepare(*, color: bool = True) -> None:
    """Make the standard streams speak UTF-8 in any locale; output streams that are closed lead nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  # for as long as the process
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="replace")
    if not color:
        os.environ["NO_COLOR"] = "1"


def visible(text: str) -> str:
    r"""The text with control characters spelled out (`\x1b`), except newline and tab."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def json_text(value: Any) -> str:
    """JSON on one line, readable in any script and safe to show in a terminal."""
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", json.dumps(value, ensure_ascii=False))


def note(text: str) -> None:
    """Say something to the person at stderr, where it cannot be taken for generated text."""
    print(visible(text), file=sys.stderr, flush=True)


@contextmanager
def showing_warnings(*, quiet: bool = False) -> Iterator[None]:
    """Say each warning of a library as one line on stderr; nothing if `quiet`."""

    def show(message: Warning | str, *place: Any, **more: Any) -> None:
        if not quiet:
            note(f"nextok: {' '.join(str(message).split())}")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


@contextmanager
def passing(text: str, *, quiet: bool = False) -> Iterator[None]:
    """Say at the bottom of stderr what is being done, for as long as it is; nothing unless a person watches."""
    watched = sys.stderr.isatty() and not quiet
    if watched:
        print(f"{visible(text)} ...", end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        if watched:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def console(stream: TextIO | None = None) -> "Console":
    """Where tables go: stdout, or the stream given; 80 columns where it is no terminal."""
    from rich.console import Console

    return Console(file=stream or sys.stdout, markup=False, highlight=False, emoji=False)


class Page:
    """Generated text on its way to stdout, without delay: raw bytes for a pipe, made visible for a terminal."""

    def __init__(self) -> None:
        self.length = 0  # characters written since the last end()
        self._last = ""
        self._safe = visible if sys.stdout.isatty() else str

    def write(self, text: str) -> None:
        """Show some more text at once."""
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


def size_text(size: float) -> str:
    """A number of bytes for people."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size:.0f} bytes"
