"""The folder of fetched models, and the check that a file in it is whole."""

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from nextok.hub.source import Progress, Report


@dataclass(frozen=True)
class Content:
    """What a file must hold: its `sha256` in hex and its `size` in bytes."""

    sha256: str
    size: int


def get_cache_folder() -> Path:
    """Return the folder of fetched models: `NEXTOK_CACHE`, else the usual place of this system."""
    if chosen := os.environ.get("NEXTOK_CACHE"):
        return Path(chosen).expanduser().absolute()
    if chosen := os.environ.get("XDG_CACHE_HOME"):
        return Path(chosen, "nextok").absolute()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local", "nextok", "Cache")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "nextok"
    return Path.home() / ".cache" / "nextok"


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_whole(path: Path, content: Content, stamp: Path) -> bool:
    """Tell whether `path` holds `content`: by `stamp` if size and time agree with it, else by a hash."""
    try:
        facts = path.stat()
        if facts.st_size != content.size:
            return False
        line = f"{content.sha256} {facts.st_size} {facts.st_mtime_ns}\n"
        if stamp.is_file() and stamp.read_bytes() == line.encode():
            return True
        if hash_file(path) != content.sha256:
            return False
    except OSError:
        return False
    with suppress(OSError):  # without a stamp, the file is hashed at each load
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.write_bytes(line.encode())
    return True


@contextmanager
def hold_lock(path: Path, report: Report) -> Iterator[None]:
    """Hold the lock file at `path` inside; the system frees it when the process ends for any reason."""
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        report(Progress("waiting for another process that fetches the same model"))
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
