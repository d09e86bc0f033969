"""One request on its way through an engine: runs its strategy; what goes wrong in it concerns no other request."""

import logging
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from nextok.core.events import Event
from nextok.core.query import TARGET, Query, Speed, SpeedOf, select_replies
from nextok.core.request import Request
from nextok.engine.fence import COMMITTED, concerns_program, describe, drop_frames, find_mistake
from nextok.engine.timing import Clock
from nextok.errors import NextokError
from nextok.models.base import Model
from nextok.strategies.base import Strategy

Sink = Callable[[Event], None]
"""Receives the events of one request, the last of them Finished."""

MOST_QUESTIONS_TO_DRAFTS = 1024
"""Number of questions to draft models, without one to the target, after which a strategy is stopped."""
MOST_EVENTS = 1_000_000
"""Number of events and Speed questions, without a Query, after which a strategy is stopped."""

log = logging.getLogger("nextok")


def _ignore(event: Event) -> None:
    """A receiver that is not told any more."""


def never() -> bool:
    """A receiver that takes any number of events."""
    return False


class Job:
    """A request, its strategy in flight, and the question that waits for an answer."""

    def __init__(
        self,
        request: Request,
        strategy: Strategy,
        sink: Sink,
        is_full: Callable[[], bool],
        clock: Clock,
        timeout: float | None,
    ) -> None:
        self.request = request
        self.tree = request.tree
        self.strategy = strategy
        self.sink = sink
        self.is_full = is_full  # whether its receiver wants a pause
        self.clock = clock
        self.deadline = None if timeout is None else clock() + timeout
        self.query: Query | None = None
        self.model: Any = None  # that the query is about
        self.answers: dict[int, Any] = {}  # node -> reply, until the whole query is answered
        self.asked: dict[Model, tuple[int, ...]] = {}  # model -> the nodes last asked of it
        self.passes = 0  # of the target, in which this request had a share
        self.cached: int | None = None  # prompt tokens that had been read before; None before its first pass
        self.served = 0  # the pass that answered it last; 0 until its prompt has been read
        self.ended = False
        self.deciding_since: float | None = None  # when the strategy began to compute, while it does
        self._steps: Generator[Any, Any, Any] | None = None  # the strategy in flight, once it has begun
        self._questions_to_drafts = 0
        self._untold: deque[Event] = deque()  # events that the receiver has not been told yet

    @property
    def is_ready(self) -> bool:
        """Whether the strategy can go on: it has not begun, or its question is answered."""
        return self._steps is None or self.is_answered

    @property
    def is_answered(self) -> bool:
        """Whether no node of the query waits for an answer."""
        return self.query is None or len(self.answers) == len(self.query.nodes)

    @property
    def unanswered(self) -> list[int]:
        """The nodes that the query still waits for."""
        return [node for node in self.query.nodes if node not in self.answers] if self.query else []

    def advance(self, target: Model, speed_of: Callable[["Job", Speed], SpeedOf]) -> None:
        """Begin the strategy, or hand it the answers to its question, and run it until it asks again or ends."""
        try:
            self.deciding_since = self.clock()
            item = self._begin() if self._steps is None else self._reply()
            for _ in range(MOST_EVENTS):
                self._deliver()
                reply = mistake = None
                if isinstance(item, Query):
                    if self._is_over():
                        return
                    mistake = self._find_mistake(item, target)
                    if not mistake:
                        self._ask(item, target)
                        return
                elif not isinstance(item, COMMITTED):  # those have been delivered
                    mistake = find_mistake(item, self.request, target)
                    if isinstance(item, Speed) and not mistake:
                        reply = speed_of(self, item)
                    elif not mistake:
                        self.sink(item)
                item = self._resume(reply, mistake)
            raise NextokError(f"the strategy yielded {MOST_EVENTS:,} events without a question; it was stopped")
        except StopIteration:
            self.end("error", NextokError("the strategy stopped before its text was finished"))
        except Exception as error:
            self.end("error", error)
        except BaseException as error:  # the generator is dead, and so is its request
            if concerns_program(error):
                self.end("cancelled")
                raise
            drop_frames(error)
            self.end("error", NextokError(f"the strategy raised {describe(error)}, which is no error of a request"))
        finally:
            self.deciding_since = None

    def fail(self, error: Exception) -> None:
        """The pass that was to answer the question failed for this request."""
        self.answers = dict.fromkeys(self.query.nodes, error) if self.query else {}

    def end(self, reason: str, error: Exception | None = None) -> None:
        """Close the request if it has not finished by itself, and drop the strategy. Never raises, but for Ctrl-C."""
        self.ended = True
        if error:
            drop_frames(error)
        self.request.finish(reason, error)
        self._deliver_the_rest()
        self.sink, self.is_full = _ignore, never  # they know who knows the job: in a circle caches would stay
        steps, self._steps, self.query = self._steps, None, None
        try:
            if steps:
                steps.close()
        except KeyboardInterrupt:
            raise
        except BaseException as trouble:
            drop_frames(trouble)
            name = describe(self.strategy)
            log.warning("%s raised %s while it was closed; its request had ended", name, describe(trouble))

    def _begin(self) -> Any:
        steps = self.strategy.decode(self.request)
        if not isinstance(steps, Generator):
            if isinstance(steps, Coroutine):
                steps.close()  # else Python warns that it was never awaited
            name = type(self.strategy).__name__
            raise NextokError(f"{name}.decode must be a generator (a function that yields), got {describe(steps)}")
        self._steps = steps
        return next(steps)

    def _reply(self) -> Any:
        """Hand over the answers; an error of a draft model is raised inside the strategy, which may go on without."""
        assert self.query
        assert self._steps
        try:
            replies = select_replies(self.query, self.answers)
        except Exception as error:
            if self.query.model is TARGET:
                raise
            return self._steps.throw(error)
        return self._steps.send(replies)

    def _resume(self, reply: Any = None, mistake: Exception | None = None) -> Any:
        """Let the strategy go on with a reply, or tell it of its mistake where it yielded."""
        if self._steps is None:  # its own receiver has ended it
            raise StopIteration
        return self._steps.throw(mistake) if mistake else self._steps.send(reply)

    def _deliver(self) -> None:
        if events := self.request.take_events():
            self._untold.extend(events)
        while self._untold:  # if the receiver raises, it is still told of the end
            self.sink(self._untold.popleft())

    def _deliver_the_rest(self) -> None:
        """The same after the end, when an error of the receiver does not matter any more."""
        while True:
            try:
                return self._deliver()
            except BaseException as error:
                if concerns_program(error):
                    raise
                drop_frames(error)

    def _is_over(self) -> bool:
        """Whether the text has ended, so that no question is answered any more; then the strategy is closed."""
        if not (self.ended or self.request.finish_reason):
            return False
        self.end("cancelled")
        return True

    def _find_mistake(self, query: Query, target: Model) -> Exception | None:
        mistake = find_mistake(query, self.request, target)
        if not mistake and query.model is not TARGET and query.model is not target:
            self._questions_to_drafts += 1
            if self._questions_to_drafts > MOST_QUESTIONS_TO_DRAFTS:
                most = MOST_QUESTIONS_TO_DRAFTS
                return NextokError(f"the strategy asked draft models {most} questions and the target none; ask fewer")
        return mistake

    def _ask(self, query: Query, target: Model) -> None:
        """Take in a question."""
        model: Any = target if query.model is TARGET else query.model
        self.query, self.model, self.answers = query, model, {}
        self.asked[model] = query.nodes
        if model is target:
            self._questions_to_drafts = 0
