"""Server-sent events: one JSON object each, and an end that OpenAI's clients know."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from nextok.serve.errors import ApiError, explain
from nextok.serve.leaving import ClientLeftError, stay

END = b"data: [DONE]\n\n"
SLOWEST_SECONDS = 30.0
"""Longest time, in seconds, that a client may take to receive one event when its buffers are full."""


def frame(value: Any) -> bytes:
    """One event."""
    return (
        b"data: " + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n\n"
    )


class EventAnswer(StreamingResponse):
    """A stream of events. It ends its source whatever happens, and a client that does not read is dropped."""

    def __init__(self, events: AsyncGenerator[bytes, None], headers: dict[str, str]) -> None:
        super().__init__(events, headers={**headers, "cache-control": "no-cache"}, media_type="text/event-stream")
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all events."""

        async def send_soon(message: Message) -> None:
            try:
                async with asyncio.timeout(SLOWEST_SECONDS):
                    await send(message)
            except TimeoutError:
                raise ClientLeftError from None

        try:
            await super().__call__(scope, receive, send_soon)
        finally:
            await self._events.aclose()


async def answer_with_events(
    request: Request, values: AsyncGenerator[Any, None], headers: dict[str, str]
) -> EventAnswer:
    """The answer as a stream. What fails before the first event is raised, so that the status tells it."""
    try:
        first = await stay(request, asyncio.ensure_future(_take_first(values)))
    except BaseException:
        await values.aclose()
        raise
    return EventAnswer(_write_events(first, values), headers)


async def _take_first(values: AsyncGenerator[Any, None]) -> Any:
    try:
        return await anext(values)
    except StopAsyncIteration:
        raise ApiError(500, "the answer has no events") from None


async def _write_events(first: Any, rest: AsyncGenerator[Any, None]) -> AsyncGenerator[bytes, None]:
    """The events of an answer; an error in the middle is the last one."""
    try:
        yield frame(first)
        async for each in rest:
            yield frame(each)
        yield END
    except Exception as error:
        yield frame(explain(error).to_json())
    finally:
        await rest.aclose()
