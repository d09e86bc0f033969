"""Where the lines of a batch are: files, also compressed and on other machines, and pipes."""

import gzip
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from nextok.api.json_body import MOST_BYTES
from nextok.extras import needed_for

if sys.platform != "win32":
    import fcntl

PIPE = "-"
"""The name of standard input and output."""
SYNC_SECONDS = 1.0
"""Longest time, in seconds, for which answers are only in this process or in the memory of the system."""
CHUNK = 1 << 20


class Output(Protocol):
    """Where answers go, a line at a time."""

    def write(self, line: bytes) -> object:
        """Append a line."""
        ...

    def close(self) -> None:
        """Let nothing that was written be lost."""
        ...


@contextmanager
def open_input(name: str) -> Iterator[BinaryIO]:
    """The bytes of a file, of a `.gz` file unpacked."""
    if name == PIPE:
        yield sys.stdin.buffer
    elif is_remote(name):
        with _import_fsspec(name).open(name, "rb", compression="infer") as file:
            yield file
    else:
        with gzip.open(name, "rb") if name.endswith(".gz") else open(name, "rb") as file:
            yield file  # type: ignore[misc]


def read_lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines that are not empty, without their ends; one that is too long is cut a little beyond that."""
    is_first = True
    while line := file.readline(MOST_BYTES + 2):
        rest = line
        while rest and not rest.endswith(b"\n"):
            rest = file.readline(CHUNK)
        if is_first:
            line, is_first = line.removeprefix(b"\xef\xbb\xbf"), False
        if line := line.strip(b"\r\n\t "):
            yield line


def open_output(name: str, end: int = 0) -> Output:
    """Where answers go: into a new file, or behind the first `end` bytes of one that is there."""
    if name == PIPE:
        return PipeOutput(sys.stdout.buffer)
    if is_remote(name):
        return RemoteOutput(name)
    return PackedOutput(name, end) if name.endswith(".gz") else FileOutput(name, end)


def is_remote(name: str) -> bool:
    """Whether fsspec has to open it."""
    return "://" in name


def exists(name: str) -> bool:
    """Whether there is such a file."""
    if name == PIPE:
        return False
    if not is_remote(name):
        return Path(name).exists()
    fsspec = _import_fsspec(name)
    return bool(fsspec.core.url_to_fs(name)[0].exists(name))


def _import_fsspec(name: str) -> Any:
    with needed_for(f"a path such as {name.partition('://')[0]}://"):
        import fsspec
    return fsspec


class PipeOutput:
    """Standard output."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, line: bytes) -> None:
        self._file.write(line)
        self._file.flush()

    def close(self) -> None:
        self._file.flush()


def _open_locked(name: str, end: int) -> FileIO:
    """A file of which the first `end` bytes are kept; ValueError if another process writes it now."""
    file = FileIO(os.open(name, os.O_RDWR | os.O_CREAT, 0o666), "r+")
    if os.path.isfile(name):  # else a device or a named pipe
        try:
            if sys.platform != "win32":
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise ValueError(f"another process writes {name}: wait for its end, or name another file") from None
        file.truncate(end)
        file.seek(end)
    return file


def _write_all(file: FileIO, data: bytes) -> None:
    """All of it: a full disk or a signal can cut a write."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) or 0 :]


class FileOutput:
    """A file on this machine: each line is in the hands of the system at once, and on the disk soon."""

    def __init__(self, name: str, end: int) -> None:
        self._file = _open_locked(name, end)
        self._synced_at = time.monotonic()

    def write(self, line: bytes) -> None:
        _write_all(self._file, line)
        if time.monotonic() - self._synced_at > SYNC_SECONDS:
            self._sync()

    def close(self) -> None:
        self._sync()
        self._file.close()

    def _sync(self) -> None:
        with suppress(OSError):  # a device or a named pipe has no disk
            os.fsync(self._file.fileno())
        self._synced_at = time.monotonic()


class PackedOutput:
    """A gzip file: the lines of a second are one member, so that what is cut loses no more than that."""

    def __init__(self, name: str, end: int) -> None:
        self._file = _open_locked(name, end)
        self._lines: list[bytes] = []
        self._packed_at = time.monotonic()

    def write(self, line: bytes) -> None:
        self._lines.append(line)
        if time.monotonic() - self._packed_at > SYNC_SECONDS:
            self._pack()

    def close(self) -> None:
        self._pack()
        self._file.close()

    def _pack(self) -> None:
        if self._lines:
            _write_all(self._file, gzip.compress(b"".join(self._lines), mtime=0))
            os.fsync(self._file.fileno())
        self._lines, self._packed_at = [], time.monotonic()


class RemoteOutput:
    """A file that fsspec writes: it is there once it is whole."""

    def __init__(self, name: str) -> None:
        self._opened = _import_fsspec(name).open(name, "wb", compression="infer")
        self._file = self._opened.open()

    def write(self, line: bytes) -> None:
        self._file.write(line)

    def close(self) -> None:
        self._opened.close()
