"""JSON as requests and answers have it: strict, and nested no deeper than a reader can bear."""

import json
from math import isinf
from typing import Any

from nextok.api.errors import ApiError

MOST_BYTES = 4 << 20
"""Largest body, in bytes."""
MOST_INSIDE = 1 << 18
"""Largest number of brackets that begin a list or an object, those in texts counted: more take seconds to read."""
DEEPEST = 64
"""Largest number of lists and objects within each other."""


def dump_json(value: Any) -> bytes:
    """JSON in UTF-8; half a character becomes a question mark."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "replace")


def parse_json(data: bytes) -> Any:
    """The value of JSON bytes; ApiError (400) if they are none."""
    if (inner := data.count(b"[") + data.count(b"{")) > MOST_INSIDE:
        raise ApiError(400, f"the body may have {MOST_INSIDE:,} lists and objects, got {inner:,} brackets")
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
