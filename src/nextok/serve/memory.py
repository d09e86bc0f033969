"""Memory that a burst of requests took goes back to the system once the server is idle."""

import ctypes
import ctypes.util
from collections.abc import Callable

IDLE_SECONDS = 1.0
"""Time, in seconds, without a request after which memory is given back."""


def find_trim() -> Callable[[], object]:
    """What gives the memory back that the allocator keeps; it does nothing where there is no such thing."""
    try:
        trim = ctypes.CDLL(ctypes.util.find_library("c")).malloc_trim  # glibc's
    except (OSError, AttributeError):
        return lambda: None
    return lambda: trim(0)
