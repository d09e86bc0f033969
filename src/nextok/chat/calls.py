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
    """A function's name and its arguments as JSON text, an object, as the model wrote it."""

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
        text = "".join(self._parts)
        try:
            if self._name is not None:
                return read_arguments(self._tools, self._name, text)
            _DECODER.decode(text)
            calls: list[Call] = []
            place = 1 if self._first == "[" else 0
            while place < len(text) and text[place] != "]":
                members, place = split_object(text, _skip(_SPACE, text, place))
                arguments = members.get("arguments", members.get("parameters", ({}, "{}")))
                name, _ = members.get("name", (None, ""))
                read = read_arguments(self._tools, name, *reversed(arguments))
                if not read:
                    return None
                calls += read
                place = _skip(_COMMA, text, place)
        except (ValueError, RecursionError):
            return None
        return calls or None

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
        if values is None or head[1] not in self._tools:
            return None
        members = (f"{json.dumps(name, ensure_ascii=False)}: {value}" for name, value in values.items())
        return [Call(head[1], f"{{{', '.join(members)}}}")]

    def _read_values(self, function: str, text: str) -> dict[str, str] | None:
        """The parameters, as JSON text; None if there is anything else."""
        properties = (self._tools.get(function) or {}).get("properties")
        values: dict[str, str] = {}
        place = _skip(_SPACE, text, 0)
        while place < len(text):
            head = _PARAMETER.match(text, place)
            end = text.find("</parameter>", head.end()) if head else -1
            if not head or end < 0:
                return None
            value = text[head.end() : end].removeprefix("\n").removesuffix("\n")
            schema = properties.get(head[1]) if isinstance(properties, dict) else None
            values[head[1]] = write_value(schema if isinstance(schema, dict) else {}, value)
            place = _skip(_SPACE, text, end + len("</parameter>"))
        return values


def write_value(schema: Mapping[str, Any], text: str) -> str:
    """A parameter that is written without quotes, as JSON: text where its schema says so, else what it is."""
    listed = schema.get("type")
    kinds = listed if isinstance(listed, list) else [listed]
    choices = schema.get("enum")
    if kinds != ["string"] and not (isinstance(choices, list) and text in choices):
        written = {"True": "true", "False": "false", "None": "null"}.get(text.strip(), text.strip())
        try:
            if not isinstance(_DECODER.decode(written), str) or "string" not in kinds:
                return written
        except (ValueError, RecursionError):
            pass  # it is text
    return json.dumps(text, ensure_ascii=False)


def split_object(text: str, place: int) -> tuple[dict[str, tuple[Any, str]], int]:
    """The members of the JSON object at `place`, each with its own text, and where it ends; else ValueError."""
    members: dict[str, tuple[Any, str]] = {}
    if text[place : place + 1] != "{":
        raise ValueError("there is no object")
    place = _skip(_SPACE, text, place + 1)
    while text[place : place + 1] != "}" or members:
        key, place = _DECODER.raw_decode(text, place)
        colon = _COLON.match(text, place)
        if not isinstance(key, str) or not colon:
            raise ValueError("there is no member")
        value, end = _DECODER.raw_decode(text, colon.end())
        members[key] = value, text[colon.end() : end]
        place = _skip(_SPACE, text, end)
        if text[place : place + 1] != ",":
            break
        place = _skip(_SPACE, text, place + 1)
    if text[place : place + 1] != "}":
        raise ValueError("the object does not end")
    return members, place + 1


def read_arguments(tools: Mapping[str, Any], name: Any, text: str, value: Any = None) -> list[Call] | None:
    """A call of one of these tools with arguments as the model wrote them; None if it is none.

    ValueError for broken JSON. `value`: what `text` stands for, if that is known.
    """
    value = _DECODER.decode(text) if value is None else value
    if isinstance(value, str):  # JSON in a text
        text, value = value, _DECODER.decode(value)
    if not isinstance(name, str) or name not in tools or not isinstance(value, dict):
        return None
    return [Call(name, text.strip())]


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


# Numbers stay as they are written: no limit on their digits, and none becomes infinite.
_DECODER = json.JSONDecoder(parse_int=len, parse_float=len, parse_constant=_refuse)
_HALF = re.compile("[\ud800-\udfff]")
_COLON = re.compile(r"\s*:\s*")
_COMMA = re.compile(r"\s*,?\s*")
_SPACE = re.compile(r"\s*")
_PARAMETER = re.compile(r"<parameter=([^<>\n]{1,200})>")


def _skip(pattern: re.Pattern[str], text: str, place: int) -> int:
    found = pattern.match(text, place)
    return found.end() if found else place
