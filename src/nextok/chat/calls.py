"""Tool calls in the text of an answer: each class here reads one form as the text comes, in linear time."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

FUNCTION = "<function="
MOST_NAME = 200
"""Largest number of characters of a function's name, with what may stand beside it."""

_OUTSIDE = re.compile(r"[\s0-9A-Za-z,:.+-]*")
_INSIDE = re.compile(r'[^"\\\ud800-\udfff]*')  # half characters stand for control tokens here, and are no text


@dataclass(frozen=True, slots=True)
class Call:
    """A function's name and its arguments as JSON text, an object."""

    name: str
    arguments: str


class CallReader(Protocol):
    """Reads what follows an opening mark."""

    def feed(self, text: str) -> int | None:
        """How many characters of this text belong to what was read, once that is decided; None to go on."""
        ...

    def finish(self) -> list[Call] | None:
        """The calls that were read; None if they are none, or not whole."""
        ...


class JsonReader:
    """One JSON object (or with `first` "[" a list of them), and white space before it."""

    def __init__(self, tools: Mapping[str, Any], first: str = "{", name: str | None = None) -> None:
        self._tools = tools
        self._first = first
        self._name = name  # of the function, where the object is the arguments alone
        self._parts: list[str] = []
        self._depth = 0
        self._is_string = self._is_escaped = self._is_whole = False

    def feed(self, text: str) -> int | None:
        place = 0
        if not self._depth:
            place = len(text) - len(text.lstrip())
            if place == len(text):
                return None
            if text[place] != self._first:
                return place
        end = self._scan(text, place)
        self._parts.append(text[place:end])
        return end

    def finish(self) -> list[Call] | None:
        if not self._is_whole:
            return None
        value = parse_json("".join(self._parts))
        if self._name is not None:
            found = [make_call(self._tools, self._name, value)]
        else:
            found = [self._read_call(each) for each in (value if isinstance(value, list) else [value])]
        calls = [each for each in found if each]
        return calls if calls and len(calls) == len(found) else None

    def _scan(self, text: str, place: int) -> int | None:
        """Where the value ends, or where the text is no JSON any more; None if it goes on."""
        while place < len(text):
            if self._is_escaped:
                self._is_escaped = False
            elif self._is_string:
                place = _skip(_INSIDE, text, place)
                if place == len(text):
                    return None
                if text[place] not in '"\\':
                    return place
                self._is_escaped, self._is_string = text[place] == "\\", text[place] == "\\"
            else:
                place = _skip(_OUTSIDE, text, place)
                if place == len(text):
                    return None
                if text[place] not in '"{}[]':
                    return place
                self._is_string = text[place] == '"'
                self._depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(text[place], 0)
                if not self._depth:
                    self._is_whole = True
                    return place + 1
            place += 1
        return None

    def _read_call(self, value: Any) -> Call | None:
        if not isinstance(value, dict):
            return None
        arguments = value.get("arguments", value.get("parameters", {}))
        return make_call(self._tools, value.get("name"), arguments)


class NamedReader:
    """`name[ARGS]{...}`, maybe with `[CALL_ID]...` after the name; or a list as JsonReader reads it."""

    def __init__(self, tools: Mapping[str, Any], separator: str, call_id: str) -> None:
        self._tools = tools
        self._separator = separator
        self._call_id = call_id
        self._head = ""
        self._json: JsonReader | None = None

    def feed(self, text: str) -> int | None:
        place = 0
        while not self._json and place < len(text):
            if not self._head and text[place] == "[":
                self._json = JsonReader(self._tools, "[")
                break
            self._head = (self._head + text[place]).lstrip()
            place += 1
            if self._head.endswith(self._separator):
                name = self._head.removesuffix(self._separator).partition(self._call_id)[0]
                self._json = JsonReader(self._tools, name=name)
            elif self._head[-1:].isspace() or len(self._head) > MOST_NAME:
                return place
        end = self._json.feed(text[place:]) if self._json else None
        return None if end is None else place + end

    def finish(self) -> list[Call] | None:
        return self._json.finish() if self._json else None


class XmlReader:
    """`<function=name>`, parameters, `</function>` and the closing mark, which no value can hold."""

    def __init__(self, tools: Mapping[str, Any], closing: str) -> None:
        self._tools = tools
        self._closing = closing
        self._head = ""
        self._tail = ""
        self._parts: list[str] = []

    def feed(self, text: str) -> int | None:
        place = 0
        while len(self._head) < len(FUNCTION) and place < len(text):
            head = (self._head + text[place]).lstrip()
            if not FUNCTION.startswith(head):
                return place
            self._head = head
            place += 1
        seen = self._tail + text
        place = seen.find(self._closing)
        if place >= 0:
            end = place + len(self._closing) - len(self._tail)
            self._parts.append(text[:end])
            return end
        self._parts.append(text)
        self._tail = seen[max(0, len(seen) - len(self._closing) + 1) :] if len(self._closing) > 1 else ""
        return None

    def finish(self) -> list[Call] | None:
        text = "".join(self._parts).strip().removesuffix(self._closing).rstrip()
        head = re.match(r"<function=([^<>\s]+)>", text)
        if not head or not text.endswith("</function>") or _HALF.search(text):
            return None
        values = self._read_values(head[1], text[head.end() : -len("</function>")])
        call = None if values is None else make_call(self._tools, head[1], values)
        return [call] if call else None

    def _read_values(self, function: str, text: str) -> dict[str, Any] | None:
        properties = (self._tools.get(function) or {}).get("properties")
        values: dict[str, Any] = {}
        place = _skip(_SPACE, text, 0)
        while place < len(text):
            head = _PARAMETER.match(text, place)
            end = text.find("</parameter>", head.end()) if head else -1
            if not head or end < 0:
                return None
            value = text[head.end() : end].removeprefix("\n").removesuffix("\n")
            schema = properties.get(head[1]) if isinstance(properties, dict) else None
            values[head[1]] = read_value(schema if isinstance(schema, dict) else {}, value)
            place = _skip(_SPACE, text, end + len("</parameter>"))
        return values


def read_value(schema: Mapping[str, Any], text: str) -> Any:
    """The value of a parameter that is written without quotes: text where its schema says so, else JSON."""
    listed = schema.get("type")
    kinds = listed if isinstance(listed, list) else [listed]
    choices = schema.get("enum")
    if kinds == ["string"] or (isinstance(choices, list) and text in choices):
        return text
    value = parse_json({"True": "true", "False": "false", "None": "null"}.get(text.strip(), text))
    if value is None and text.strip() not in ("null", "None"):
        return text
    return text if isinstance(value, str) and "string" in kinds else value


def parse_json(text: str) -> Any:
    """The value of a JSON text; None for one that is broken, or too deep."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None


def make_call(tools: Mapping[str, Any], name: Any, arguments: Any) -> Call | None:
    """A call of one of these tools; None if it is none, or if its arguments are no object."""
    if isinstance(arguments, str):
        arguments = parse_json(arguments)
    if not isinstance(name, str) or name not in tools or not isinstance(arguments, dict):
        return None
    try:
        written = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
        if _HALF.search(written):
            written = json.dumps(arguments)
    except (ValueError, RecursionError):
        return None
    return Call(name, written)


_HALF = re.compile("[\ud800-\udfff]")
_SPACE = re.compile(r"\s*")
_PARAMETER = re.compile(r"<parameter=([^<>\n]{1,200})>")


def _skip(pattern: re.Pattern[str], text: str, place: int) -> int:
    found = pattern.match(text, place)
    return found.end() if found else place


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")
