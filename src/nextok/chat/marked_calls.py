"""Tool calls whose arguments stand between marks instead of being JSON."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from nextok.chat.calls import Begun, Call, Part
from nextok.chat.json_text import DECODER, SPACE, skip

FUNCTION = "<function="
"""How a call of Qwen 3 Coder begins."""

_HALF = re.compile("[\ud800-\udfff]")
_KEY = re.compile(r"<arg_key>([^<>\n]{1,200})</arg_key>\s*<arg_value>")
_PARAMETER = re.compile(r"<parameter=([^<>\n]{1,200})>")


class MarkedReader:
    """A call up to the closing mark, which no value can hold, read by `parse`; `head`: how it begins."""

    def __init__(self, closing: str, head: str, parse: Callable[[str], Call | None]) -> None:
        self._closing = closing
        self._wanted = head
        self._parse = parse
        self._head = ""
        self._tail = ""
        self._text: list[str] = []
        self._parts: list[Part] = []

    def feed(self, text: str) -> int | None:
        place = 0
        while len(self._head) < len(self._wanted) and place < len(text):
            head = (self._head + text[place]).lstrip()
            if not self._wanted.startswith(head):
                return place
            self._head = head
            place += 1
        seen = self._tail + text
        place = seen.find(self._closing)
        if place >= 0:
            end = place + len(self._closing) - len(self._tail)
            self._text.append(text[:end])
            return end
        self._text.append(text)
        self._tail = seen[max(0, len(seen) - len(self._closing) + 1) :] if len(self._closing) > 1 else ""
        return None

    def finish(self) -> None:
        text = "".join(self._text).strip().removesuffix(self._closing).rstrip()
        call = None if _HALF.search(text) else self._parse(text)
        if call:
            self._parts = [Begun(call.name), call.arguments]

    def take(self) -> list[Part]:
        parts, self._parts = self._parts, []
        return parts


def read_function(tools: Mapping[str, Any], text: str) -> Call | None:
    """`<function=name>`, parameters, `</function>`, as Qwen 3 Coder writes it."""
    head = re.match(r"<function=([^<>\s]+)>", text)
    if not head or not text.endswith("</function>"):
        return None
    return _read_pairs(tools, head[1], text[head.end() : -len("</function>")], _PARAMETER, "</parameter>")


def read_pairs(tools: Mapping[str, Any], text: str) -> Call | None:
    """A name, and a key and a value for each argument, as GLM writes it."""
    head = re.match(r"[^<>\s]+", text)
    return _read_pairs(tools, head[0], text[head.end() :], _KEY, "</arg_value>") if head else None


def _read_pairs(
    tools: Mapping[str, Any], function: str, text: str, opening: re.Pattern[str], closing: str
) -> Call | None:
    """A call whose arguments stand between marks; None if there is anything else, or no such function."""
    if function not in tools:
        return None
    properties = (tools[function] or {}).get("properties")
    values: dict[str, str] = {}
    place = skip(SPACE, text, 0)
    while place < len(text):
        head = opening.match(text, place)
        end = text.find(closing, head.end()) if head else -1
        if not head or end < 0:
            return None
        value = text[head.end() : end].removeprefix("\n").removesuffix("\n")
        schema = properties.get(head[1]) if isinstance(properties, dict) else None
        values[head[1]] = write_value(schema if isinstance(schema, dict) else {}, value)
        place = skip(SPACE, text, end + len(closing))
    members = (f"{json.dumps(name, ensure_ascii=False)}: {value}" for name, value in values.items())
    return Call(function, f"{{{', '.join(members)}}}")


def write_value(schema: Mapping[str, Any], text: str) -> str:
    """A parameter that is written without quotes, as JSON: text where its schema says so, else what it is."""
    listed = schema.get("type")
    kinds = listed if isinstance(listed, list) else [listed]
    choices = schema.get("enum")
    if kinds != ["string"] and not (isinstance(choices, list) and text in choices):
        written = {"True": "true", "False": "false", "None": "null"}.get(text.strip(), text.strip())
        try:
            if not isinstance(DECODER.decode(written), str) or "string" not in kinds:
                return written
        except (ValueError, RecursionError):
            pass  # it is text
    return json.dumps(text, ensure_ascii=False)
