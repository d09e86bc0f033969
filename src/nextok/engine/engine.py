"""The engine: many requests, one forward pass at a time. The only place that knows about batches."""

from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from inspect import GEN_RUNNING, getgeneratorstate
from traceback import clear_frames
from typing import Any
from weakref import WeakKeyDictionary

from nextok.core.events import Event
from nextok.core.query import TARGET, Query, Row, readable
from nextok.core.request import Request, free
from nextok.core.tree import Tree
from nextok.engine.memo import Memo
from nextok.engine.prefix import begun
from nextok.errors import NextokError
from nextok.models.base import Feed, Model
from nextok.strategies.base import Strategy

Sink = Callable[[Event], None]
Shares = dict[Tree, tuple[Feed, list[int]]]
"""What each tree contributes to a pass, and which of its nodes that answers."""

QUESTIONS_TO_DRAFTS = 256
"""A strategy that asks draft models more often than this without asking the target is stopped."""


class Job:
    """One request on its way through the engine."""

    def __init__(self, request: Request, strategy: Strategy, sink: Sink) -> None:
        self.request = request
        self.sink = sink
        self.steps = strategy.decode(request)
        self.query = Query((), ())
        self.model: Any = None  # that the query is about
        self.answers: dict[int, Any] = {}  # node -> reply, until the whole query is answered
        self.asked: dict[Model, tuple[int, ...]] = {}  # model -> the nodes last asked of it
        self.passes = 0  # of the target, in which this request had a share
        self.served = 0  # the pass that answered it last; 0 until its prompt has been read
        self.questions_to_drafts = 0

    @property
    def unanswered(self) -> list[int]:
        """The nodes that the query still waits for."""
        return [node for node in self.query.nodes if node not in self.answers]


class Engine:
    """Runs requests on one target model, every pass shared by all of them.

    `budget`: tokens per pass, so that a long prompt is read in chunks while others go on. `seats`: requests in
    flight at once; further ones wait in order of arrival. `costs`: the seconds of a pass by its number of rows, so
    that drafts can weigh their guesses. Not thread-safe: one thread owns an engine.
    """

    def __init__(
        self, target: Model, budget: int = 512, seats: int = 32, costs: Callable[[int], float] | None = None
    ) -> None:
        if budget < 1 or seats < 1:
            raise ValueError(f"budget and seats must be at least 1, got {budget} and {seats}")
        self.target = target
        self.budget = budget
        self.seats = seats
        self.costs = costs
        self.passes = 0  # over all models
        self.tokens_read = 0  # likewise
        self._jobs: list[Job] = []
        self._waiting: deque[Job] = deque()
        self._abandoned: list[Job] = []
        # Caches belong to trees: the next turn of a chat finds what the last one has read, and when nobody
        # holds the tree any more they are gone.
        self._memos: WeakKeyDictionary[Tree, dict[Model, Memo]] = WeakKeyDictionary()

    def submit(self, request: Request, strategy: Strategy, sink: Sink) -> Job:
        """Take a request in; `sink` receives its events, the last of them Finished."""
        job = Job(request, strategy, sink)
        if self.costs:
            request.speed = partial(self._speed, job, self.costs)
        self._waiting.append(job)
        return job

    def cancel(self, job: Job) -> None:
        """End a request now; what it has committed stays."""
        if job in self._waiting:
            self._waiting.remove(job)
        self._end(job, "cancelled")

    def abandon(self, jobs: Iterable[Job]) -> None:
        """Cancel these at the next step: safe at any moment, even from a finaliser in the middle of a pass."""
        self._abandoned.extend(jobs)

    def step(self) -> bool:
        """One pass of the target for everybody; drafts first, so that all requests meet there. False: all done."""
        for job in self._abandoned:
            self.cancel(job)
        self._abandoned.clear()
        self._seat()
        for job in list(self._jobs):  # answered, but Ctrl-C came before they heard of it
            if job in self._jobs and not job.unanswered:
                self._resume(job)
        while drafting := [job for job in self._jobs if job.model is not self.target]:
            self._pass(drafting[0].model, [job for job in drafting if job.model is drafting[0].model])
        if self._jobs:
            self._pass(self.target, list(self._jobs))
        return bool(self._jobs or self._waiting)

    def run(self) -> None:
        """Step until every request is finished."""
        while self.step():
            pass

    def _seat(self) -> None:
        while self._waiting and len(self._jobs) < self.seats:
            job = self._waiting.popleft()
            self._jobs.append(job)
            self._advance(job, partial(next, job.steps))

    def _pass(self, model: Model, jobs: list[Job]) -> None:
        """One forward pass for these jobs; if it fails, each of them alone, so that only the cause fails."""
        self.passes += 1
        try:
            shares = self._pack(model, jobs)
            rows, readers = self._rows(shares, jobs)
            replies = model.answer([feed for feed, _ in shares.values()], rows)
        except Exception as error:
            self._forget(model, jobs)
            if len(jobs) == 1:
                self._fail(jobs[0], error)
            else:
                for job in jobs:
                    answers = job.answers  # of this question; the next one has its own
                    while job in self._jobs and job.answers is answers and job.unanswered:
                        self._pass(model, [job])
            return
        except BaseException:  # Ctrl-C: nobody knows what the caches hold now
            self._forget(model, jobs)
            raise
        for job in jobs:
            job.passes += job.query.model is TARGET and job.request.tree in shares
        for (job, node), reply in zip(readers, replies):
            job.answers[node] = reply
            job.served = self.passes
        for job in jobs:
            if job in self._jobs and not job.unanswered:
                self._resume(job)

    def _pack(self, model: Model, jobs: list[Job]) -> Shares:
        """Share the token budget: who has begun to decode goes before new prompts, the longest unserved first."""
        live: dict[Tree, list[int]] = {}
        for job in self._jobs:
            live.setdefault(job.request.tree, []).extend(job.asked.get(model, ()))
        wanted: dict[Tree, list[int]] = {}
        for job in sorted(jobs, key=lambda job: (job.served == 0, job.served)):
            wanted.setdefault(job.request.tree, []).extend(job.unanswered)
        shares: Shares = {}
        budget = self.budget
        for tree, nodes in wanted.items():
            if budget > 0 and (memo := self._memo(model, tree, wanted, shares)):
                shares[tree] = memo.feed(tree, nodes, live[tree], budget)
                budget -= len(shares[tree][0].tokens)
        self.tokens_read += self.budget - budget
        return shares

    def _memo(self, model: Model, tree: Tree, wanted: dict[Tree, list[int]], shares: Shares) -> Memo | None:
        """What the model has read of a tree; None if it is better to wait until another tree has been read."""
        memos = self._memos.setdefault(tree, {})
        if model not in memos:
            others = {other: known[model] for other, known in self._memos.items() if model in known}
            memo = begun(tree, wanted[tree][0], model, others, {busy: wanted[busy][0] for busy in shares})
            if memo is None:
                return None
            memos[model] = memo
        return memos[model]

    def _rows(self, shares: Shares, jobs: list[Job]) -> tuple[list[Row], list[tuple[Job, int]]]:
        """The readouts of a pass, and for each the job and node it answers."""
        index: dict[tuple[Tree, int], int] = {}  # -> row of the pass
        for tree, (_, answered) in shares.items():
            for node in answered:
                index[tree, node] = len(index)
        rows: list[Row] = []
        readers: list[tuple[Job, int]] = []
        for job in jobs:
            tree, query = job.request.tree, job.query
            for position, node in enumerate(query.nodes):
                if (tree, node) in index and node not in job.answers:
                    try:
                        rows.append(job.request.row(index[tree, node], node, query, position))
                        readers.append((job, node))
                    except Exception as error:  # of one of its transforms, which concerns nobody else
                        job.answers[node] = error
        return rows, readers

    def _resume(self, job: Job) -> None:
        """Hand the strategy its reply, or what went wrong with one of its rows."""
        try:
            reply = readable(job.query, job.answers)
        except Exception as error:
            self._fail(job, error)
            return
        self._advance(job, lambda: job.steps.send(reply))

    def _fail(self, job: Job, error: Exception) -> None:
        """End a request whose target failed; of a draft model that did the strategy hears, and may go on without."""
        if job.query.model is TARGET:
            self._end(job, "error", error)
        else:
            self._advance(job, lambda: job.steps.throw(error))

    def _advance(self, job: Job, resume: Callable[[], Query | Event]) -> None:
        """Run one strategy until it asks again, passing on what it tells."""
        try:
            item = resume()
            while not isinstance(item, Query):
                job.sink(item)
                item = job.steps.send(None)
            self._ask(job, item)
        except StopIteration:
            self._end(job, "error", NextokError("the strategy stopped before its text was finished"))
        except Exception as error:
            self._end(job, "error", error)
        except BaseException:  # Ctrl-C: the generator is dead, and so is its request
            self._end(job, "cancelled")
            raise

    def _ask(self, job: Job, query: Query) -> None:
        if not query.nodes:
            raise ValueError("a query must name at least one node")
        model: Any = self.target if query.model is TARGET else query.model
        job.query, job.model, job.answers = query, model, {}
        job.asked[model] = query.nodes
        job.questions_to_drafts = 0 if model is self.target else job.questions_to_drafts + 1
        if job.questions_to_drafts > QUESTIONS_TO_DRAFTS:
            raise NextokError(
                f"the draft asked {QUESTIONS_TO_DRAFTS} questions and the target none; draft fewer tokens"
            )

    def _end(self, job: Job, reason: str, error: Exception | None = None) -> None:
        """Take a request out, and close it if it has not finished by itself."""
        if job in self._jobs:
            self._jobs.remove(job)
        if error:
            clear_frames(error.__traceback__)  # they hold the caches of everybody in the pass
        if getgeneratorstate(job.steps) != GEN_RUNNING:  # it runs if its own receiver cancels it, then ends by itself
            job.steps.close()
        job.request.speed = free  # which knew the job: in a circle they would keep their caches
        if not job.request.finish_reason:
            finished = job.request.finish(reason, error)
            with suppress(Exception):  # a receiver that fails is its own cause; the request says the reason
                job.sink(finished)

    def _speed(
        self, asking: Job, costs: Callable[[int], float], expected: float, guesses: int, seconds: float
    ) -> float:
        """Tokens per second of all requests, if one expects so many from a pass that checks so many guesses.

        The guesses have cost `seconds`. Each of the others is taken to gain a token and to ask as much as before.
        """
        others = [job for job in self._jobs if job is not asking]
        rows = sum(len(job.asked.get(self.target, ())) for job in others)
        return (len(others) + expected) / (costs(rows + 1 + guesses) + seconds)

    def _forget(self, model: Model, jobs: list[Job]) -> None:
        """Drop caches whose content is uncertain; they are read again when needed."""
        for job in jobs:
            self._memos.get(job.request.tree, {}).pop(model, None)
