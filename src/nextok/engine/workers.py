"""The threads of a runner: one steps the engine for asyncio, one watches for strategies that never end."""

import logging
import threading
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING
from weakref import finalize, ref

from nextok.engine.waiter import Waiter
from nextok.errors import NextokError

if TYPE_CHECKING:
    from nextok.engine.runner import Runner

EXIT_SECONDS = 10.0
"""Longest time, in seconds, that the end of a program waits for the pass in hand."""
WATCH_SECONDS = 2.0
"""Time, in seconds, between two looks at what computes; a strategy that computes for longer is named in the log."""

log = logging.getLogger("nextok")


class Worker(threading.Thread):
    """A daemon thread that works for a runner when it is wanted, and ends with it."""

    def __init__(self, runner: "Runner") -> None:
        super().__init__(name=f"nextok {type(self).__name__.lower()}", daemon=True)
        self._runner = ref(runner)  # so that the runner can be freed while this thread waits
        self._wanted: SimpleQueue[None] = SimpleQueue()  # unlike an Event, safe in finalisers
        self._waiter = Waiter()
        self._over = False
        finalize(runner, self._end).atexit = False
        self.start()

    def want(self) -> None:
        """Have it work; safe at any moment."""
        self._wanted.put(None)

    def stop(self) -> None:
        """End after the pass in hand."""
        self._end()
        if threading.current_thread() is not self:
            self.join(EXIT_SECONDS)

    def _end(self) -> None:
        self._over = True
        self.want()
        self._waiter.notice()

    def _wait(self, seconds: float | None = None) -> "Runner | None":
        """Wait until it is wanted, or for so long; None: it is to end."""
        with suppress(Empty):
            self._wanted.get(timeout=seconds)
        return None if self._over else self._runner()


class Stepper(Worker):
    """Steps the engine as long as it has requests, unless another thread does."""

    def run(self) -> None:
        """Wait, step, and wait again; what fails outside of any request ends all requests, with the reason."""
        while runner := self._wait():
            try:
                runner.drive_all(lambda: self._over, self._waiter)
            except Exception as error:
                log.exception("the engine failed; its requests end")
                reason = NextokError(f"the engine failed: {error!r}")
                with suppress(NextokError):
                    runner.do(lambda engine, reason=reason: [job.end("error", reason) for job in engine.jobs])  # type: ignore[misc]
            del runner


class Watcher(Worker):
    """Names strategies in the log whose code has been computing for very long: all other requests wait for them."""

    _is_watching = False

    def want(self) -> None:
        """Have it look, unless it does so already: a short call is not to pay for a thread that wakes up."""
        if self._over or not self._is_watching:
            super().want()

    def run(self) -> None:
        """Look every few seconds while there are requests."""
        while self._wait():
            named = set[float]()
            while self._look(named):
                self._is_watching = True
                if not self._wait(WATCH_SECONDS):
                    return
                self._is_watching = False  # before it looks: no call can come in between and be missed

    def _look(self, named: set[float]) -> bool:
        """Log what has computed for too long, each once; whether there are requests at all."""
        runner = self._runner()
        jobs = runner.jobs() if runner else []
        for job in jobs:
            since = job.deciding_since
            if since is not None and since not in named and job.clock() - since > WATCH_SECONDS:
                named.add(since)
                log.warning(
                    "%.80r has been computing for over %g s in one step; all requests of this LM wait for it",
                    job.strategy,
                    WATCH_SECONDS,
                )
        return bool(jobs)
