"""A generation that is being watched: pieces of text as they come, and the output at any time."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from weakref import finalize

from nextok.core.request import Request
from nextok.engine.engine import Engine, Job
from nextok.generation.output import Output, Stats
from nextok.generation.writer import Writer
from nextok.strategies.base import Strategy
from nextok.strategies.rescore import Echo


@dataclass(frozen=True, slots=True)
class Piece:
    """Some more text of one choice; whole characters, and never part of a stop string."""

    text: str
    choice: int = 0


class Stream(Iterator[Piece]):
    """Iterate for pieces of text; `output()` for the result so far; `close()` to end early.

    `on_finish` is called once with the output when every choice has ended by itself, and so without an error and
    without a cancellation; it is noticed where the iteration ends, or in `wait()`.

    Iterating drives the engine. An error of the request is raised where its text ends. If the iteration is
    interrupted (Ctrl-C), the request is cancelled and `output()` has what exists.
    """

    def __init__(
        self,
        engine: Engine,
        requests: Sequence[Request],
        strategy: Strategy,
        hypotheses: int = 0,
        prompt_logprobs: bool = False,
        on_finish: Callable[[Output], None] | None = None,
    ) -> None:
        self.on_finish = on_finish
        self._engine = engine
        self._prompt_logprobs = prompt_logprobs
        self._writers = [Writer(request, hypotheses) for request in requests]
        self._started_at = time.perf_counter()
        strategies = [Echo(strategy) if prompt_logprobs else strategy, *[strategy] * (len(requests) - 1)]
        self._jobs: list[Job] = list(map(engine.submit, requests, strategies, self._writers))
        finalize(self, engine.abandon, self._jobs).atexit = False  # whoever drops a stream wants no more of it

    def __next__(self) -> Piece:
        try:
            while True:
                for choice, writer in enumerate(self._writers):
                    if writer.pieces:
                        return Piece(writer.pieces.popleft(), choice)
                if self.finished:
                    break
                self._engine.step()
        except BaseException:
            self.close()
            raise
        for writer in self._writers:
            if writer.request.error:
                raise writer.request.error
        self._report_finish()
        raise StopIteration

    @property
    def finished(self) -> bool:
        """Whether every choice has ended."""
        return all(writer.request.finish_reason for writer in self._writers)

    def close(self) -> None:
        """Cancel what is still running; pieces that nobody took are dropped, `output()` has their text."""
        for job in self._jobs:
            self._engine.cancel(job)
        for writer in self._writers:
            writer.pieces.clear()

    def wait(self) -> Output:
        """Run to the end; an error is in the output instead of being raised."""
        try:
            while not self.finished:
                self._engine.step()
        except BaseException:
            self.close()
            raise
        self._report_finish()
        return self.output()

    def _report_finish(self) -> None:
        reasons = {writer.request.finish_reason for writer in self._writers}
        if self.on_finish and not reasons & {"error", "cancelled"}:
            report, self.on_finish = self.on_finish, None
            report(self.output())

    def output(self) -> Output:
        """The result so far."""
        completions = [completion for writer in self._writers for completion in writer.completions()]
        stats = self._stats(sum(len(choice.tokens) for choice in completions))
        return Output(
            tuple(completions), stats, self._writers[0].prompt_logprobs() if self._prompt_logprobs else None
        )

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
            draft_error=next((writer.draft_error for writer in writers if writer.draft_error), None),
        )
