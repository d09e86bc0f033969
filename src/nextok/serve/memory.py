"""Memory that a burst of requests took goes back to the system once the server is idle."""

import asyncio
import ctypes
import ctypes.util
from collections.abc import Callable

from nextok.serve.admission import Admission

IDLE_SECONDS = 1.0
"""Time, in seconds, without a request after which memory is given back."""


def give_back_when_idle(admission: Admission) -> None:
    """From now on, give back what the allocator keeps whenever no request has come for a while.

    Belongs to the running event loop. It does nothing where the allocator is not glibc's.
    """
    loop, trim = asyncio.get_running_loop(), _find_trim()
    timers: list[asyncio.TimerHandle] = []

    def give_back() -> None:
        if not admission.running:
            loop.run_in_executor(None, trim)

    def plan() -> None:
        for timer in timers:
            timer.cancel()
        timers[:] = [loop.call_later(IDLE_SECONDS, give_back)]

    admission.when_idle = plan


def _find_trim() -> Callable[[], object]:
    try:
        trim = ctypes.CDLL(ctypes.util.find_library("c")).malloc_trim
    except (OSError, AttributeError):
        return lambda: None
    return lambda: trim(0)
