"""Tool calls written in tags, whose values have no quotes: a call is told once it is whole."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nextok.chat.calls import decode_json
from nextok.chat.events import CallLog
from nextok.chat.values import MOST_DEPTH

FUNCTION = "<function="
Tagged = tuple[str, dict[str, str]]
"""A function's name, and the text of each of its arguments."""

_HALF = re.compile("[\ud800-\udfff]")
_FUNCTION = re.compile(r"<function=([^<>\s]++)>")
_PARAMETER = re.compile(r"\s*+<parameter=([^<>\n]{1,200})>")
_ARGUMENT = re.compile(r"\s*+<arg_key>([^<>\n]{1,200})</arg_key>\s*+<arg_value>")


class TaggedReader:
    """One call between an opening and a closing mark, which no value can hold.

    It must begin with one of `starts`; `split` takes the whole text apart, or returns None if that is no call.
    """

    def __init__(
        self, calls: CallLog, closing: str, starts: Iterable[str], split: Callable[[str], Tagged | None]
    ) -> None:
        self._calls = calls
        self._closing = closing
        self._starts = frozenset(starts)
        self._split = split
        self._start = self._tail = ""
        self._parts: list[str] = []

    def feed(self, text: str, place: int = 0) -> int | None:
        text = text[place:]
        end = self._find_end(text)
        self._parts.append(text[:end])
        self._calls.held.append(text[:end])
        return None if end is None else place + end

    def finish(self) -> None:
        text = "".join(self._parts).strip().removesuffix(self._closing).rstrip()
        read = None if _HALF.search(text) else self._split(text)
        if read and read[0] in self._calls.tools:
            self._calls.begin(read[0])
            self._calls.add(write_arguments(self._calls.tools[read[0]], read[1]))

    def _find_end(self, text: str) -> int | None:
        """Where the closing mark ends, or where the beginning is not that of a call."""
        for place, letter in enumerate(text):
            if self._start in self._starts:
                break
            start = (self._start + letter).lstrip()
            if not any(each.startswith(start) for each in self._starts):
                return place
            self._start = start
        seen = self._tail + text
        place = seen.find(self._closing)
        if place >= 0:
            return place + len(self._closing) - len(self._tail)
        self._tail = seen[max(0, len(seen) - len(self._closing) + 1) :]
        return None


def split_xml(text: str) -> Tagged | None:
    """`<function=name>`, `<parameter=key>value</parameter>` for each argument, `</function>`."""
    head = _FUNCTION.match(text)
    if not head or not text.endswith("</function>"):
        return None
    values = _split_values(text[head.end() : -len("</function>")], _PARAMETER, "</parameter>")
    if values is None:
        return None
    return head[1], {key: value.removeprefix("\n").removesuffix("\n") for key, value in values.items()}


def split_glm(text: str) -> Tagged | None:
    """The name, then `<arg_key>key</arg_key><arg_value>value</arg_value>` for each argument."""
    name, found, rest = text.partition("<arg_key>")
    values = _split_values(found + rest, _ARGUMENT, "</arg_value>")
    return None if values is None else (name.strip(), values)


def write_arguments(schema: Mapping[str, Any], values: Mapping[str, str]) -> str:
    """The JSON text of an object with these members, whose kinds its schema tells."""
    parts = schema.get("properties")
    members: list[str] = []
    for key, value in values.items():
        part = parts.get(key) if isinstance(parts, dict) else None
        written = write_value(part if isinstance(part, dict) else {}, value)
        members.append(f"{json.dumps(key, ensure_ascii=False)}: {written}")
    return f"{{{', '.join(members)}}}"


def write_value(schema: Mapping[str, Any], text: str) -> str:
    """A parameter that is written without quotes, as JSON: text where its schema says so, else what it is."""
    listed = schema.get("type")
    kinds = listed if isinstance(listed, list) else [listed]
    choices = schema.get("enum")
    if kinds != ["string"] and not (isinstance(choices, list) and text in choices):
        written = {"True": "true", "False": "false", "None": "null"}.get(text.strip(), text.strip())
        try:
            if not isinstance(decode_json(written, MOST_DEPTH - 1), str) or "string" not in kinds:
                return written
        except ValueError:
            pass  # it is text
    return json.dumps(text, ensure_ascii=False)


def _split_values(text: str, opening: re.Pattern[str], closing: str) -> dict[str, str] | None:
    """The values between an opening with a key and a closing each; None if there is anything else."""
    values: dict[str, str] = {}
    place, text = 0, text.rstrip()
    while place < len(text):
        head = opening.match(text, place)
        end = text.find(closing, head.end()) if head else -1
        if not head or end < 0:
            return None
        values[head[1]] = text[head.end() : end]
        place = end + len(closing)
    return values
