"""Where requests come from: a file, a pipe or a remote file, packed or not, read line by line."""

import gzip
import os
import zlib
from collections.abc import Iterable, Iterator
from typing import IO, Any

from nextok.api.json_body import MOST_BYTES
from nextok.errors import NextokError
from nextok.extras import needed_for

STDIO = "-"
"""The name of standard input and output."""
PART = 1 << 16


def is_remote(name: str) -> bool:
    """Whether it is an address such as `s3://bucket/key`."""
    return "://" in name


def is_pipe(name: str) -> bool:
    """Whether it is a standard stream, a pipe or a device, which can be read or written once."""
    return name == STDIO or (os.path.exists(name) and not os.path.isfile(name) and not os.path.isdir(name))


def open_remote(name: str, mode: str) -> Any:
    """A remote file; NextokError if there is none or it cannot be reached, or without the library for it."""
    with needed_for(f"{name:.80} (a remote file)"):
        import fsspec
    try:
        return fsspec.open(name, mode).open()
    except Exception as error:  # each kind of storage has its own kinds of errors
        raise NextokError(f"cannot open {name:.200}: {type(error).__name__}: {error}") from error


class InFile:
    """The lines of a file, to be read any number of times, or of standard input (`-`), once; `.gz` is unpacked.

    Not more than one line is held. Of a line that is too long only so much is read that this can be told.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_pipe = is_pipe(name)
        self.start = 0  # where the line that was read last begins
        if not self.is_pipe:
            self._open().close()  # refused before anything is loaded
        self.size = None if self.is_pipe or is_remote(name) else os.path.getsize(name)

    def find_address(self) -> str:
        """Its name for a process with another working folder."""
        return self.name if is_remote(self.name) else os.path.abspath(self.name)

    def __iter__(self) -> Iterator[bytes]:
        with self._open() as raw:
            file: Any = gzip.GzipFile(fileobj=raw) if self.name.endswith(".gz") else raw
            try:
                while line := self._read_line(file, raw):
                    yield line
                    while line and not line.endswith(b"\n"):
                        line = file.readline(PART)  # the rest of one that is too long, or the end
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise NextokError(f"{self.name:.200} is damaged, or no gzip file: {error}") from error

    def read_at(self, starts: Iterable[int]) -> Iterator[bytes]:
        """The lines that begin at these places of a file that is not packed."""
        with self._open() as raw:
            for start in starts:
                raw.seek(start)
                yield self._read_line(raw, raw)

    def _read_line(self, file: IO[bytes], raw: IO[bytes]) -> bytes:
        self.start = 0 if self.is_pipe else raw.tell()
        return file.readline(MOST_BYTES + 3)

    def _open(self) -> IO[bytes]:
        if self.name == STDIO:
            return open(0, "rb", closefd=False)
        opened: IO[bytes] = open_remote(self.name, "rb") if is_remote(self.name) else open(self.name, "rb")  # noqa: SIM115
        return opened
