"""One line of a batch: the request, and its answer, which depends on the line alone, so that it can be repeated."""

import hashlib
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nextok.api.errors import ApiError, explain
from nextok.api.fields import CHAT, COMPLETION, show
from nextok.api.json_body import MOST_BYTES, dump_json, parse_json

ROUTES = {"/v1/chat/completions": CHAT, "/v1/completions": COMPLETION}
"""The urls that a line may name."""
ID = "batch_req_"
"""How the id of an answer begins."""
MOST_ID = 512
"""Longest custom_id, in characters."""
TOLD_USAGE = ("prompt_tokens", "completion_tokens", "total_tokens")
"""What is told of the numbers of tokens; what was cached or guessed depends on the other requests."""


@dataclass(frozen=True, slots=True)
class Line:
    """`id`: of the answer. `route`: one of ROUTES' values. `error`: why this is no request; then there is no body."""

    id: str
    custom_id: str | None = None
    route: str = ""
    body: Mapping[str, Any] | None = None
    error: str | None = None


def read_line(data: bytes, seed: int) -> Line:
    """The request of one line. A body without a seed gets one of its own, made of `seed` and its custom_id."""
    try:
        if len(data) > MOST_BYTES:
            raise ValueError(f"a line may have {MOST_BYTES:,} bytes")
        return _read_request(parse_json(data), seed)
    except (ValueError, ApiError) as error:
        return Line(_make_id(data), _find_custom_id(data), error=str(error).replace("the body", "the line", 1))


def read_requests(lines: Iterable[bytes], seed: int, done: Container[str] = ()) -> Iterator[Line]:
    """The requests of all lines that have no answer in `done` yet. A custom_id that occurs again is an error."""
    seen: Counter[str] = Counter()
    for data in lines:
        line = read_line(data, seed)
        seen[line.id] += 1
        if (times := seen[line.id]) > 1:
            error = line.error or f"custom_id {show(line.custom_id)} came before: each request needs its own"
            line = Line(_make_id(f"{line.id}:{times}".encode()), line.custom_id, error=error)
        if line.id not in done:
            yield line


def _read_request(value: Any, seed: int) -> Line:
    if not isinstance(value, dict):
        raise ValueError(f"a line must be a JSON object, got {show(value)}")
    name, url, body = value.get("custom_id"), value.get("url"), value.get("body")
    if not isinstance(name, str) or not 0 < len(name) <= MOST_ID:
        raise ValueError(f"custom_id must be a text of 1 to {MOST_ID} characters, got {show(name)}")
    if value.get("method", "POST") != "POST":
        raise ValueError(f"method must be POST, got {show(value['method'])}")
    if not isinstance(url, str) or url not in ROUTES:
        raise ValueError(f"url must be one of {', '.join(ROUTES)}, got {show(url)}")
    if not isinstance(body, dict):
        raise ValueError(f"body must be an object, got {show(body)}")
    if body.get("seed") is None:
        body = body | {"seed": int(_hash(f"{seed}:{name}")[:12], 16)}
    return Line(_make_id(name.encode("utf-8", "replace")), name, ROUTES[url], body)


def write_answer(line: Line, answer: Mapping[str, Any]) -> bytes:
    """The line of an answer, without what depends on the time or on other requests."""
    told = {**answer, "id": f"{str(answer['id']).partition('-')[0]}-{line.id[-24:]}", "created": 0}
    told["usage"] = {name: answer["usage"][name] for name in TOLD_USAGE}
    for choice in told["choices"]:
        for place, call in enumerate(choice.get("message", {}).get("tool_calls", ())):
            call["id"] = _rename(call["id"], f"{line.id}:{choice['index']}:{place}")
    return _write(line, {"status_code": 200, "request_id": line.id, "body": told}, None)


def write_failure(line: Line, error: Exception) -> bytes:
    """The line of a request that was wrong."""
    told = explain(error)
    return _write(line, {"status_code": told.status, "request_id": line.id, "body": told.to_json()}, None)


def write_error(line: Line, message: str) -> bytes:
    """The line of what is no request."""
    return _write(line, None, {"code": "invalid_line", "message": message})


def _write(line: Line, response: Any, error: Any) -> bytes:
    known = {"id": line.id, "custom_id": line.custom_id, "response": response, "error": error}
    return dump_json(known) + b"\n"


def _rename(made: str, source: str) -> str:
    """An id of a call that does not change from run to run, as long as the one that was drawn."""
    prefix = "call_" if made.startswith("call_") else ""
    return prefix + _hash(source)[: len(made) - len(prefix)]


def _make_id(source: bytes) -> str:
    return ID + _hash(source)[:24]


def _hash(source: bytes | str) -> str:
    return hashlib.sha256(source.encode() if isinstance(source, str) else source).hexdigest()


def _find_custom_id(data: bytes) -> str | None:
    """The name of a line that is no request, if it has one."""
    try:
        name = parse_json(data[:MOST_BYTES]).get("custom_id")
    except (ApiError, AttributeError):
        return None
    return name if isinstance(name, str) and len(name) <= MOST_ID else None
