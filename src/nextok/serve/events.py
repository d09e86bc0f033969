"""Server-sent events: one JSON object each, and an end that OpenAI's clients know."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from nextok.api.errors import explain
from nextok.api.json_body import dump_json
from nextok.serve.leaving import ClientLeftError, stay
from nextok.serve.record import find_record
from nextok.serve.turns import Turns

END = b"data: [DONE]\n\n"
PING = b": ping\n\n"
"""A comment, which clients skip: it tells proxies that the connection lives."""
PING_SECONDS = 15.0
"""Longest silence, in seconds; a status that waits for the first event is sent then, whatever comes."""
SLOWEST_SECONDS = 30.0
"""Longest time, in seconds, that a client may take to receive one event when its buffers are full."""

log = logging.getLogger("nextok.serve")


async def answer_with_events(
    request: Request, values: AsyncGenerator[Any, None], headers: Mapping[str, str], turns: Turns
) -> "EventAnswer":
    """The answer as a stream, whose events wait for their turns.

    What fails before the first event is raised, so that the status tells it.
    """
    first: asyncio.Future[Any] = asyncio.ensure_future(anext(values, None))
    try:
        await stay(request.receive, asyncio.ensure_future(asyncio.wait({first}, timeout=PING_SECONDS)))
        if first.done():
            first.result()
    except BaseException:
        first.cancel()
        await asyncio.wait({first})
        await values.aclose()
        raise
    return EventAnswer(first, values, headers, turns)


class EventAnswer:
    """The events as an ASGI response. It ends its source whatever happens, and drops a client that does not read."""

    def __init__(
        self,
        first: "asyncio.Future[Any]",
        rest: AsyncGenerator[Any, None],
        headers: Mapping[str, str],
        turns: Turns,
    ) -> None:
        self._turns = turns
        self._first = first
        self._rest = rest
        self._headers = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache", **headers}
        self._sent_at = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all events; ClientLeftError if the client leaves before the last one."""
        pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in self._headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": pairs})
        pinging = asyncio.ensure_future(self._ping(send))
        try:
            await stay(receive, asyncio.ensure_future(self._send_all(scope, send)))
        finally:
            pinging.cancel()
            self._first.cancel()
            await asyncio.wait({self._first})
            await self._rest.aclose()

    async def _send_all(self, scope: Scope, send: Send) -> None:
        """Every event; an error in the middle is the last one."""
        try:
            value = await self._first
            while value is not None:
                await self._turns.wait()
                await self._send(_frame(value), send)
                value = await anext(self._rest, None)
            await self._send(END, send)
        except ClientLeftError:
            raise
        except Exception as error:
            told = explain(error)
            find_record(scope).add_error(told)
            if told.status == 500:
                log.exception("a stream failed")
            await self._send(_frame(told.to_json()), send)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, event: bytes, send: Send) -> None:
        self._sent_at = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(SLOWEST_SECONDS):
                await send({"type": "http.response.body", "body": event, "more_body": True})
        except TimeoutError:
            raise ClientLeftError from None

    async def _ping(self, send: Send) -> None:
        """Break every long silence."""
        now = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(PING_SECONDS)
            if now() - self._sent_at >= PING_SECONDS:
                await self._send(PING, send)


def _frame(value: Any) -> bytes:
    """One event."""
    return b"data: " + dump_json(value) + b"\n\n"
