"""An iterator that an event loop can wait for."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import suppress
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")


class Aside(Generic[T]):
    """Takes items from an iterator in a thread, which does not keep the process alive while the iterator waits."""

    def __init__(self, items: Iterator[T]) -> None:
        self._items = items
        self._wanted: SimpleQueue[asyncio.Future[T | None] | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._run, name="reading", daemon=True).start()

    def take(self) -> "asyncio.Future[T | None]":
        """The next item; None at the end. What the iterator raises is raised."""
        future: asyncio.Future[T | None] = self._loop.create_future()
        self._wanted.put(future)
        return future

    def close(self) -> None:
        """Take no more."""
        self._wanted.put(None)

    def _run(self) -> None:
        while (future := self._wanted.get()) is not None:
            item, error = None, None
            try:
                item = next(self._items, None)
            except BaseException as raised:
                error = raised
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(_settle, future, item, error)


def _settle(future: "asyncio.Future[T | None]", item: T | None, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(item)
    else:
        future.set_exception(error)
