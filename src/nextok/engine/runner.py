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

from nextok.engine.engine import CLOSED, Engine
from nextok.engine.job import Job
from nextok.engine.waiter import Waiter
from nextok.engine.workers import Stepper, Watcher
from nextok.errors import NextokError

T = TypeVar("T")

MOST_SLEEP_SECONDS = 1.0
"""Longest sleep, in seconds, before a thread looks again: a stream may be dropped, and Ctrl-C may come in the middle
of waking another thread."""
FORK_POLL_SECONDS = 0.001
"""Time, in seconds, between two looks whether the pass in hand is over, before a fork."""
MOST_FORK_SECONDS = 30.0
"""Longest time, in seconds, that a fork waits for the pass in hand."""


class Runner:
    """Owns an engine for many threads. Every method may be called from any thread, but not from inside a step."""

    def __init__(self, engine: Engine) -> None:
        self._engine: Engine | None = engine
        # The owner's thread id is the only entry of a dictionary: `setdefault` is atomic, and who won can be asked
        # afterwards, also where Ctrl-C arrived in between. A lock could stay locked then.
        self._owner: dict[str, int] = {}
        self._posted: deque[Callable[[], None]] = deque()  # what is to be done between two passes
        self._asleep: dict[threading.Event, int] = {}  # what wakes a sleeping thread -> its id, in order of arrival
        self._forking: dict[int, bool] = {}  # id of a thread that forks -> whether it does so inside a step
        self._process = object()  # another one in a forked child
        self._stepper: Stepper | None = None
        self._watcher: Watcher | None = None
        _runners.add(self)

    @property
    def engine(self) -> Engine:
        """The engine; NextokError if it was closed."""
        if self._engine is None:
            raise NextokError(CLOSED)
        return self._engine

    def do(self, work: Callable[[Engine], T]) -> T:
        """Run `work(engine)` between two passes, by this thread or the engine's owner; return its result."""
        results, errors, waiter = list[T](), list[Exception](), Waiter()

        def run() -> None:
            try:
                results.append(work(self.engine))
            except Exception as error:
                errors.append(error.with_traceback(None))  # whose frames would keep other callers' streams alive
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
            try:
                self._disown()
            finally:  # once more: Ctrl-C may have come before the first
                self._disown()
            self.wake_one()

    def drive_all(self, over: Callable[[], bool], waiter: Waiter) -> None:
        """Step the engine until it has no requests left, or until `over()`."""
        self.drive(lambda: over() or not (self._posted or (self._engine and self._engine.jobs)), waiter)
        with suppress(NextokError):  # closed
            self.do(Engine.step)  # which lets go of what was cancelled since the last pass

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
            try:
                self.do(self._shut)
            except NextokError:
                if self._engine is not None:  # else another thread was first
                    raise
            self.stop()

    def _shut(self, engine: Engine) -> None:
        engine.close()
        self._engine = None

    def stop(self) -> None:
        """End the runner's own threads, after the pass in hand."""
        for worker in (self._stepper, self._watcher):
            if worker:
                worker.stop()
        self._stepper = self._watcher = None

    def hold(self) -> None:
        """Before a fork: wait for the pass in hand, and let no thread begin another."""
        self._forking[threading.get_ident()] = self._owns()
        until = time.monotonic() + MOST_FORK_SECONDS
        while self._owner.setdefault("thread", threading.get_ident()) != threading.get_ident():
            if time.monotonic() > until:
                return
            time.sleep(FORK_POLL_SECONDS)

    def release(self) -> None:
        """After a fork, in the parent."""
        if not self._forking.pop(threading.get_ident(), True):
            self._disown()
            self.wake_one()

    def begin_anew(self) -> None:
        """After a fork, in the child, which has no other threads: the caches are read again when they are needed."""
        self._owner, self._forking, self._posted, self._asleep = {}, {}, deque(), {}
        self._stepper = self._watcher = None
        self._process = object()
        if old := self._engine:
            self._engine = Engine(old.target, old.budget, old.seats, old.timing, old.kept.budget)

    def _lead(self, done: Callable[[], bool], step: bool) -> bool:
        """As the owner, work until `done()`; True: there is nothing to do before that."""
        while True:
            while self._posted:
                self._posted.popleft()()
            if done() or self._forking or self._is_to_yield():
                return False
            if not step or not self.engine.step():
                return not self._posted

    def _is_to_yield(self) -> bool:
        """Whether a sleeping thread is to step instead of this one: Ctrl-C in the main thread is not for others."""
        if not self._asleep or threading.current_thread() is not threading.main_thread():
            return False
        return any(thread != threading.get_ident() for thread in list(self._asleep.values()))

    def _sleep(self, done: Callable[[], bool], waiter: Waiter, idle: bool) -> None:
        """Sleep until `done()` or until this thread is to take over; `idle`: it found nothing to do as the owner."""
        event = threading.Event()
        waiter.sleep(done, event)
        if self._is_to_yield():
            self.wake_one()
        self._asleep[event] = threading.get_ident()
        try:
            # Whatever changed before this thread could be woken is looked for once more.
            if not done() and (self._owner or self._forking or self._is_to_yield() or (idle and not self._posted)):
                event.wait(MOST_SLEEP_SECONDS)
        finally:
            self._asleep.pop(event, None)
            waiter.wake(event)

    def _owns(self) -> bool:
        return self._owner.get("thread") == threading.get_ident()

    def _try_own(self) -> bool:
        return not self._forking and self._owner.setdefault("thread", threading.get_ident()) == threading.get_ident()

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


def _all_runners() -> list[Runner]:
    while True:
        with suppress(RuntimeError):  # another thread made or freed one meanwhile
            return list(_runners)


def _for_all(action: Callable[[Runner], None]) -> Callable[[], None]:
    def run() -> None:
        for runner in sorted(_all_runners(), key=id):
            action(runner)

    return run


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_for_all(Runner.hold),
        after_in_parent=_for_all(Runner.release),
        after_in_child=_for_all(Runner.begin_anew),
    )
atexit.register(_for_all(Runner.stop))
