"""Tool calls written in JSON: each class here reads one form as the text comes, in linear time.

A call begins with the bracket that opens its arguments, where its function's name stands before them; from there on
its arguments are told as they come. A text that breaks or ends before that is no call. One that breaks or ends later
leaves a call with the arguments so far, and what follows is content.
"""

import json
import re
from typing import Any, Literal, Protocol

from nextok.chat.events import CallLog
from nextok.chat.scan import SPACE, JsonScanner
from nextok.chat.values import MOST_DEPTH

MOST_NAME = 200
"""Largest number of characters of a function's name, with what may stand beside it."""
ARGUMENTS = ("arguments", "parameters")
"""What models call the arguments; where there are both, the first counts."""


Phase = Literal["head", "arguments", "told", "kept"]
"""What of a call is read: what stands before its arguments, they, what follows them; or what is no call so far."""


class CallReader(Protocol):
    """Reads what follows an opening mark, and tells a log the calls in it."""

    def feed(self, text: str, place: int = 0) -> int | None:
        """Where in this text the end of what was read lies; None to go on."""
        ...

    def finish(self) -> None:
        """Nothing more is read."""
        ...


class JsonReader:
    """One call: `{"name": ..., "arguments": {...}}`, or with `name` its arguments alone."""

    def __init__(self, calls: CallLog, name: str | None = None) -> None:
        self._calls = calls
        self._name = name
        # The arguments are watched, and in a call the object around them.
        level = 1 if name is None else 0
        self._scanner = JsonScanner(MOST_DEPTH + level, level + 1)
        self._level = level  # the depth before and after the arguments
        self._parts: list[str] = []  # the object, until its call has begun
        self._phase: Phase = "head"

    @property
    def is_call(self) -> bool:
        """Whether all of it was read, and a call was in it."""
        return self._phase == "told" and self._scanner.is_whole

    def feed(self, text: str, place: int = 0) -> int | None:
        while place < len(text):
            start, place = place, self._scanner.read(text, place)
            self._take(text[start:place])
            if self._scanner.is_broken or self._scanner.is_whole:
                return place
        return None

    def finish(self) -> None:
        """Tell a call that is whole and could not be told earlier, as if its name comes last."""
        if self._phase not in ("head", "kept") or self._name is not None or not self._scanner.is_whole:
            return
        if read := read_call("".join(self._parts).strip(), self._calls):
            self._calls.begin(read[0])
            self._calls.add(read[1])
            self._phase = "told"

    def _take(self, part: str) -> None:
        """More of the object, which ends where a bracket changes what it belongs to."""
        is_inside = self._scanner.depth > self._level
        if self._phase == "arguments":
            if part:
                self._calls.add(part)
            if not is_inside:
                self._phase = "told"
        elif self._phase != "told":
            self._parts.append(part)
            self._calls.held.append(part)
            if self._phase == "head" and is_inside:
                self._phase = "arguments" if self._begin() else "kept"

    def _begin(self) -> bool:
        """Begin the call, if the bracket that came last opens the arguments of a known function."""
        name = self._name if self._name is not None else find_name("".join(self._parts))
        if name is None or name not in self._calls.tools:
            return False
        self._calls.begin(name)
        self._calls.add("{")
        return True


class ListReader:
    """A list of calls as JsonReader reads them; it ends with the first that is none."""

    def __init__(self, calls: CallLog) -> None:
        self._calls = calls
        self._next = "["  # the characters that may come next, between the calls
        self._call: JsonReader | None = None

    def feed(self, text: str, place: int = 0) -> int | None:
        while place < len(text):
            if self._call:
                end = self._call.feed(text, place)
                if end is None:
                    return None
                self._call.finish()
                if not self._call.is_call:
                    return end
                place, self._call, self._next = end, None, ",]"
            elif text[place] not in self._next and text[place] not in SPACE:
                return place
            elif text[place] == "{":
                self._call = JsonReader(self._calls)
            else:
                self._pass(text[place])
                place += 1
                if not self._next:
                    return place
        return None

    def finish(self) -> None:
        if self._call:
            self._call.finish()

    def _pass(self, letter: str) -> None:
        if self._calls.held:  # no call of this list has begun
            self._calls.held.append(letter)
        if letter not in SPACE:
            self._next = "" if letter == "]" else "{"


class NamedReader:
    """`name[ARGS]{...}`, maybe with `[CALL_ID]...` after the name; or a list as ListReader reads it."""

    def __init__(self, calls: CallLog, separator: str, call_id: str) -> None:
        self._calls = calls
        self._separator = separator
        self._call_id = call_id
        self._head = ""
        self._rest: JsonReader | ListReader | None = None

    def feed(self, text: str, place: int = 0) -> int | None:
        while not self._rest and place < len(text):
            if not self._head and text[place] == "[":
                self._rest = ListReader(self._calls)
                break
            self._calls.held.append(text[place])
            self._head = (self._head + text[place]).lstrip()
            place += 1
            if self._head.endswith(self._separator):
                name = self._head.removesuffix(self._separator).partition(self._call_id)[0]
                self._rest = JsonReader(self._calls, name)
            elif self._head[-1:].isspace() or len(self._head) > MOST_NAME:
                return place
        return self._rest.feed(text, place) if self._rest else None

    def finish(self) -> None:
        if self._rest:
            self._rest.finish()


def find_name(head: str) -> str | None:
    """The name in the text of a call up to the bracket of its arguments; None if the bracket is another one."""
    try:
        members = _DECODER.decode(f"{head}}}}}")
    except ValueError:  # the bracket opens a list
        return None
    name = members.get("name")
    return name if isinstance(name, str) and list(members)[-1] in ARGUMENTS else None


def read_call(text: str, calls: CallLog) -> tuple[str, str] | None:
    """The name and the arguments, as the model wrote them, in the JSON text of an object; None if it is no call."""
    members = split_object(text)
    found = [members[key] for key in members if key in ARGUMENTS]
    value, arguments = found[0] if found else ({}, "{}")
    if isinstance(value, str):  # JSON in a text
        arguments = value
        try:
            value = decode_json(value)
        except ValueError:
            return None
    name = members.get("name", ("", ""))[0]
    if not isinstance(name, str) or name not in calls.tools or not isinstance(value, dict):
        return None
    return name, arguments.strip()


def split_object(text: str) -> dict[str, tuple[Any, str]]:
    """The members of a valid JSON object, each with its own text."""
    members: dict[str, tuple[Any, str]] = {}
    place = _skip(text, 1)
    while text[place] != "}":
        key, place = _DECODER.raw_decode(text, place)
        start = _skip(text, place)
        value, place = _DECODER.raw_decode(text, start)
        members[key] = value, text[start:place]
        place = _skip(text, place)
    return members


def decode_json(text: str, most_depth: int = MOST_DEPTH) -> Any:
    """The value of a JSON text, numbers as something else; ValueError if it is none, or too deep."""
    text = text.strip()
    if text[:1] in ("{", "["):
        scanner = JsonScanner(most_depth, first="{[")
        place = scanner.read(text, scanner.read(text, 0))  # to the first bracket, then to that which closes it
        if not scanner.is_whole or place < len(text):
            raise ValueError(f"there must be JSON, nested at most {most_depth} deep")
    return _DECODER.decode(text)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


# Numbers stay as they are written: no limit on their digits, and none becomes infinite.
_DECODER = json.JSONDecoder(parse_int=len, parse_float=len, parse_constant=_refuse)
_BETWEEN = re.compile(r"[ \t\n\r:,]*")


def _skip(text: str, place: int) -> int:
    found = _BETWEEN.match(text, place)
    return found.end() if found else place
