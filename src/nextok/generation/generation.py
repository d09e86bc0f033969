"""One call on its way through an engine: its requests, and what their events have said so far."""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from weakref import finalize

from nextok.core.events import Event
from nextok.core.request import Request
from nextok.engine.engine import Engine
from nextok.engine.job import Job
from nextok.errors import NextokError
from nextok.generation.output import Output, Stats, TokenLogprob
from nextok.generation.writer import Writer
from nextok.strategies.base import Strategy
from nextok.strategies.rescore import Echo

MOST_PIECES = 64
"""Number of pieces that wait to be read, from which on their request pauses."""


class Generation:
    """The requests of one prompt.

    `build` makes them, one for each sample. `hypotheses`: how many texts of a beam search are returned, 0 for the
    request's own text. `timeout`: seconds, after which the text ends with what exists. The owner of the engine calls
    `begin`, `cancel` and, before the end, `output`; any thread may call the rest.
    """

    def __init__(
        self,
        build: Callable[[], list[Request]],
        strategy: Strategy,
        hypotheses: int = 0,
        prompt_logprobs: bool = False,
        timeout: float | None = None,
    ) -> None:
        self._build = build
        self._strategy = strategy
        self._hypotheses = hypotheses
        self._prompt_logprobs = prompt_logprobs
        self._timeout = timeout
        self._notice: Callable[[], None] = _ignore
        self._pauses = True
        self._writers: list[Writer] = []
        self._jobs: list[Job] = []
        self._engine: Engine | None = None
        self._is_dropped = False  # the caller has gone
        self._failure: Exception | None = None  # what kept the requests from beginning
        self._started_at = time.perf_counter()

    def listen(self, notice: Callable[[], None]) -> None:
        """Have `notice` called after each event, by the owner of the engine."""
        self._notice = notice

    def begin(self, engine: Engine) -> None:
        """Build the requests and submit them."""
        self._engine = engine
        for index, request in enumerate(self._build()):
            writer = Writer(request, self._hypotheses)
            strategy = Echo(self._strategy) if self._prompt_logprobs and index == 0 else self._strategy
            self._writers.append(writer)
            self._jobs.append(
                engine.submit(request, strategy, self._receiver(writer), self._fullness(writer), self._timeout)
            )

        if self._is_dropped:  # by Ctrl-C, before this was done for it
            engine.abandon(self._jobs)

    def end_with(self, owner: object, engine: Engine) -> None:
        """Cancel the requests when `owner`, what the caller holds, is no longer referenced."""
        self._engine = engine
        finalize(owner, self._drop, engine).atexit = False

    def _drop(self, engine: Engine) -> None:
        self._is_dropped = True
        engine.abandon(self._jobs)

    def begin_or_fail(self, engine: Engine) -> None:
        """The same, but an error is kept for the caller instead of being raised."""
        try:
            self.begin(engine)
        except Exception as error:
            self._failure = error.with_traceback(None)
            self._notice()

    def cancel(self, engine: Engine) -> None:
        """End what is still running."""
        engine.cancel(*self._jobs)

    def check_engine(self, engine: Engine) -> None:
        """NextokError unless `engine` is the one that has the requests."""
        if not self.finished and engine is not self._engine:
            raise NextokError("this stream was begun before a fork; begin it again in the child process")

    @property
    def finished(self) -> bool:
        """Whether every choice has ended."""
        if self._failure:
            return True
        return bool(self._writers) and all(writer.finished_at for writer in self._writers)

    @property
    def ended_well(self) -> bool:
        """Whether every choice ended by itself: by a stop, its length or the context."""
        return (
            self.finished
            and not self._failure
            and all(writer.request.finish_reason in ("stop", "length", "context") for writer in self._writers)
        )

    @property
    def error(self) -> Exception | None:
        """The first error of a choice."""
        errors = [writer.request.error for writer in self._writers]
        return self._failure or next((error for error in errors if error), None)

    @property
    def tokens(self) -> int:
        """How many tokens have been generated, over all choices."""
        return sum(len(writer.request.tokens) for writer in self._writers)

    @property
    def has_pieces(self) -> bool:
        """Whether there is text that has not been taken yet."""
        return any(writer.pieces for writer in self._writers)

    def take(self) -> tuple[str, int, tuple[int, ...], tuple[TokenLogprob, ...] | None] | None:
        """What the next Piece is made of, or None if there is none yet."""
        for choice, writer in enumerate(self._writers):
            try:
                text, tokens, logprobs = writer.pieces.popleft()
                return text, choice, tokens, logprobs
            except IndexError:  # there is none, or another thread took it
                continue
        return None

    def drop_pieces(self) -> None:
        """Forget text that was not taken; `output` has it."""
        for writer in self._writers:
            writer.pieces.clear()

    def never_pause(self) -> None:
        """Go on however much text is not taken, since the caller waits for the end."""
        self._pauses = False

    def output(self) -> Output:
        """The result so far; raises what kept the requests from beginning."""
        if self._failure:
            raise self._failure
        completions = [completion for writer in self._writers for completion in writer.completions()]
        stats = self._stats(sum(len(choice.tokens) for choice in completions))
        scores = self._writers[0].prompt_logprobs() if self._prompt_logprobs else None
        return Output(tuple(completions), stats, scores)

    def _receiver(self, writer: Writer) -> Callable[[Event], None]:
        def receive(event: Event) -> None:
            writer(event)
            self._notice()

        return receive

    def _fullness(self, writer: Writer) -> Callable[[], bool]:
        return lambda: self._pauses and len(writer.pieces) >= MOST_PIECES

    def _stats(self, generated_tokens: int) -> Stats:
        writers, now = self._writers, time.perf_counter()
        last = max(writer.finished_at or now for writer in writers)
        first = min((writer.first_token_at for writer in writers if writer.first_token_at), default=last)
        request = writers[0].request
        lengths = sum((writer.accepted_lengths for writer in writers), Counter[int]())
        return Stats(
            prompt_tokens=request.tree.depth[request.prompt] + 1,
            generated_tokens=generated_tokens,
            passes=max(job.passes for job in self._jobs),
            verifications=lengths.total(),
            drafted=sum(writer.drafted for writer in writers),
            accepted=sum(length * count for length, count in lengths.items()),
            accepted_lengths=tuple(lengths[length] for length in range(max(lengths, default=-1) + 1)),
            seconds_to_first_token=first - self._started_at,
            seconds=last - self._started_at,
            cached_tokens=min((job.cached or 0 for job in self._jobs), default=0),
            draft_error=next((writer.draft_error for writer in writers if writer.draft_error), None),
        )


def begin_all(engine: Engine, generations: Iterable[Generation]) -> None:
    """Submit the requests of several calls between the same two passes."""
    for generation in generations:
        generation.begin(engine)


def cancel_all(engine: Engine, generations: Iterable[Generation]) -> None:
    """End what is still running of several calls."""
    for generation in generations:
        generation.cancel(engine)


def all_finished(generations: Iterable[Generation]) -> bool:
    """Whether every choice of every call has ended."""
    return all(generation.finished for generation in generations)


def _ignore() -> None:
    """No thread waits."""
