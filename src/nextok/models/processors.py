"""How many threads to start: one for each core, and no more than a container allows."""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

MOST_THREADS = 256
"""Largest number of threads that may be asked for."""
ROOT = Path("/")


def check_threads(threads: int | None) -> int:
    """The number of threads asked for, or the one that fits this machine for None; ValueError if out of range."""
    if threads is None:
        return count_default_threads()
    if type(threads) is not int or not 1 <= threads <= MOST_THREADS:
        raise ValueError(
            f"threads must be a whole number from 1 to {MOST_THREADS}, got {threads!r}; "
            f"leave it out for {count_default_threads()}, one for each core"
        )
    return threads


def count_default_threads(root: Path = ROOT) -> int:
    """One for each core, or fewer where a control group gives this process less time than that."""
    return max(1, min(MOST_THREADS, count_cores(root), *_read_quotas(root)))


def list_processors() -> list[int]:
    """The logical processors, hyperthreads among them, that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def count_cores(root: Path = ROOT, processors: Iterable[int] | None = None) -> int:
    """The cores behind these processors: two hyperthreads of a core share what a matrix product needs."""
    return len({_name_core(root, each) for each in (list_processors() if processors is None else processors)})


def _name_core(root: Path, processor: int) -> str:
    """A name of the core that this processor is part of, or the processor's own number where that is not known."""
    try:
        topology = root / f"sys/devices/system/cpu/cpu{processor}/topology"
        return (topology / "thread_siblings_list").read_text().strip()
    except OSError:
        return str(processor)


def _read_quotas(root: Path) -> Iterator[int]:
    """How many processors each control group around this process may keep busy; nothing without a limit."""
    for folder in list_control_groups(root, "cpu"):
        with suppress(OSError, ValueError):  # version 2: "max 100000" or "150000 100000"
            quota, period = (folder / "cpu.max").read_text().split()
            yield int(quota) // int(period)
        with suppress(OSError, ValueError):  # version 1: -1 without a limit
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
            if int(quota) > 0:
                yield int(quota) // int(period)


def list_control_groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's groups, outermost first; a container does not see those outside it."""
    mount = root / "sys/fs/cgroup"
    yield from (mount, mount / controller)
    with suppress(OSError, ValueError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "" or controller in controllers.split(","):
                folder = mount / controller if controllers else mount
                for part in PurePosixPath(path).parts[1:]:
                    folder /= part
                    yield folder
