"""Many lines at a time: a window of them is open, and a line enters it when another one has ended."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator

from nextok.api.served import Served
from nextok.api.task import Task
from nextok.batch.answers import Answer, prepare, tell_answer, tell_error
from nextok.batch.aside import Aside
from nextok.batch.entries import Entry
from nextok.generation.stream import AsyncStream

SPARE_ROWS = 8
"""Texts beyond the engine's seats that are ready to begin when one ends."""
MOST_AHEAD = 1024
"""Largest number of lines in the window: those that are being answered, or wait for an earlier one to be written."""

Ready = tuple[Entry, Task | Answer]
"""A line, and its task, or its answer if that is known already."""


def answer_entries(
    served: Served, entries: Iterator[Entry], tell: Callable[[Answer], None], seed: int, ordered: bool
) -> None:
    """Answer all entries; `tell` is called in their order, or as they are done."""
    ready = ((entry, prepare(served, entry, seed)) for entry in entries)
    asyncio.run(_answer_all(ready, tell, served.lm.engine.seats + SPARE_ROWS, ordered))


async def _answer_all(ready: Iterator[Ready], tell: Callable[[Answer], None], most_rows: int, ordered: bool) -> None:
    window: deque[asyncio.Task[Answer]] = deque()  # in the order of the lines
    rows: dict[asyncio.Task[Answer], int] = {}  # of those that run
    source = Aside(ready)
    ahead: asyncio.Future[Ready | None] | None = source.take()
    try:
        while ahead or window:
            has_room = sum(rows.values()) < most_rows and len(window) < MOST_AHEAD
            waiting: set[asyncio.Future[Answer] | asyncio.Future[Ready | None]] = {*rows}
            await asyncio.wait(waiting | {ahead} if ahead and has_room else waiting, return_when="FIRST_COMPLETED")
            rows = {each: size for each, size in rows.items() if not each.done()}
            for each in _take_ended(window, ordered):
                tell(each.result())
            if ahead and has_room and ahead.done():
                if taken := ahead.result():
                    window.append(begun := asyncio.create_task(_answer(*taken)))
                    rows[begun] = taken[1].rows if isinstance(taken[1], Task) else 0
                ahead = source.take() if taken else None
    finally:
        source.close()
        for each in window:
            each.cancel()
        await asyncio.gather(*window, return_exceptions=True)


def _take_ended(window: "deque[asyncio.Task[Answer]]", ordered: bool) -> "list[asyncio.Task[Answer]]":
    """Take out all that have ended; with `ordered` only those before the first that has not."""
    if ordered:
        count = next((place for place, each in enumerate(window) if not each.done()), len(window))
        return [window.popleft() for _ in range(count)]
    ended = [each for each in window if each.done()]
    for each in ended:
        window.remove(each)
    return ended


async def _answer(entry: Entry, task: Task | Answer) -> Answer:
    """The answer of one line; whatever fails in it is told in its answer."""
    if isinstance(task, Answer):
        return task
    streams: list[AsyncStream] = []
    try:
        streams = task.begin()
        outputs = await asyncio.gather(*(stream.wait() for stream in streams))
        for output in outputs:
            output.raise_for_error()
        return await asyncio.to_thread(tell_answer, entry, task, outputs)
    except Exception as error:
        return tell_error(entry, error)
    finally:
        for stream in streams:
            stream.close()
