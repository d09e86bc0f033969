"""Tool calls that are JSON, read as the text comes, in linear time."""

import re
from collections.abc import Mapping
from typing import Any

from nextok.chat.calls import Begun, Call, Part
from nextok.chat.json_text import DECODER, SPACE, skip

MOST_NAME = 200
"""Largest number of characters of a function's name, with what may stand beside it."""
MOST_HEAD = 400
"""Likewise, of all that stands before a call's arguments."""
DEEPEST = 64
"""Largest number of lists and objects within each other."""

_OUTSIDE = re.compile(r"[\s0-9A-Za-z,:.+-]*")
_INSIDE = re.compile(r'[^"\\\ud800-\udfff]*')  # half characters stand for control tokens here, and are no text
_COLON = re.compile(r"\s*:\s*")
_COMMA = re.compile(r"\s*,?\s*")
_HEAD = re.compile(
    r'[\[\s]*(?:\}\s*(?:,\s*)?)?\{\s*"name"\s*:\s*"((?:[^"\\]|\\.){1,200})"\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)'
)


class JsonScanner:
    """Finds the end of one JSON object or list as its text comes; other faults than in its brackets are not seen."""

    def __init__(self) -> None:
        self._depth = 0
        self._is_string = self._is_escaped = False
        self.is_whole = False

    def scan(self, text: str, place: int = 0) -> int | None:
        """Where the value ends, or where the text is no JSON any more; None if it goes on."""
        while place < len(text):
            if self._is_escaped:
                self._is_escaped = False
            elif self._is_string:
                place = skip(_INSIDE, text, place)
                if place == len(text):
                    return None
                if text[place] not in '"\\':
                    return place
                self._is_escaped, self._is_string = text[place] == "\\", text[place] == "\\"
            else:
                place = skip(_OUTSIDE, text, place)
                if place == len(text):
                    return None
                if text[place] not in '"{}[]':
                    return place
                self._is_string = text[place] == '"'
                self._depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(text[place], 0)
                if self._depth > DEEPEST:
                    return place
                if not self._depth:
                    self.is_whole = True
                    return place + 1
            place += 1
        return None


class JsonReader:
    """One JSON object (or with `first` "[" a list of them), and white space before it."""

    def __init__(self, tools: Mapping[str, Any], first: str = "{", name: str | None = None) -> None:
        self._tools = tools
        self._first = first
        self._name = name  # of the function, where the object is the arguments alone
        self._text: list[str] = []
        self._scanner = JsonScanner()
        self._early = _EarlyArguments(tools, name)

    def feed(self, text: str) -> int | None:
        place = 0
        if not self._text:
            place = len(text) - len(text.lstrip())
            if place == len(text):
                return None
            if text[place] != self._first:
                return place
        end = self._scanner.scan(text, place)
        self._text.append(text[place:end])
        self._early.feed(self._text[-1])
        return end

    def finish(self) -> None:
        calls = self._read_calls() if self._scanner.is_whole else []
        for call in calls[self._early.calls :]:
            self._early.parts += [Begun(call.name), call.arguments]

    def take(self) -> list[Part]:
        parts, self._early.parts = self._early.parts, []
        return parts

    def _read_calls(self) -> list[Call]:
        """The calls of the whole text; none if one of them is wrong."""
        text = "".join(self._text)
        try:
            if self._name is not None:
                return read_arguments(self._tools, self._name, text) or []
            DECODER.decode(text)
            calls: list[Call] = []
            place = 1 if self._first == "[" else 0
            while place < len(text) and text[place] != "]":
                members, place = split_object(text, skip(SPACE, text, place))
                arguments = members.get("arguments", members.get("parameters", ({}, "{}")))
                name, _ = members.get("name", (None, ""))
                read = read_arguments(self._tools, name, *reversed(arguments))
                if not read:
                    return []
                calls += read
                place = skip(_COMMA, text, place)
        except (ValueError, RecursionError):
            return []
        return calls


class _EarlyArguments:
    """Tells arguments while they are still written, where the name stands before them, as models do it.

    From there on it is a call whatever comes, since what was told cannot be taken back.
    """

    def __init__(self, tools: Mapping[str, Any], name: str | None) -> None:
        self._tools = tools
        self.parts: list[Part] = []
        self.calls = 0  # that have begun
        self._head: str | None = ""  # the text before the arguments; None: told at the end, if at all
        self._scanner: JsonScanner | None = None  # in the arguments
        if name is not None:
            self._head = None
            if name in tools:
                self._begin(name)

    def feed(self, text: str) -> None:
        while text:
            if self._scanner:
                end = self._scanner.scan(text)
                self.parts.append(text[:end])
                if end is None:
                    return
                self._head = "" if self._scanner.is_whole else None
                self._scanner, text = None, text[end:]
            else:
                text = self._read_head(text)

    def _read_head(self, text: str) -> str:
        """Look for the arguments; returns the text from there on."""
        if self._head is None:
            return ""
        room = MOST_HEAD - len(self._head)
        self._head += text[:room]
        found = _HEAD.match(self._head)
        if not found:
            if len(self._head) >= MOST_HEAD:
                self._head = None
            return ""
        rest, self._head = self._head[found.end() :] + text[room:], None
        name = _read_name(found[1])
        if name is None or name not in self._tools:
            return ""
        self._begin(name)
        return rest

    def _begin(self, name: str) -> None:
        self.calls += 1
        self.parts.append(Begun(name))
        self._scanner = JsonScanner()


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

    def finish(self) -> None:
        if self._json:
            self._json.finish()

    def take(self) -> list[Part]:
        return self._json.take() if self._json else []


def split_object(text: str, place: int) -> tuple[dict[str, tuple[Any, str]], int]:
    """The members of the JSON object at `place`, each with its own text, and where it ends; else ValueError."""
    members: dict[str, tuple[Any, str]] = {}
    if text[place : place + 1] != "{":
        raise ValueError("there is no object")
    place = skip(SPACE, text, place + 1)
    while text[place : place + 1] != "}" or members:
        key, place = DECODER.raw_decode(text, place)
        colon = _COLON.match(text, place)
        if not isinstance(key, str) or not colon:
            raise ValueError("there is no member")
        value, end = DECODER.raw_decode(text, colon.end())
        members[key] = value, text[colon.end() : end]
        place = skip(SPACE, text, end)
        if text[place : place + 1] != ",":
            break
        place = skip(SPACE, text, place + 1)
    if text[place : place + 1] != "}":
        raise ValueError("the object does not end")
    return members, place + 1


def read_arguments(tools: Mapping[str, Any], name: Any, text: str, value: Any = None) -> list[Call] | None:
    """A call of one of these tools with arguments as the model wrote them; None if it is none.

    ValueError for broken JSON. `value`: what `text` stands for, if that is known.
    """
    value = DECODER.decode(text) if value is None else value
    if isinstance(value, str):  # JSON in a text
        text, value = value, DECODER.decode(value)
    if not isinstance(name, str) or name not in tools or not isinstance(value, dict):
        return None
    return [Call(name, text.strip())]


def _read_name(text: str) -> str | None:
    """The name between its quotes."""
    try:
        return str(DECODER.decode(f'"{text}"'))
    except ValueError:
        return None
