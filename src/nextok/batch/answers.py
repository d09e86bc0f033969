"""Lines of answers: made of an entry alone, so that every run writes the same line."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from nextok.api.errors import ApiError, explain
from nextok.api.json_body import dump_json
from nextok.api.requests import read_task
from nextok.api.served import Served
from nextok.api.task import Task
from nextok.batch.entries import Entry
from nextok.generation.output import Output

HEAD = b'{"id":"batch_req_'
"""How every line begins."""
COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")
"""What is told of `usage`: what was cached and what a draft guessed depends on the run."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One line to write, its newline included; whether it is an error, and how many tokens were written for it."""

    line: bytes
    is_error: bool
    tokens: int = 0


def prepare(served: Served, entry: Entry, seed: int) -> Task | Answer:
    """The task of a line, or its answer if that is an error: call it off an event loop."""
    if entry.error is not None:
        return _write(entry, None, {"code": entry.error.code, "message": str(entry.error)})
    try:
        return read_task(served, entry.route, _add_seed(entry, seed))
    except Exception as error:
        return tell_error(entry, error)


def tell_answer(entry: Entry, task: Task, outputs: Sequence[Output]) -> Answer:
    """The answer of a task that has run."""
    body = task.tell(outputs)
    body |= {"id": f"{task.PREFIX}-{entry.key}", "created": 0}
    body["usage"] = {name: body["usage"][name] for name in COUNTS}
    for index, choice in enumerate(body["choices"]):
        for place, call in enumerate(choice.get("message", {}).get("tool_calls") or ()):
            call["id"] = _rename(call["id"], f"{entry.key} {index} {place}")
    return _write(entry, _respond(entry, 200, body), None, body["usage"]["completion_tokens"])


def tell_error(entry: Entry, error: Exception) -> Answer:
    """The answer to a request that is wrong, or that failed."""
    told = explain(error)
    if told.status == 500:  # a batch has no log that says more
        told = ApiError(500, f"{type(error).__name__}: {' '.join(str(error).split())[:2000]}")
    return _write(entry, _respond(entry, told.status, told.to_json()), None)


def _add_seed(entry: Entry, seed: int) -> Any:
    """The body with a seed of its own, unless it has one: of the batch's seed and the `custom_id`."""
    body = entry.body
    if not isinstance(body, dict):
        return body
    if body.get("stream"):
        raise ApiError(400, "a batch answers with whole texts: leave stream out", "stream")
    if body.get("seed") not in (None, -1):
        return body
    drawn = int.from_bytes(sha256(f"{seed} {entry.key}".encode()).digest()[:6])
    return body | {"seed": drawn}


def _rename(made: str, name: str) -> str:
    """The id of a tool call in the same form, but not drawn by chance."""
    digits = sha256(name.encode()).hexdigest()
    return f"call_{digits[:24]}" if made.startswith("call_") else digits[: len(made)]


def _respond(entry: Entry, status: int, body: Any) -> dict[str, Any]:
    return {"status_code": status, "request_id": f"req_{entry.key}", "body": body}


def _write(entry: Entry, response: Any, error: Any, tokens: int = 0) -> Answer:
    told = {"id": f"batch_req_{entry.key}", "custom_id": entry.custom_id, "response": response, "error": error}
    is_error = response is None or response["status_code"] != 200
    return Answer(dump_json(told) + b"\n", is_error, tokens)
