"""One engine for any number of threads: at each moment one of them owns it, and steps it for all.

A lone caller steps the engine in its own thread. Where several threads wait, one steps and the others sleep, until
what they wait for is there or until they are woken to take over. Requests of asyncio are stepped by a thread of the
runner, where no other does it.
"""

import atexit
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar
from weakref import WeakSet

from nextok.engine.engine import Engine
from nextok.engine.job import Job
from nextok.engine.workers import Stepper, Watcher
from nextok.errors import NextokError

T = TypeVar("T")

IDLE_SECONDS = 1.0
"""Longest sleep, in seconds, of a thread that found nothing to do: a stream may be dropped without a sign."""
FORK_POLL_SECONDS = 0.001
"""Time, in seconds, between two looks whether the pass in hand is over, before a fork."""
MOST_FORK_SECONDS = 30.0
"""Longest time, in seconds, that a fork waits for the pass in hand."""


class Waiter:
    """Something that a thread may wait for: while it sleeps, `notice` wakes it if that is there."""

    def __init__(self) -> None:
        self._sleeping: tuple[Callable[[], bool], threading.Event] | None = None

    def notice(self) -> None:
        """Wake the thread that waits, if any, and if what it waits for is there."""
        if (sleeping := self._sleeping) and sleeping[0]():
            sleeping[1].set()

    def sleep(self, done: Callable[[], bool], event: threading.Event) -> None:
        """Say what a thread waits for, and what wakes it."""
        self._sleeping = done, event

    def wake(self) -> None:
        """The thread does not sleep any more."""
        self._sleeping = None


class Runner:
    """Owns an engine for many threads. Every method may be called from any thread, but not from inside a step."""

    def __init__(self, engine: Engine) -> None:
        self._engine: Engine | None = engine
        # The owner's thread id is the only entry of a dictionary: `setdefault` is atomic, and who won can be asked
        # afterwards, also where Ctrl-C arrived in between. A lock could stay locked then.
        self._owner: dict[str, int] = {}
        self._posted: deque[Callable[[], None]] = deque()  # what is to be done between two passes
        self._asleep: deque[threading.Event] = deque()  # one for each sleeping thread, in order of arrival
        self._holds = 0  # forks that wait for the pass in hand
        self._process = object()  # another one in a forked child
        self._forks_inside_step = False
        self._stepper: Stepper | None = None
        self._watcher: Watcher | None = None
        _runners.add(self)

    @property
    def engine(self) -> Engine:
        """The engine; NextokError if it was closed."""
        if self._engine is None:
            raise NextokError("this LM is closed; load it again to go on")
        return self._engine

    def do(self, work: Callable[[Engine], T]) -> T:
        """Run `work(engine)` between two passes, by this thread or the engine's owner; return its result."""
        results, errors, waiter = list[T](), list[Exception](), Waiter()

        def run() -> None:
            try:
                results.append(work(self.engine))
            except Exception as error:
                errors.append(error)
            except BaseException:  # Ctrl-C, in a thread that need not be the caller's
                errors.append(NextokError("the thread that ran the engine was interrupted; call again"))
                raise
            finally:
                waiter.notice()

        self._refuse_reentry()
        self._posted.append(run)
        self.drive(lambda: bool(results or errors), waiter, step=False)
        if errors:
            raise errors[0]
        return results[0]

    def post(self, work: Callable[[Engine], None]) -> None:
        """Run `work(engine)` between two passes, soon, by the runner's own thread if need be; do not wait for it.

        `work` must not raise. NextokError once closed.
        """
        engine = self.engine
        self._posted.append(lambda: work(engine))
        if self._stepper is None:
            self._stepper = Stepper(self)
        self._stepper.want()
        self.wake_one()

    def drive(self, done: Callable[[], bool], waiter: Waiter, step: bool = True) -> None:
        """Step the engine, or sleep while another thread does, until `done()`; `waiter` is noticed when that changes.

        With `step` false, what was posted is done but no pass is made. Raises NextokError when called from a
        strategy, draft, transform, receiver or signal handler that runs inside a step of this thread, or once closed.
        """
        self._refuse_reentry()
        process = self._process
        try:
            while not done():
                if self._process is not process:
                    raise NextokError("this process was forked in the middle of a step; begin again in the child")
                idle = self._try_own() and self._lead(done, step)
                self._disown()
                if not done():
                    self._sleep(done, waiter, idle)
        finally:
            self._disown()
            self.wake_one()

    def drive_all(self) -> None:
        """Step the engine until it has no requests left."""
        self.drive(lambda: self._engine is None or not (self._posted or self._engine.jobs), Waiter())

    def jobs(self) -> list[Job]:
        """The requests that have not ended, seen from any thread, which may be a moment late."""
        for _ in range(3):
            with suppress(RuntimeError):  # the owner changed the list meanwhile
                return self._engine.jobs if self._engine else []
        return []

    def wake_one(self) -> None:
        """Have a sleeping thread take over, if the engine has no owner."""
        if not self._owner:
            for event in list(self._asleep):
                if not event.is_set():
                    return event.set()
        return None

    def watch(self) -> None:
        """Log strategies and drafts that compute for very long, as long as there are requests."""
        if self._watcher is None:
            self._watcher = Watcher(self)
        self._watcher.want()

    def close(self) -> None:
        """End all requests and free the engine with its caches. Later calls raise NextokError."""
        if self._engine is not None:
            self.do(lambda engine: engine.cancel(*engine.jobs))
            self._engine = None
            while self._posted:  # posted while the engine was closed: each ends by itself
                self._posted.popleft()()
            self.stop()

    def stop(self) -> None:
        """End the runner's own threads, after the pass in hand."""
        for worker in (self._stepper, self._watcher):
            if worker:
                worker.stop()
        self._stepper = self._watcher = None

    def hold(self) -> None:
        """Before a fork: wait for the pass in hand, and let no thread begin another."""
        self._holds += 1
        self._forks_inside_step = self._owns()
        until = time.monotonic() + MOST_FORK_SECONDS
        while self._owner.setdefault("thread", threading.get_ident()) != threading.get_ident():
            if time.monotonic() > until:
                return
            time.sleep(FORK_POLL_SECONDS)

    def release(self) -> None:
        """After a fork, in the parent."""
        self._holds = max(0, self._holds - 1)
        if not self._forks_inside_step:
            self._disown()
            self.wake_one()

    def begin_anew(self) -> None:
        """After a fork, in the child, which has no other threads: the caches are read again when they are needed."""
        self._owner, self._holds, self._posted, self._asleep = {}, 0, deque(), deque()
        self._stepper = self._watcher = None
        self._process = object()
        if old := self._engine:
            self._engine = Engine(old.target, old.budget, old.seats, old.timing)

    def _lead(self, done: Callable[[], bool], step: bool) -> bool:
        """As the owner, work until `done()`; True: there is nothing to do before that."""
        while True:
            while self._posted:
                self._posted.popleft()()
            if done() or self._holds:
                return False
            if not step or not self.engine.step():
                return not self._posted

    def _sleep(self, done: Callable[[], bool], waiter: Waiter, idle: bool) -> None:
        """Sleep until `done()` or until this thread is to take over; `idle`: it found nothing to do as the owner."""
        event = threading.Event()
        waiter.sleep(done, event)
        self._asleep.append(event)
        try:
            # Whatever changed before this thread could be woken is looked for once more.
            if not done() and (self._owner or self._holds or (idle and not self._posted)):
                event.wait(IDLE_SECONDS if idle else None)
        finally:
            self._asleep.remove(event)
            waiter.wake()

    def _owns(self) -> bool:
        return self._owner.get("thread") == threading.get_ident()

    def _try_own(self) -> bool:
        return not self._holds and self._owner.setdefault("thread", threading.get_ident()) == threading.get_ident()

    def _disown(self) -> None:
        if self._owns():
            del self._owner["thread"]

    def _refuse_reentry(self) -> None:
        if self._owns():
            raise NextokError(
                "this LM is in the middle of a step in this thread, so it cannot be called from a strategy, draft, "
                "transform, receiver or signal handler inside that step; call it afterwards or from another thread"
            )


# Forks and the end of the program concern every runner there is.
_runners: WeakSet[Runner] = WeakSet()


def _for_all(action: Callable[[Runner], None]) -> Callable[[], None]:
    def run() -> None:
        for runner in sorted(_runners, key=id):
            action(runner)

    return run


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_for_all(Runner.hold),
        after_in_parent=_for_all(Runner.release),
        after_in_child=_for_all(Runner.begin_anew),
    )
atexit.register(_for_all(Runner.stop))
