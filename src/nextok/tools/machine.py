"""The machine that nextok runs on, as far as it matters to speed; facts that are not known are left out."""

import os
import platform
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

USEFUL = ("fma", "f16c", "avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_int8")
USEFUL_ON_ARM = ("asimd", "asimddp", "i8mm", "bf16", "sve", "sve2")
"""Names of the instructions that matter to speed, on x86 and on ARM, as Linux has them."""


def describe_environment(threads: int | None = None) -> dict[str, Any]:
    """The program, the machine and the folders, in the order of a report; ValueError for a bad number of threads."""
    from nextok import __version__
    from nextok.hub import get_cache_folder
    from nextok.loading import BACKENDS
    from nextok.models.memory import available_memory
    from nextok.models.processors import check_threads, count_cores, list_processors

    name, instructions = _read_processor()
    folder = get_cache_folder()
    return {
        "nextok": __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": platform.platform(),
        "processor": name,
        "instructions": instructions,
        "processors": len(list_processors()),
        "cores": count_cores(),
        "threads": check_threads(threads),
        "memory_bytes": _total_memory(),
        "memory_available_bytes": available_memory(),
        "numpy": _describe_numpy(),
        "numpy_threads": os.environ.get("OPENBLAS_NUM_THREADS")
        or os.environ.get("OMP_NUM_THREADS")
        or "all processors",
        "backends": [backend for backend in BACKENDS if backend != "auto"],
        "native_core": _list_instruction_sets(),
        "cache": str(folder),
        "cache_free_bytes": _measure_free_space(folder),
    }


def read_load_average() -> float | None:
    """Average number of threads that were ready to run in the last minute; None where it is not known."""
    with suppress(AttributeError, OSError):
        return os.getloadavg()[0]
    return None


def _list_instruction_sets() -> list[str]:
    """The instruction sets that the native core can use here, best first; empty if it was not built."""
    try:
        from nextok import _native
    except ImportError:
        return []
    return _native.instruction_sets()


def _read_processor() -> tuple[str, list[str]]:
    facts: dict[str, str] = {}
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            facts.setdefault(key.strip(), value.strip())
    flags = facts.get("flags", facts.get("Features", "")).split()
    name = facts.get("model name") or platform.processor() or platform.machine()
    return name, [flag for flag in (*USEFUL, *USEFUL_ON_ARM) if flag in flags]


def _total_memory() -> int | None:
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemTotal:"):
                return int(line.split()[1]) * 1024
    return None


def _describe_numpy() -> str:
    import numpy

    blas: Any = {}
    with suppress(Exception):  # the report of numpy's build differs between versions
        blas = numpy.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return f"{numpy.__version__} with {blas.get('name', 'an unknown BLAS')} {blas.get('version', '')}".rstrip()


def _measure_free_space(folder: Path) -> int | None:
    for place in (folder, *folder.parents):
        with suppress(OSError):
            return shutil.disk_usage(place).free
    return None
