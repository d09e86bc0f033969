"""Opening files that may be damaged or hostile: every failure is one line that says what to do."""

import json
import mmap
import os
import reprlib
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from nextok.errors import ModelFileError, ModelNotFoundError

AGAIN = "the file is damaged, download it again"
"""The fix that most messages end with."""
MOST_LETTERS_QUOTED = 120
"""Largest number of letters of a value in a message."""


def quote(value: object) -> str:
    """A value from a file as it may stand in a message: quoted, short, on one line."""
    if isinstance(value, str):
        return repr(value[:80])
    text = reprlib.repr(value)
    return text if len(text) <= MOST_LETTERS_QUOTED else f"{text[:MOST_LETTERS_QUOTED]}..."


@contextmanager
def name_in_errors(place: str) -> Iterator[None]:
    """Put `place` in front of the message of a ModelFileError raised inside."""
    try:
        yield
    except ModelFileError as error:
        raise ModelFileError(f"{place if place.isprintable() else repr(place)}: {error}") from None


@contextmanager
def open_file(path: Path) -> Iterator[BinaryIO]:
    """A regular file, open for reading in binary; ModelNotFoundError if it is not there, else ModelFileError."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # before it is opened, as opening a pipe waits for its writer
            raise ModelFileError("it is a folder or a device: give the path of a file")
        with open(path, "rb") as file:
            yield file
    except ModelFileError:
        raise
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a NUL in the path
        raise ModelNotFoundError(f"{str(path)!r}: there is no such file, check the path") from None
    except OSError as error:
        raise ModelFileError(f"the system cannot read it ({error.strerror}): check its permissions") from None


def map_file(path: Path) -> mmap.mmap:
    """The bytes of a file that is not empty, mapped read-only."""
    with open_file(path) as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise ModelFileError("the file is empty: download it again")
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def release_pages(data: npt.NDArray[np.uint8]) -> None:
    """Give back the memory of the mapped file that these bytes lie in; a later read loads it from the disk again.

    Otherwise a model that has been repacked would be in memory twice until the process ends. The whole file is
    released, since the system maps the neighbours of what is read as well.
    """
    whole: Any = data
    while isinstance(whole, np.ndarray):
        whole = whole.base
    mapped = whole.obj if isinstance(whole, memoryview) else whole
    if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def read_bytes(path: Path, limit: int) -> bytes:
    """A whole file of at most `limit` bytes."""
    with open_file(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ModelFileError(f"the file has more than the {limit:,} bytes allowed: {AGAIN}")
    return data


def read_json(path: Path, limit: int) -> dict[str, Any]:
    """The JSON object in a file of at most `limit` bytes."""
    data = read_bytes(path, limit)
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise ModelFileError(f"the file is not JSON: {AGAIN}") from None
    if not isinstance(value, dict):
        raise ModelFileError(f"the file is not a JSON object: {AGAIN}")
    return value


def locate_file(folder: Path, name: str) -> Path:
    """The path of a file of this plain name in a model's folder; ModelFileError if a link leads out of the folder.

    The only links out that are allowed are those of a Hugging Face cache, from `snapshots/` to its `blobs/`.
    """
    if not name.isprintable() or name in ("", ".", "..") or set(name) & set("/\\:"):
        raise ModelFileError(f"{quote(name)} is no plain file name: {AGAIN}")
    try:
        home, target = folder.resolve(), (folder / name).resolve()
    except (OSError, RuntimeError):  # RuntimeError: links in a circle
        raise ModelFileError(f"{quote(name)} is a link that leads nowhere: copy the file here") from None
    homes = [home]
    for parent in home.parents:
        if parent.name == "snapshots":
            homes += [parent.parent / "blobs", parent.parent.parent / "blobs"]
    if not any(target.is_relative_to(home) for home in homes):
        raise ModelFileError(f"{quote(name)} is a link to a place outside its folder: copy the file here")
    return folder / name
