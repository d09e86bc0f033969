"""The turns of a person in `nextok chat`: a line or several, and the lines of earlier days."""

import os
import sys
from contextlib import suppress
from pathlib import Path
from types import ModuleType

from nextok.cli.terminal import print_note

QUOTES = '"""'
"""What a turn of several lines begins with, and what ends it."""
MOST_REMEMBERED = 1000
"""Number of lines that the file of earlier turns holds."""


class TurnReader:
    """Reads turns from stdin: with a prompt, editing and a history at a terminal, without any from a pipe."""

    def __init__(self) -> None:
        self.interactive = sys.stdin is not None and sys.stdin.isatty()
        self._readline = _open_history() if self.interactive and sys.stdout.isatty() else None

    @property
    def can_edit(self) -> bool:
        """Whether a line can be shown to be edited."""
        return self._readline is not None

    def read(self, begun: str = "") -> str | None:
        """The next turn; None at the end. At a terminal Ctrl-C only drops the line, and `begun` can be edited."""
        while True:
            try:
                line = self._read_line("> ", begun)
                return line if not line.startswith(QUOTES) else self._read_lines(line.removeprefix(QUOTES))
            except EOFError:
                if self.interactive:
                    print_note("")
                return None
            except KeyboardInterrupt:
                if not self.interactive:
                    raise
                print_note("\n(Ctrl-D or /quit leaves)")

    def _read_lines(self, line: str) -> str:
        """The rest of a turn that has begun with quotes."""
        lines = []
        while not line.rstrip().endswith(QUOTES):
            lines.append(line)
            line = self._read_line(". ")
        return "\n".join([*lines, line.rstrip().removesuffix(QUOTES)]).strip("\n")

    def _read_line(self, prompt: str, begun: str = "") -> str:
        if self._readline:
            if begun:
                self._readline.set_startup_hook(lambda: self._readline and self._readline.insert_text(begun))
            try:
                return input(prompt)
            finally:
                self._readline.set_startup_hook(None)
        if self.interactive:
            print(prompt, end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline() if sys.stdin is not None else ""
        if not line:
            raise EOFError
        return line.rstrip("\r\n")


def find_history() -> Path | None:
    """The file of earlier turns: NEXTOK_HISTORY, where an empty value means none, or one in the cache folder."""
    from nextok.hub import get_cache_folder

    named = os.environ.get("NEXTOK_HISTORY")
    return (Path(named) if named else None) if named is not None else get_cache_folder() / "chat_history"


def _open_history() -> ModuleType | None:
    """The module that edits lines, with those of earlier days; kept for the next time when the program ends."""
    try:
        import readline
    except ImportError:  # Windows
        return None
    import atexit

    file = find_history()
    if file is None:
        return readline
    readline.set_history_length(MOST_REMEMBERED)
    with suppress(OSError, UnicodeError):  # the first time, or a file of something else
        readline.read_history_file(file)
    atexit.register(_keep_history, readline, file)
    return readline


def _keep_history(readline: ModuleType, file: Path) -> None:
    with suppress(OSError):  # a folder that cannot be written keeps nothing
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)  # what a person says is read by nobody else
        readline.write_history_file(file)
