"""The engine: many requests, one forward pass at a time. The only place that knows about batches."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any
from weakref import WeakKeyDictionary

from nextok.checks import check_whole
from nextok.core.query import TARGET, Query, Row, Speed, SpeedOf
from nextok.core.request import Request
from nextok.core.tree import Tree
from nextok.engine.fence import check_tokens, concerns_program, describe, drop_frames
from nextok.engine.job import Job, Sink, never
from nextok.engine.kept import KeptCaches
from nextok.engine.memo import Memo
from nextok.engine.prefix import WORTHWHILE, keep_memos, open_memo
from nextok.engine.timing import Timing
from nextok.errors import NextokError
from nextok.models.base import Feed, Model
from nextok.strategies.base import Strategy

Shares = dict[Tree, tuple[Feed, list[int]]]
"""What each tree contributes to a pass, and which of its nodes that answers."""

PROMPT_SECONDS = 0.1
"""Longest pass, in seconds, that is planned while prompts are read beside requests that decode."""
LEAST_PROMPT_TOKENS = 8
"""Number of prompt tokens that are read in such a pass even if it takes longer."""


CLOSED = "this LM is closed; load it again to go on"


class Engine:
    """Runs requests on one target model, every pass shared by all of them.

    `budget`: tokens per pass, so that a long prompt is read in chunks while others go on. `seats`: requests in
    flight at once, those that pause not counted; further ones wait in order of arrival. `timing` learns what passes
    cost. `cache_memory`: bytes of caches that are kept when their requests have ended, so that later texts need not
    be read from the first token on; 0 keeps none. One thread at a time may call it, and owns all requests and trees
    meanwhile: see Runner.
    """

    def __init__(
        self,
        target: Model,
        budget: int = 512,
        seats: int = 32,
        timing: Timing | None = None,
        cache_memory: int = 0,
    ) -> None:
        if budget < 1 or seats < 1:
            raise ValueError(f"budget and seats must be at least 1, got {budget} and {seats}")
        check_whole("cache_memory", cache_memory, 0)
        self.target = target
        self.budget = budget
        self.seats = seats
        self.timing = timing or Timing()
        self.passes = 0  # over all models
        self.tokens_read = 0  # likewise
        self.prompt_tokens = 0  # of all requests that the target has begun to read
        self.cached_tokens = 0  # of these, those that it had read already
        self.kept = KeptCaches(cache_memory, WORTHWHILE)
        self._jobs: list[Job] = []
        self._waiting: deque[Job] = deque()
        self._abandoned: deque[Job] = deque()
        self._has_deadlines = False
        self._closed = False
        # Caches belong to trees: the next turn of a chat finds what the last one has read, and when the tree is
        # no longer referenced they are freed. What is kept of them then is in `kept`.
        self._memos: WeakKeyDictionary[Tree, dict[Model, Memo]] = WeakKeyDictionary()

    @property
    def jobs(self) -> list[Job]:
        """The requests that have not ended, those that still wait for a seat last."""
        return [job for job in (*self._jobs, *self._waiting) if not job.ended]

    def submit(
        self,
        request: Request,
        strategy: Strategy,
        sink: Sink,
        is_full: Callable[[], bool] = never,
        timeout: float | None = None,
    ) -> Job:
        """Take a request in; `sink` receives its events, the last of them Finished. NextokError once closed.

        While `is_full` is true the request pauses. After `timeout` seconds it ends with the reason "timeout".
        """
        if self._closed:
            raise NextokError(CLOSED)
        job = Job(request, strategy, sink, is_full, self.timing.clock, timeout)
        self._has_deadlines = self._has_deadlines or timeout is not None
        self._waiting.append(job)
        return job

    def cancel(self, *jobs: Job) -> None:
        """End requests now; what they have committed stays."""
        for job in jobs:
            if not job.ended:
                job.end("cancelled")

    def close(self) -> None:
        """End all requests, and take in no others."""
        self._closed = True
        self.cancel(*self.jobs)
        self.kept = KeptCaches()

    def abandon(self, jobs: Iterable[Job]) -> None:
        """Cancel these at the next step: safe at any moment, even from a finaliser in the middle of a pass."""
        self._abandoned.extend(job for job in jobs if not job.ended)

    def step(self) -> bool:
        """One pass of the target for all requests; drafts first, so that all meet there.

        False: there was nothing to do, until a request is submitted or one that pauses goes on.
        """
        while self._abandoned:
            self.cancel(self._abandoned.popleft())
        if self._has_deadlines:
            self._end_late()
        active = self._seat()
        for job in active:  # answered, but Ctrl-C came before the strategy received it
            if not job.ended and job.is_ready:
                self._advance(job)
        while drafting := [job for job in active if not job.ended and job.model is not self.target]:
            self._pass(drafting[0].model, [job for job in drafting if job.model is drafting[0].model])
        if asking := [job for job in active if not job.ended]:
            self._pass(self.target, asking)
        going = [job for job in self._jobs if not job.ended]
        if len(going) < len(self._jobs) and self.kept.budget:
            for job in self._jobs:
                self._keep_caches(job)
        self._jobs = going
        return bool(active)

    def run(self) -> None:
        """Step until every request is finished."""
        while self.step():
            pass

    def _end_late(self) -> None:
        """End the requests whose time is over."""
        now, jobs = self.timing.clock(), self.jobs
        for job in jobs:
            if job.deadline is not None and now >= job.deadline:
                job.end("timeout")
        self._has_deadlines = any(job.deadline is not None for job in jobs)

    def _seat(self) -> list[Job]:
        """The requests that take part in this step, new ones among them."""
        active = [job for job in self._jobs if not job.ended and not job.is_full()]
        while self._waiting and len(active) < self.seats:
            job = self._waiting[0]
            if not job.ended and job not in self._jobs[-1:]:  # else Ctrl-C came before it left the queue
                self._jobs.append(job)
                active.append(job)
            self._waiting.popleft()
        return active

    def _advance(self, job: Job) -> None:
        job.advance(self.target, self._speed_of)

    def _pass(self, model: Model, jobs: list[Job]) -> None:
        """One forward pass for these jobs; if it fails, each of them alone, so that only the cause fails."""
        self.passes += 1
        try:
            shares = self._pack(model, jobs)
            rows, readers = self._rows(shares, jobs)
            replies = self._answer(model, shares, rows)
        except BaseException as error:
            self._forget(model, jobs)  # what the caches hold now is uncertain
            if concerns_program(error):
                raise
            self._isolate(model, jobs, error)
            return
        for job in jobs:
            if job.query and job.query.model is TARGET and job.tree in shares:
                job.passes += 1
                if job.cached is None:
                    self._count_cached(job, job.query, shares[job.tree][0])
        for (job, node), row, reply in zip(readers, rows, replies):
            try:
                job.request.learn(node, row, reply)
            except Exception as error:  # of an answer that is none
                reply = error
            job.answers[node] = reply
            job.served = self.passes
        for job in jobs:
            if not job.ended and job.is_answered:
                self._advance(job)

    def _isolate(self, model: Model, jobs: list[Job], error: BaseException) -> None:
        """After a pass that failed: the only job fails, and of several each gets passes of its own."""
        if len(jobs) == 1:
            drop_frames(error)
            known = error if isinstance(error, Exception) else NextokError(f"a pass raised {describe(error)}")
            jobs[0].fail(known)
            self._advance(jobs[0])
            return
        for job in jobs:
            answers = job.answers  # of this question; the next one has its own
            while not job.ended and job.answers is answers and not job.is_answered:
                self._pass(model, [job])

    def _answer(self, model: Model, shares: Shares, rows: list[Row]) -> list[Any]:
        """One forward pass, timed."""
        feeds = [feed for feed, _ in shares.values()]
        tokens = 0
        for feed in feeds:
            check_tokens(feed.tokens, model)
            tokens += len(feed.tokens)
        clock = self.timing.clock
        began_at = clock()
        replies = model.answer(feeds, rows)
        if not isinstance(replies, list) or len(replies) != len(rows):
            raise NextokError(f"a model must answer each of {len(rows)} rows, in a list, got {describe(replies)}")
        if feeds:
            self.timing.learn(model, tokens, feeds[0].find_position(0) + 1, clock() - began_at)
        return replies

    def _tokens_for(self, model: Model, jobs: list[Job]) -> int:
        """How many tokens this pass may read: fewer where a prompt is read while other requests decode."""
        decoding = [job for job in jobs if job.served]
        if len(decoding) in (0, len(jobs)):
            return self.budget
        rows = sum(len(job.unanswered) for job in decoding)
        slots = max(job.tree.depth[job.request.tip] for job in decoding)
        quick = self.timing.most_tokens(model, slots, PROMPT_SECONDS, self.budget)
        return min(self.budget, max(quick, rows + LEAST_PROMPT_TOKENS))

    def _pack(self, model: Model, jobs: list[Job]) -> Shares:
        """Share the token budget: requests that decode go before new prompts, the longest unserved first."""
        live: dict[Tree, list[int]] = {}
        for job in self._jobs:
            if not job.ended:
                live.setdefault(job.tree, []).extend(job.asked.get(model, ()))
        wanted: dict[Tree, list[int]] = {}
        for job in sorted(jobs, key=lambda job: (job.served == 0, job.served)):
            wanted.setdefault(job.tree, []).extend(job.unanswered)
        shares: Shares = {}
        budget = most = self._tokens_for(model, jobs)
        for tree, nodes in wanted.items():
            if budget > 0 and (memo := self._memo(model, tree, wanted, shares)):
                shares[tree] = memo.feed(tree, nodes, live[tree], budget)
                budget -= len(shares[tree][0].tokens)
        self.tokens_read += most - budget
        return shares

    def _memo(self, model: Model, tree: Tree, wanted: dict[Tree, list[int]], shares: Shares) -> Memo | None:
        """What the model has read of a tree; None if it is better to wait until another tree has been read."""
        memos = self._memos.setdefault(tree, {})
        if model not in memos:
            others = {other: known[model] for other, known in self._memos.items() if model in known}
            reading = {busy: wanted[busy][0] for busy in shares}
            memo = open_memo(tree, wanted[tree][0], model, others, reading, self.kept)
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
            tree, query, places = job.tree, job.query, dict[int, int]()
            for position, node in enumerate(query.nodes if query else ()):
                if query and (tree, node) in index and node not in job.answers:
                    try:
                        row = job.request.row(index[tree, node], node, query, position, places)
                        rows.append(row)
                        readers.append((job, node))
                        places[node] = len(rows) - 1
                    except Exception as error:  # of one of its transforms: other requests go on
                        job.answers[node] = error
        return rows, readers

    def _speed_of(self, asking: Job, question: Speed) -> SpeedOf:
        """Tokens per second of all requests for one that guesses; each other one is taken to gain a token a pass."""
        others = [job for job in self._jobs if job is not asking and not job.ended and not job.is_full()]
        rows = 1 + sum(len(job.asked.get(self.target, ())) for job in others)
        slots = asking.request.tree.depth[asking.request.tip] + 1
        return self.timing.speed_of(self.target, question.model, rows, len(others), slots)

    def _forget(self, model: Model, jobs: list[Job]) -> None:
        """Drop caches whose content is uncertain; they are read again when needed."""
        for job in jobs:
            self._memos.get(job.tree, {}).pop(model, None)

    def _count_cached(self, job: Job, query: Query, feed: Feed) -> None:
        """After its first pass: how many tokens of the job's prompt had been read before and were not asked for."""
        tree, asked = job.tree, set(query.nodes)
        prompt = tree.nodes(job.request.prompt)
        memo = self._memos[tree][self.target]
        job.cached = memo.count_known(tree, [node for node in prompt if node not in asked], feed)
        self.prompt_tokens += len(prompt)
        self.cached_tokens += job.cached

    def _keep_caches(self, job: Job) -> None:
        """Keep what was read for a job that has ended, unless other requests go on with its tree."""
        tree = job.tree
        if not job.ended or any(other.tree is tree for other in self.jobs):
            return
        if memos := self._memos.get(tree):
            keep_memos(self.kept, memos, tree, job.request.tip)
