"""The records that the parts of the hub give to each other and to the caller."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Source:
    """A model on this machine: a `.gguf` file or folder, a short name, and one line on its origin."""

    path: Path
    name: str
    origin: str


@dataclass(frozen=True)
class Entry:
    """One model of a list; `path` and `size` (in bytes) are None for a known one that is not fetched yet."""

    name: str
    path: Path | None = None
    size: int | None = None


@dataclass(frozen=True)
class Progress:
    """How far a stage has come, in bytes; a stage whose `total` is None is only a message.

    `brief`: most often over within seconds, so that it is worth a bar on a terminal but no line in a log.
    """

    stage: str
    done: int = 0
    total: int | None = None
    brief: bool = False


Report = Callable[[Progress], None]
"""A function that is called whenever a download has made progress."""
