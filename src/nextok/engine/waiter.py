"""How a thread that waits for the engine learns that what it waits for is there."""

import threading
from collections.abc import Callable


class Waiter:
    """Something that threads may wait for: while they sleep, `notice` wakes those for which it is there."""

    def __init__(self) -> None:
        self._sleeping: dict[threading.Event, Callable[[], bool]] = {}

    def notice(self) -> None:
        """Wake the threads that wait and for which it is there."""
        if self._sleeping:
            for event, done in list(self._sleeping.items()):
                if done():
                    event.set()

    def sleep(self, done: Callable[[], bool], event: threading.Event) -> None:
        """Say what a thread waits for, and what wakes it."""
        self._sleeping[event] = done

    def wake(self, event: threading.Event) -> None:
        """The thread does not sleep any more."""
        self._sleeping.pop(event, None)
