"""JSON from and to a client: bounded in size and time, and off the event loop where it is large."""

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from nextok.api.errors import ApiError
from nextok.api.json_body import MOST_BYTES, dump_json, parse_json

MOST_SECONDS = 30.0
"""Longest time, in seconds, that a body may take to arrive."""
SMALL = 64 << 10
"""Size in bytes up to which a body is read on the event loop: that takes less than a millisecond."""


class JsonAnswer(Response):
    """JSON as UTF-8, without escapes for other scripts."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The bytes of the body, which may have been made elsewhere."""
        return content if isinstance(content, bytes) else dump_json(content)


async def read_json(request: Request) -> Any:
    """The body of a request; ApiError if it is too large, too deep, or no JSON as the standard has it."""
    coding = request.headers.get("content-encoding", "identity")
    if coding.lower() != "identity":
        raise ApiError(
            415, f"the body must be plain JSON, got the content-encoding {coding[:40]!r}: send it unpacked"
        )
    data = bytearray()
    try:
        async with asyncio.timeout(MOST_SECONDS):
            async for part in request.stream():
                data += part
                if len(data) > MOST_BYTES:
                    raise ApiError(413, f"the body must have at most {MOST_BYTES:,} bytes")
    except TimeoutError:
        raise ApiError(408, f"the body must come within {MOST_SECONDS:g} seconds") from None
    if len(data) <= SMALL:
        return parse_json(bytes(data))
    return await asyncio.to_thread(parse_json, bytes(data))
