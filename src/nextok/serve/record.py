"""What is noted of one request for the log: a line of text, or of JSON."""

import json
import secrets
import time
from collections.abc import MutableMapping
from dataclasses import asdict, dataclass, field
from typing import Any

from nextok.api.errors import ApiError
from nextok.generation.output import Output

KEY = "nextok.record"
"""Where a request's scope has its record."""
MOST_ID = 128
"""Longest id of a request that a client may choose."""


@dataclass(slots=True)
class Record:
    """One request: who asked what, and what became of it. Never its text, unless `request` is set."""

    id: str
    method: str
    route: str
    status: int = 0
    seconds: float = 0.0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    finish_reasons: list[str] = field(default_factory=list)
    error: str | None = None
    request: Any = None

    def add(self, output: Output) -> None:
        """Take in the texts of one prompt."""
        self.prompt_tokens += output.stats.prompt_tokens
        self.cached_tokens += output.stats.cached_tokens
        self.generated_tokens += output.stats.generated_tokens
        self.finish_reasons += [choice.finish_reason for choice in output.choices]

    def add_error(self, error: ApiError) -> None:
        """Note why the request failed; of a mistake of the client only the field, since the message quotes it."""
        self.error = str(error) if error.status >= 500 else error.param or error.code

    def to_json(self) -> str:
        """One line with all that is known."""
        known = {name: value for name, value in asdict(self).items() if value not in (None, [])}
        return json.dumps({"time": round(time.time(), 3)} | known | {"seconds": round(self.seconds, 4)})

    def __str__(self) -> str:
        """One line to read; made only where it is written."""
        line = f"{self.method} {self.route} {self.status} {self.seconds:.3f} s"
        if self.prompt_tokens:
            ends = ", ".join(self.finish_reasons)
            line += f", {self.prompt_tokens} tokens read, {self.generated_tokens} written ({ends})"
        if self.error:
            line += f", {self.error:.200}"
        return line + (f", {json.dumps(self.request)}" if self.request is not None else "")


def find_record(scope: MutableMapping[str, Any]) -> Record:
    """The record of the request with this scope."""
    record: Record = scope[KEY]
    return record


def choose_id(given: bytes) -> str:
    """The id that the client chose, if it is short and plain, or a new one."""
    text = given.decode("latin-1")
    if 0 < len(text) <= MOST_ID and text.isascii() and text.isprintable():
        return text
    return f"req-{secrets.token_hex(12)}"
