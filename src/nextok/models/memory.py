"""How much memory this process can still have, and whether a model fits in it."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from nextok.errors import LimitError
from nextok.models.processors import ROOT, list_control_groups

MARGIN = 1.05
"""What a model needs is taken 5% higher, for its first caches and for what is computed."""
NAMES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""For versions 2 and 1 of control groups: files of the limit and of the usage, and which pages can be dropped."""


def available_memory(root: Path = ROOT) -> int | None:
    """Bytes that this process can still have without swapping; None where the system does not say.

    It is the least of what the system has (MemAvailable) and what each control group leaves, pages of files that
    can be dropped included.
    """
    found = [*_read_system(root), *_read_groups(root)]
    return min(found, default=None)


def check_memory(what: str, needed: int, fix: str) -> None:
    """LimitError, with both figures and the fix, if `needed` bytes and the margin are more than are available."""
    available = available_memory()
    if available is not None and needed * MARGIN > available:
        raise LimitError(
            f"{what} needs {_gigabytes(needed * MARGIN)} of memory, and {_gigabytes(available)} are available: {fix}"
        )


def _read_system(root: Path) -> Iterator[int]:
    with suppress(OSError, ValueError, IndexError):
        for line in (root / "proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                yield int(line.split()[1]) * 1024


def _read_groups(root: Path) -> Iterator[int]:
    """What each control group around this process leaves it; nothing of one without a limit."""
    for folder in list_control_groups(root, "memory"):
        for limit, usage, droppable in NAMES:
            with suppress(OSError, ValueError):  # no such file, or "max"
                most, used = (int((folder / name).read_text()) for name in (limit, usage))
                yield max(0, most - used + _read_statistic(folder, droppable))


def _read_statistic(folder: Path, name: str) -> int:
    with suppress(OSError, ValueError):
        for line in (folder / "memory.stat").read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    return 0


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.2f} GB"
