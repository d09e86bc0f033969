"""Where answers go: to a file that a later run goes on with, whatever ended this one; to a pipe, or a remote file."""

import gzip
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import IO, Any

from nextok.batch.done import Done, read_done
from nextok.batch.entries import read_entries
from nextok.batch.inputs import STDIO, InFile, is_pipe, is_remote, open_remote
from nextok.errors import NextokError

SYNC_SECONDS = 5.0
"""Longest time, in seconds, that lines are kept before a power cut can no longer take them."""
MEMBER = 1 << 16
"""Text, in bytes, that is packed together in a `.gz` file."""


def open_output(name: str, requests: InFile, overwrite: bool) -> "Output":
    """The output of this name. `overwrite`: what it holds is dropped, else it is gone on with.

    ValueError if it holds something else than answers to these requests, or cannot be gone on with.
    """
    if is_pipe(name):
        return Output(name)
    if is_remote(name):
        return RemoteOutput(name, overwrite)
    if os.path.exists(name) and os.path.exists(requests.name) and os.path.samefile(name, requests.name):
        raise ValueError(f"OUT is IN, {name!r:.200}: choose another file for the answers")
    return LocalOutput(name, requests, overwrite)


class Output:
    """A pipe or a device: each line is written at once."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.done = Done()
        self.can_go_on = False
        self._file: Any = None
        self._packed: list[bytes] = []
        self._size = 0
        self._synced_at = time.monotonic()

    def __enter__(self) -> "Output":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin(self) -> None:
        """Make it ready: from here on what it held can be lost."""
        is_stdout = self.name == STDIO
        self._file = open(1 if is_stdout else self.name, "wb", buffering=0, closefd=not is_stdout)  # noqa: SIM115

    def write(self, line: bytes) -> None:
        """Write a line, with one call; of a `.gz` file lines are packed together, for seconds at most."""
        if not self.name.endswith(".gz"):
            self._write(line)
        else:
            self._packed.append(line)
            self._size += len(line)
            if self._size >= MEMBER or time.monotonic() - self._synced_at > SYNC_SECONDS:
                self._write_member()
        if time.monotonic() - self._synced_at > SYNC_SECONDS:
            self._sync()

    def close(self) -> None:
        """Write what is packed, and close."""
        if self._file is not None:
            self._write_member()
            self._sync()
            self._file.close()

    def _write_member(self) -> None:
        if self._packed:
            self._write(gzip.compress(b"".join(self._packed), mtime=0))
            self._packed, self._size = [], 0

    def _write(self, data: bytes) -> None:
        while data:
            data = data[self._file.write(data) or 0 :]  # a full disk or a signal can cut a write

    def _sync(self) -> None:
        self._synced_at = time.monotonic()


class LocalOutput(Output):
    """A file on this machine, locked against a second run: its whole lines are kept, a cut one is dropped."""

    def __init__(self, name: str, requests: InFile, overwrite: bool) -> None:
        super().__init__(name)
        self.can_go_on = not requests.is_pipe
        self._opened: IO[bytes] = open(name, "r+b", buffering=0, opener=_create)  # noqa: SIM115
        try:
            _lock(self._opened, name)
            if not overwrite:
                self.done = read_done(name)
                _check_belongs(self.done.keys, requests, name)
        except BaseException:
            self._opened.close()
            raise

    def begin(self) -> None:
        """Cut off all but the whole lines, and go on after them."""
        self._file = self._opened
        self._file.truncate(self.done.end)
        self._file.seek(self.done.end)

    def close(self) -> None:
        """Write what is packed, close, and free the lock."""
        try:
            super().close()
        finally:
            self._opened.close()

    def _sync(self) -> None:
        super()._sync()
        os.fsync(self._file.fileno())


class RemoteOutput(Output):
    """A file of a remote storage, which is there when it is closed; it cannot be appended to."""

    def __init__(self, name: str, overwrite: bool) -> None:
        super().__init__(name)
        if not overwrite and _is_there(name):
            line = "is there already, and a remote file cannot be gone on with: add --overwrite, or choose another"
            raise ValueError(f"{name!r:.200} {line}")

    def begin(self) -> None:
        """Open it for new content."""
        self._file = open_remote(self.name, "wb")


def _create(name: str, flags: int) -> int:
    """Open a file as it is, or make it."""
    return os.open(name, flags | os.O_CREAT, 0o666)


def _is_there(name: str) -> bool:
    try:
        open_remote(name, "rb").close()
    except NextokError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return False
        raise
    return True


def _check_belongs(keys: Iterable[str], requests: InFile, name: str) -> None:
    """ValueError unless all of these are answers to lines of IN, which is read as far as they go."""
    left = set(keys)
    if left and requests.is_pipe:
        raise ValueError(f"{name!r:.200} holds answers, and a pipe cannot be read again: add --overwrite")
    entries = read_entries(requests)
    while left and (entry := next(entries, None)):
        left.discard(entry.key)
    if left:
        line = f"{name!r:.200} has answers to {len(left)} requests that {requests.name!r:.200} does not have"
        raise ValueError(f"{line}: choose another OUT, or add --overwrite to drop it")


def _lock(file: IO[bytes], name: str) -> None:
    """NextokError if another process writes to this file; the end of a process, any end, frees it."""
    with suppress(ImportError, OSError):  # neither Windows nor every network's file system has locks
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NextokError(f"another process writes to {name!r:.200}: wait for its end, or end it") from None
