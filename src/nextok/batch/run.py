"""Lines in, lines out: as many requests at once as the engine has seats."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field

from nextok.api.errors import ApiError
from nextok.api.requests import read_task
from nextok.api.served import Served
from nextok.api.task import Task
from nextok.batch.lines import Line, write_answer, write_error, write_failure
from nextok.errors import NextokError
from nextok.generation.output import Output

log = logging.getLogger("nextok.batch")

AHEAD = 1024
"""Largest number of lines that a line which takes long may be overtaken by, where the order is kept."""
PREPARED = 4
"""Number of texts that are ready to take the next free seats."""


@dataclass(slots=True)
class Counts:
    """How far a batch has come. `found`: answers that were there before; `total`: all lines, if that is known."""

    found: int = 0
    total: int | None = None
    answered: int = 0
    errors: int = 0
    read: int = 0
    written: int = 0

    def add(self, other: "Counts") -> None:
        """Take in what another process has done."""
        self.answered += other.answered
        self.errors += other.errors
        self.read += other.read
        self.written += other.written


@dataclass(slots=True)
class Batch:
    """A run over lines. `write` gets the answers, one line each, in the order of the lines if `is_ordered`."""

    served: Served
    write: Callable[[bytes], object]
    is_ordered: bool = True
    counts: Counts = field(default_factory=Counts)
    _free: int = 0  # seats
    _ready: dict[int, bytes] = field(default_factory=dict)  # answers that wait for those before them
    _next: int = 0  # the line whose answer is written next

    async def run(self, lines: Iterable[Line]) -> Counts:
        """Answer all lines; what goes wrong with one of them is its answer."""
        self._free = self.served.lm.engine.seats + PREPARED
        running: set[asyncio.Task[None]] = set()
        try:
            async for number, line in _count(lines):
                task = await self._prepare(number, line)
                if task is None:
                    continue
                rows = min(task.rows, self.served.lm.engine.seats)
                while running and (rows > self._free or number - self._next >= AHEAD):
                    running = await _wait_for_one(running)
                self._free -= rows
                running.add(asyncio.create_task(self._answer(number, line, task, rows)))
            while running:
                running = await _wait_for_one(running)
        finally:
            for each in running:
                each.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        return self.counts

    async def _prepare(self, number: int, line: Line) -> Task | None:
        """The task of a line; None if it is none, which is its answer."""
        if line.error is not None:
            self._tell(number, write_error(line, line.error), failed=True)
            return None
        try:
            task = await asyncio.to_thread(read_task, self.served, line.route, line.body)
            if task.is_streamed:
                raise ApiError(400, "a batch has no streams: leave stream out", "stream")
        except Exception as error:
            self._tell(number, write_failure(line, error), failed=True)
            return None
        return task

    async def _answer(self, number: int, line: Line, task: Task, rows: int) -> None:
        streams = task.begin()
        try:
            outputs: list[Output] = [await stream.wait() for stream in streams]
            told = await asyncio.to_thread(lambda: write_answer(line, task.tell([_check(each) for each in outputs])))
        except Exception as error:
            if not isinstance(error, ValueError | NextokError | ApiError):
                log.exception("the request %s failed", line.custom_id)
            self._tell(number, write_failure(line, error), failed=True)
        else:
            self.counts.read += sum(each.stats.prompt_tokens for each in outputs)
            self.counts.written += sum(each.stats.generated_tokens for each in outputs)
            self._tell(number, told)
        finally:
            self._free += rows
            for stream in streams:
                stream.close()

    def _tell(self, number: int, answer: bytes, failed: bool = False) -> None:
        """Write an answer, or keep it until those before it are there."""
        self.counts.answered += 1
        self.counts.errors += failed
        if not self.is_ordered:
            self._next += 1
            self.write(answer)
            return
        self._ready[number] = answer
        while self._next in self._ready:
            self.write(self._ready.pop(self._next))
            self._next += 1


def _check(output: Output) -> Output:
    return output.raise_for_error()


async def _wait_for_one(running: "set[asyncio.Task[None]]") -> "set[asyncio.Task[None]]":
    """Those that go on once one has ended; an error of a writer is raised."""
    done, going = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    for each in done:
        each.result()
    return going


async def _count(lines: Iterable[Line]) -> AsyncIterator[tuple[int, Line]]:
    """The lines with their numbers; a source that makes us wait, such as a pipe, holds up nothing else."""
    rest = enumerate(lines)
    while (each := await asyncio.to_thread(next, rest, None)) is not None:
        yield each
