"""Who may come in: a number of texts that are written at once, and a bounded queue of requests before them."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from nextok.api.errors import ApiError

MOST_WAIT = 30.0
"""Longest time, in seconds, that a request waits in the queue."""
MOST_TOKENS = 1 << 20
"""Largest number of tokens of all prompts in the queue."""


@dataclass(slots=True)
class _Waiting:
    rows: int
    tokens: int
    turn: "asyncio.Future[None]"


class Admission:
    """Seats for rows of a batch, handed out in the order in which requests came, on one event loop.

    A request of more rows than there are seats takes them all. One that finds the queue full, or waits too long, is
    refused (503), to be sent again.
    """

    def __init__(self, seats: int, queue: int, patience: float = MOST_WAIT) -> None:
        self.seats = seats
        self.queue = queue
        self.patience = patience
        self.rows = 0  # seats taken
        self.running = 0  # requests
        self.when_idle: Callable[[], object] = lambda: None  # called when the last one has ended
        self._queue: deque[_Waiting] = deque()

    @property
    def waiting(self) -> int:
        """Number of requests in the queue."""
        return len(self._queue)

    @asynccontextmanager
    async def enter(self, rows: int, tokens: int = 0) -> AsyncIterator[float]:
        """Be in for so many rows, once there are seats; yields the seconds waited. ApiError (503) if not."""
        rows, began_at = min(rows, self.seats), time.perf_counter()
        if self._queue or self.rows + rows > self.seats:
            await self._wait(rows, tokens)
        else:
            self._take(rows)
        try:
            yield time.perf_counter() - began_at
        finally:
            self.rows -= rows
            self.running -= 1
            self._call_next()
            if not self.running:
                self.when_idle()

    async def _wait(self, rows: int, tokens: int) -> None:
        queued = sum(each.tokens for each in self._queue)
        if len(self._queue) >= self.queue or (self._queue and queued + tokens > MOST_TOKENS):
            line = f"{self.running} requests are in work and {self.waiting} wait: try again soon"
            raise ApiError(503, line, code="queue_full")
        mine = _Waiting(rows, tokens, asyncio.get_running_loop().create_future())
        self._queue.append(mine)
        try:
            async with asyncio.timeout(self.patience):
                await mine.turn
        except BaseException as error:
            self._leave(mine)
            if isinstance(error, TimeoutError):
                line = f"no seat became free within {self.patience:g} seconds: try again soon"
                raise ApiError(503, line, code="queue_timeout") from None
            raise

    def _leave(self, mine: _Waiting) -> None:
        """Give up waiting, or the seats that were handed out in the same moment."""
        if mine in self._queue:
            self._queue.remove(mine)
        elif not mine.turn.cancelled():
            self.rows -= mine.rows
            self.running -= 1
        self._call_next()

    def _take(self, rows: int) -> None:
        self.rows += rows
        self.running += 1

    def _call_next(self) -> None:
        while self._queue and self.rows + self._queue[0].rows <= self.seats:
            first = self._queue.popleft()
            if first.turn.cancelled():  # it gives up waiting in this moment
                continue
            self._take(first.rows)
            first.turn.set_result(None)
