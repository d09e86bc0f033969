"""Lines of requests, as OpenAI's batch files have them: what each asks, or why it is no request."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from nextok.api.errors import ApiError
from nextok.api.fields import CHAT, COMPLETION, show
from nextok.api.json_body import MOST_BYTES, parse_json

URLS = {"/v1/chat/completions": CHAT, "/v1/completions": COMPLETION}
"""What a line may ask for."""
MARK = b"\xef\xbb\xbf"
"""What some programs write at the start of a file."""
TWICE = "duplicate_custom_id"
"""The code of a line whose `custom_id` is not its own."""
MOST_ID = 512
"""Longest `custom_id`, in characters."""


class LineError(Exception):
    """Why a line is no request; `code` is a word for programs."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Entry:
    """One line: a request to a route, or the error that it is.

    `key`: 24 hexadecimal digits that the ids of its answer are made of. They come from `custom_id`, or from the
    number of a line that has none of its own, so a line has the same ids in every run.
    """

    key: str
    number: int
    custom_id: str | None
    route: str = ""
    body: Any = None
    error: LineError | None = None


def read_entries(lines: Iterable[bytes]) -> Iterator[Entry]:
    """The entries of a file's lines, in order, one at a time; blank lines are none.

    Of two lines with one `custom_id` the second is an error. What is kept of each line is its key.
    """
    seen: set[bytes] = set()
    for number, line in enumerate(lines, 1):
        if not line.removeprefix(MARK).strip(b" \t\r\n"):
            continue
        entry = read_entry(line, number)
        short = bytes.fromhex(entry.key)
        yield refuse_twice(entry) if short in seen else entry
        seen.add(short)


def read_entry(line: bytes, number: int) -> Entry:
    """The entry of one line, which has this number in its file, from 1 on."""
    custom_id = None
    try:
        value = _parse(line.removeprefix(MARK), number)
        custom_id = _read_id(value.get("custom_id"))
        method, url, body = value.get("method", "POST"), value.get("url"), value.get("body")
        if method != "POST":
            raise LineError("invalid_method", f"method must be POST, got {show(method)}")
        if not isinstance(url, str) or url not in URLS:
            raise LineError("invalid_url", f"url must be {' or '.join(URLS)}, got {show(url)}")
        return Entry(_make_key("custom_id", custom_id), number, custom_id, URLS[url], body)
    except LineError as error:
        key = _make_key("line", str(number)) if custom_id is None else _make_key("custom_id", custom_id)
        return Entry(key, number, custom_id, error=error)


def refuse_twice(entry: Entry) -> Entry:
    """The error that an entry is whose `custom_id` stands in an earlier line too."""
    error = LineError(TWICE, f"custom_id {show(entry.custom_id)} stands in an earlier line too")
    return Entry(_make_key("line", str(entry.number)), entry.number, entry.custom_id, error=error)


def _parse(line: bytes, number: int) -> dict[str, Any]:
    if len(line) > MOST_BYTES:
        raise LineError("line_too_long", f"line {number} has more than {MOST_BYTES:,} bytes")
    try:
        value = parse_json(line)
    except ApiError as error:
        raise LineError("invalid_json", f"line {number}: {error}".replace("the body", "it")) from None
    if not isinstance(value, dict):
        raise LineError("invalid_request", f"line {number} must be a JSON object, got {show(value)}")
    return value


def _read_id(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MOST_ID:
        raise LineError(
            "invalid_custom_id", f"custom_id must be a text of 1 to {MOST_ID} characters, got {show(value)}"
        )
    try:
        value.encode()
    except UnicodeEncodeError:
        raise LineError("invalid_custom_id", f"custom_id must not have half a character, got {show(value)}") from None
    return value


def _make_key(kind: str, name: str) -> str:
    return sha256(f"{kind}\0{name}".encode()).hexdigest()[:24]
