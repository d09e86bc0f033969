"""What a reader tells of an answer, event by event, and the log of the calls in it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Content:
    """More of the answer's text."""

    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """More of what the model thinks before it answers."""

    text: str


@dataclass(frozen=True, slots=True)
class CallBegun:
    """A tool call begins; calls are counted from 0."""

    index: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    """More of the JSON text of a call's arguments."""

    index: int
    text: str


AnswerEvent = Content | Reasoning | CallBegun | CallArguments


class CallLog:
    """The calls of an answer so far. What was told of a call is never taken back.

    `tools`: the schema of the arguments of each function that may be called. `held`: text that was read as a call
    and is none so far.
    """

    def __init__(self, tools: Mapping[str, Any], events: list[AnswerEvent], make_id: Callable[[], str]) -> None:
        self.tools = tools
        self.held: list[str] = []
        self._events = events
        self._make_id = make_id
        self._calls: list[tuple[str, str, list[str]]] = []  # id, name, arguments

    def __len__(self) -> int:
        return len(self._calls)

    def begin(self, name: str) -> None:
        """A call of this function begins, and what was held was its beginning."""
        self.held.clear()
        call = (self._make_id(), name, list[str]())
        self._events.append(CallBegun(len(self), *call[:2]))
        self._calls.append(call)

    def add(self, arguments: str) -> None:
        """More of the arguments of the last call."""
        self._events.append(CallArguments(len(self) - 1, arguments))
        self._calls[-1][2].append(arguments)

    def take_held(self) -> str:
        """What is held, which is content after all."""
        held = "".join(self.held)
        self.held.clear()
        return held

    def write(self) -> list[dict[str, Any]]:
        """The calls in OpenAI's form."""
        return [
            {"id": made, "type": "function", "function": {"name": name, "arguments": "".join(arguments)}}
            for made, name, arguments in self._calls
        ]
