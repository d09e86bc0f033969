"""Short turns of the event loop, however many streams have something to send."""

import asyncio
from collections import deque

MOST_EVENTS = 4
"""Largest number of events that are sent in one turn of the loop: some milliseconds."""


class Turns:
    """Whose turn it is: a stream waits here before each event, so that other requests are answered in between."""

    def __init__(self, most: int = MOST_EVENTS) -> None:
        self._most = most
        self._left = most  # in this turn
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_counting = False

    async def wait(self) -> None:
        """Go on at once, or in one of the next turns if this one has been long enough."""
        if not self._is_counting:
            self._is_counting = True
            asyncio.get_running_loop().call_soon(self._begin_turn)
        if self._left > 0 and not self._waiting:
            self._left -= 1
            return
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(mine)
        await mine

    def _begin_turn(self) -> None:
        self._left = self._most
        while self._left > 0 and self._waiting:
            first = self._waiting.popleft()
            if not first.done():  # else its stream has ended
                first.set_result(None)
                self._left -= 1
        self._is_counting = bool(self._waiting)
        if self._is_counting:
            asyncio.get_running_loop().call_soon(self._begin_turn)
