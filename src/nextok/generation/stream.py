"""A generation that is being watched: pieces of text as they come, and the output at any time."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from nextok.engine.runner import Runner
from nextok.engine.waiter import Waiter
from nextok.errors import NextokError
from nextok.generation.generation import Generation
from nextok.generation.output import Output, TokenLogprob


@dataclass(frozen=True, slots=True)
class Piece:
    """Some more of one choice: text in whole characters and never part of a stop string, and its tokens.

    `tokens`: ids of those whose text ends in this piece, in order; all pieces of a choice together have all of its
    tokens. One without text, such as a control token, comes at its place with a piece of empty text. `logprobs`: of
    these tokens, if they were asked for. Of a beam search `tokens` is empty, since its best text may still change.
    """

    text: str
    choice: int = 0
    tokens: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] | None = None

    def __str__(self) -> str:
        return self.text


class Stream(Iterator[Piece]):
    """Iterate for pieces of text; `output()` for the result so far; `close()` to end early.

    An error of the request is raised where its text ends. If the iteration is interrupted (Ctrl-C), the request is
    cancelled and `output()` has what exists. Any thread may call any method; pieces go to the thread that asks first.
    A stream that is not read pauses after 64 pieces. `on_finish` gets the output of a text that ended by itself.
    """

    def __init__(
        self, runner: Runner, generation: Generation, on_finish: Callable[[Output], object] | None = None
    ) -> None:
        self._runner = runner
        self._generation = generation
        self._waiter = Waiter()
        self._on_finish = on_finish
        generation.listen(self._waiter.notice)
        generation.end_with(self, runner.engine)
        runner.do(generation.begin)
        runner.watch()

    def __repr__(self) -> str:
        state = "finished" if self.finished else "running"
        return f"<Stream {state}, {self._generation.tokens} tokens>"

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __next__(self) -> Piece:
        generation = self._generation
        try:
            while (taken := generation.take()) is None and not generation.finished:
                self._drive(lambda: generation.has_pieces or generation.finished)
        except BaseException:
            self.close()
            raise
        if taken:
            return Piece(*taken)
        self._tell_end()
        if error := generation.error:
            raise error
        raise StopIteration

    @property
    def finished(self) -> bool:
        """Whether every choice has ended."""
        return self._generation.finished

    @property
    def text(self) -> str:
        """The text so far; of several choices that of the first."""
        return self.output().text

    def close(self) -> None:
        """Cancel what is still running; pieces that were not taken are dropped, `output()` has their text."""
        if not self.finished:
            self._runner.do(self._generation.cancel)
        self._generation.drop_pieces()

    def wait(self) -> Output:
        """Run to the end; an error is in the output instead of being raised."""
        self._generation.never_pause()
        try:
            self._drive(lambda: self._generation.finished)
        except BaseException:
            self.close()
            raise
        self._tell_end()
        return self.output()

    def output(self) -> Output:
        """The result so far."""
        if self.finished:
            return self._generation.output()
        return self._runner.do(lambda engine: self._generation.output())

    def _drive(self, done: Callable[[], bool]) -> None:
        self._generation.check_engine(self._runner.engine)
        self._runner.drive(done, self._waiter)

    def _tell_end(self) -> None:
        """Hand the output on, once, if every text ended by itself."""
        on_finish, self._on_finish = self._on_finish, None
        if on_finish and self._generation.ended_well:
            on_finish(self.output())


class AsyncStream(AsyncIterator[Piece]):
    """`async for` over pieces of text; `await output()` for the result so far; `close()` to end early.

    The event loop never computes: `prepare` (tokens, grammar) runs in a thread of asyncio, passes in one of the LM. A
    task that is cancelled ends its request. Belongs to the loop in which it is first used.
    """

    def __init__(
        self,
        runner: Runner,
        prepare: Callable[[], Generation],
        on_finish: Callable[[Output], object] | None = None,
    ) -> None:
        self._runner = runner
        self._prepare = prepare
        self._on_finish = on_finish
        self._generation: Generation | None = None
        self._beginning = asyncio.Lock()
        self._signal = _Signal()
        self._is_closed = False

    def __repr__(self) -> str:
        begun = self._generation
        state = "not begun" if begun is None else "finished" if begun.finished else "running"
        return f"<AsyncStream {state}, {begun.tokens if begun else 0} tokens>"

    async def __aenter__(self) -> "AsyncStream":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    async def __anext__(self) -> Piece:
        try:
            generation = await self._begun()
            while (taken := generation.take()) is None and not generation.finished:
                await self._signal.wait(lambda: generation.has_pieces or generation.finished)
        except BaseException:
            self.close()
            raise
        if taken:
            self._runner.wake_one()  # the request may have paused
            return Piece(*taken)
        self._tell_end(generation)
        if error := generation.error:
            raise error
        raise StopAsyncIteration

    async def wait(self) -> Output:
        """Run to the end; an error is in the output instead of being raised."""
        try:
            generation = await self._begun(may_pause=False)
            await self._signal.wait(lambda: generation.finished)
        except BaseException:
            self.close()
            raise
        self._tell_end(generation)
        return generation.output()

    async def output(self) -> Output:
        """The result so far."""
        generation = await self._begun()
        if generation.finished:
            return generation.output()
        return await asyncio.to_thread(self._runner.do, lambda engine: generation.output())

    def close(self) -> None:
        """Cancel what is still running, soon; safe from any thread. `output()` has what exists."""
        self._is_closed = True
        if (generation := self._generation) and not generation.finished:
            with suppress(NextokError):  # the LM was closed, and its requests with it
                self._runner.post(generation.cancel)

    async def _begun(self, may_pause: bool = True) -> Generation:
        """The generation, submitted when it is first asked for."""
        async with self._beginning:
            if self._generation is None:
                self._signal.loop = asyncio.get_running_loop()
                generation = await asyncio.to_thread(self._prepare)
                if not may_pause:
                    generation.never_pause()
                generation.listen(self._signal.notice)
                generation.end_with(self, self._runner.engine)
                self._runner.post(generation.begin_or_fail)
                self._runner.watch()
                self._generation = generation
                if self._is_closed:  # before there was anything to cancel
                    self.close()
            if not self._generation.finished:
                self._generation.check_engine(self._runner.engine)
            return self._generation

    def _tell_end(self, generation: Generation) -> None:
        on_finish, self._on_finish = self._on_finish, None
        if on_finish and generation.ended_well:
            on_finish(generation.output())


class _Signal:
    """How the owner of the engine wakes an event loop; not the stream itself, so that one can be dropped."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self._changed = asyncio.Event()
        self._sleepers = 0  # tasks that wait

    async def wait(self, done: Callable[[], bool]) -> None:
        """Sleep until `done()`."""
        self._sleepers += 1
        try:
            while not done():
                await self._changed.wait()
                self._changed.clear()
        finally:
            self._sleepers -= 1

    def notice(self) -> None:
        """Wake the loop, if it waits; called by the owner of the engine."""
        if self._sleepers and self.loop:
            with suppress(RuntimeError):  # the loop is closed
                self.loop.call_soon_threadsafe(self._changed.set)
