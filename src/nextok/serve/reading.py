"""JSON from and to a client: bounded, strict, and off the event loop where it is large."""

import asyncio
import json
from math import isinf
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from nextok.api.errors import ApiError

MOST_BYTES = 4 << 20
"""Largest body, in bytes."""
MOST_SECONDS = 30.0
"""Longest time, in seconds, that a body may take to arrive."""
DEEPEST = 64
"""Largest number of lists and objects within each other."""
SMALL = 64 << 10
"""Size in bytes up to which a body is read on the event loop: that takes less than a millisecond."""


class JsonAnswer(Response):
    """JSON as UTF-8, without escapes for other scripts."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The bytes of the body, which may have been made elsewhere."""
        return content if isinstance(content, bytes) else dump_json(content)


def dump_json(value: Any) -> bytes:
    """JSON in UTF-8; half a character becomes a question mark."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "replace")


async def read_json(request: Request) -> Any:
    """The body of a request; ApiError if it is too large, too deep, or no JSON as the standard has it."""
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


def parse_json(data: bytes) -> Any:
    """The value of JSON bytes; ApiError (400) if they are none."""
    try:
        value = json.loads(data, parse_constant=_refuse, parse_float=_read_float, object_pairs_hook=_read_object)
    except RecursionError:
        raise _make_depth_error() from None
    except (ValueError, UnicodeDecodeError) as error:
        raise ApiError(400, f"the body must be JSON: {' '.join(str(error).split())[:200]}") from None
    level = [value]
    for _ in range(DEEPEST):
        level = [inner for each in level if isinstance(each, list | dict) for inner in _list_inside(each)]
    if any(isinstance(each, list | dict) for each in level):
        raise _make_depth_error()
    return value


def _make_depth_error() -> ApiError:
    return ApiError(400, f"the body may be nested {DEEPEST} deep")


def _list_inside(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value


def _read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("an object has two members of one name")
    return value


def _read_float(text: str) -> float:
    value = float(text)
    if isinf(value):
        raise ValueError(f"the number {text[:40]} is too large")
    return value


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no number in JSON")
