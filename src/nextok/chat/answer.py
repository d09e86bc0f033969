"""An answer as it streams, to content, reasoning and tool calls."""

import re
import secrets
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from nextok.chat.answer_events import AnswerEvent, CallArguments, CallBegun, Content, Reasoning
from nextok.chat.calls import Begun, CallReader, Part
from nextok.chat.families import Family, Thinking
from nextok.chat.json_calls import JsonReader, NamedReader
from nextok.chat.marked_calls import FUNCTION, MarkedReader, read_function, read_pairs

STEP = 1024
"""Number of characters that are read at once, so that the time to copy what is left of them stays linear."""
MOST_BETWEEN = 16
"""Largest number of characters, a semicolon and white space, between two bare calls."""
HALF = re.compile("[\ud800-\udfff]")


class AnswerReader:
    """Reads the pieces of one answer in order; `message()` is what their events, joined, amount to.

    Without `family` no calls are read, without `thinking` no reasoning. `tools`: OpenAI's tool objects; a call of
    another function stays content, as does all that only begins like a call. Arguments are told as they come where
    the function's name stands before them: such a call stays one, also if its end is missing or wrong. White space
    around calls and reasoning is dropped, and so are control tokens, which are no text. `opened`: marks that stand at
    the end of the prompt and belong to the answer, as of a forced call. Takes linear time, raises nothing, and how
    the text is cut into pieces makes no difference.
    """

    def __init__(
        self,
        family: Family | None = None,
        thinking: Thinking | None = None,
        tools: Iterable[Mapping[str, Any]] | None = None,
        opened: str = "",
        make_id: Callable[[], str] | None = None,
    ) -> None:
        self._tools = {each["function"]["name"]: each["function"].get("parameters") or {} for each in tools or ()}
        self._family = family if self._tools else None
        self._thinking = thinking
        self._make_id = make_id or self._draw_id
        # A half character stands for a control token: no text holds one.
        control = dict((*(family.control if family else ()), *(thinking.control if thinking else ())))
        self._signs = {token: chr(0xD800 + place) for place, token in enumerate(control.values())}
        self._spelled = {spelling: self._signs[token] for spelling, token in control.items()}
        self._content, self._reasoning = _Trimmer(), _Trimmer(drop=True)
        self._calls: list[_ToldCall] = []
        self._read = {True: self._read_reasoning, False: self._read_content}[bool(thinking and thinking.begun)]
        self._pending = ""
        self._is_start = True  # where reasoning or a bare call may begin
        self._call: CallReader | None = None
        self._tried: list[str] = []  # the text of what may be a call
        self._is_told = False  # whether it is one, some of which has been told
        self._events: list[AnswerEvent] = []
        for spelling, sign in self._spelled.items():
            opened = opened.replace(spelling, sign)
        self._run(opened)

    def feed(self, text: str, tokens: Sequence[int] = ()) -> list[AnswerEvent]:
        """The events of one more piece: its text, and its tokens, of which control tokens count."""
        if not text.isascii():
            text = HALF.sub("\ufffd", text)
        if self._signs:
            text += "".join([self._signs[token] for token in tokens if token in self._signs])
        self._run(text)
        return self._take()

    def finish(self) -> list[AnswerEvent]:
        """The events of what was held back, to be called when no more pieces come."""
        if self._call:
            self._end_call()
        rest, self._pending = self._pending, ""
        if self._read == self._read_reasoning:
            self._show_reasoning(rest)
        else:
            self._show(rest)
        if not self._calls and (space := self._content.show_space()):
            self._events.append(Content(space))
        return self._take()

    def message(self) -> dict[str, Any]:
        """The answer so far, as a message in OpenAI's form; `reasoning_content` and `tool_calls` if there are any."""
        content, reasoning = self._content.text, self._reasoning.text
        message: dict[str, Any] = {"role": "assistant", "content": content or (None if self._calls else "")}
        if reasoning:
            message["reasoning_content"] = reasoning
        if self._calls:
            message["tool_calls"] = [call.to_json() for call in self._calls]
        return message

    def _take(self) -> list[AnswerEvent]:
        events, self._events = self._events, []
        return events

    def _run(self, text: str) -> None:
        """Read on until more text is needed; each way to read returns the text that it leaves to the next one."""
        for place in range(0, len(text), STEP):
            rest: str | None = self._pending + text[place : place + STEP]
            self._pending = ""
            while rest:
                rest = self._read(rest)

    def _read_reasoning(self, text: str) -> str | None:
        assert self._thinking
        closing = self._spell(self._thinking.closing)
        before, found, after = text.partition(closing)
        if not found:
            before = self._hold(text, closing)
        self._show_reasoning(before)
        if found:
            self._read, self._content.drop = self._read_content, True
        return after

    def _read_content(self, text: str) -> str | None:
        if self._is_start:
            stripped = text.lstrip()
            self._show(text[: len(text) - len(stripped)])
            begun = self._read_start(stripped)
            if begun is not None:
                return begun
            text = stripped
        if not self._family:
            self._show(text)
            return None
        opening = self._spell(self._family.opening)
        before, found, after = text.partition(opening)
        if not found:
            self._show(self._hold(text, opening))
            return None
        self._show(before)
        self._begin_call(found)
        return after

    def _read_start(self, text: str) -> str | None:
        """What is left if reasoning or a bare call begins here, or if that is not certain yet; else None."""
        if not text:
            return ""
        if self._thinking and not self._calls:
            opening = self._spell(self._thinking.opening)
            if text.startswith(opening):
                self._is_start, self._read = False, self._read_reasoning
                return text.removeprefix(opening)
            if opening.startswith(text):
                self._pending = text
                return ""
        if self._family and self._family.form == "bare":
            rest = text[1:].lstrip() if self._calls and text[0] == ";" else text
            is_near = len(text) - len(rest) <= MOST_BETWEEN
            if not rest and is_near:
                self._pending = text
                return ""
            if rest[:1] == "{" and is_near:
                self._begin_call("")
                return rest
        self._is_start = False
        return None

    def _begin_call(self, opening: str) -> None:
        assert self._family
        family, tools = self._family, self._tools
        closing = self._spell(family.closing)
        if family.form == "xml":
            self._call = MarkedReader(closing, FUNCTION, partial(read_function, tools))
        elif family.form == "pairs":
            self._call = MarkedReader(closing, "", partial(read_pairs, tools))
        elif family.form in ("named", "list"):
            self._call = NamedReader(tools, self._spell("[ARGS]"), self._spell("[CALL_ID]"))
        else:
            self._call = JsonReader(tools)
        self._is_start, self._is_told, self._tried, self._read = False, False, [opening], self._read_call

    def _read_call(self, text: str) -> str | None:
        assert self._call
        end = self._call.feed(text)
        self._tell(self._call.take())
        if not self._is_told:
            self._tried.append(text[:end])
        if end is None:
            return None
        self._end_call()
        return text[end:]

    def _tell(self, parts: Iterable[Part]) -> None:
        """Tell more of the calls."""
        for part in parts:
            self._is_told = True
            if isinstance(part, Begun):
                self._calls.append(_ToldCall(self._make_id(), part.name))
                self._events.append(CallBegun(len(self._calls) - 1, self._calls[-1].id, part.name))
            elif part:
                self._calls[-1].arguments.append(part)
                self._events.append(CallArguments(len(self._calls) - 1, part))

    def _end_call(self) -> None:
        """Tell the rest of the calls that were read; if they are none, they were content."""
        assert self._call
        self._call.finish()
        self._tell(self._call.take())
        tried = "".join(self._tried)
        self._call, self._tried, self._read = None, [], self._read_content
        if not self._is_told:
            self._show(tried)
            return
        self._content.drop_space()
        self._read, self._is_start = self._read_closing, True

    def _read_closing(self, text: str) -> str | None:
        """The closing mark, which may be missing."""
        assert self._family
        text = text.lstrip()
        closing = self._spell(self._family.closing)
        if text and (len(text) < len(closing)) and closing.startswith(text):
            self._pending = text
            return None
        if text:
            self._read = self._read_content
        return text.removeprefix(closing)

    def _spell(self, mark: str) -> str:
        """A mark as it is found in the text: a half character if it is a control token."""
        return self._spelled.get(mark, mark)

    def _hold(self, text: str, mark: str) -> str:
        """The text without a beginning of `mark` at its end, which waits for more."""
        for length in range(min(len(mark) - 1, len(text)), 0, -1):
            if text.endswith(mark[:length]):
                self._pending = text[-length:]
                return text[:-length]
        return text

    def _show(self, text: str) -> None:
        if shown := self._content.add(_drop_signs(text)):
            self._events.append(Content(shown))

    def _show_reasoning(self, text: str) -> None:
        if shown := self._reasoning.add(_drop_signs(text)):
            self._events.append(Reasoning(shown))

    def _draw_id(self) -> str:
        length = self._family.id_length if self._family else None
        if length:
            return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(length))
        return f"call_{secrets.token_hex(12)}"


@dataclass(slots=True)
class _ToldCall:
    """A call as far as it has been told."""

    id: str
    name: str
    arguments: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """OpenAI's form."""
        function = {"name": self.name, "arguments": "".join(self.arguments)}
        return {"id": self.id, "type": "function", "function": function}


class _Trimmer:
    """Text of which white space at the end is held back, and with `drop` that before the next text is left out."""

    def __init__(self, drop: bool = False) -> None:
        self.drop = drop
        self._space: list[str] = []
        self._shown: list[str] = []

    @property
    def text(self) -> str:
        """All that was shown."""
        return "".join(self._shown)

    def add(self, text: str) -> str:
        """What can be shown now."""
        body = text.rstrip()
        space = text[len(body) :]
        if body:
            body = body.lstrip() if self.drop else "".join([*self._space, body])
            self._space, self.drop = [], False
            self._shown.append(body)
        if space and not self.drop:
            self._space.append(space)
        return body

    def drop_space(self) -> None:
        """Leave out the space held back, and what follows it."""
        self._space, self.drop = [], True

    def show_space(self) -> str:
        """The space held back, at the end of the text."""
        space, self._space = "".join(self._space), []
        self._shown.append(space)
        return space


def _drop_signs(text: str) -> str:
    return text if text.isascii() else HALF.sub("", text)
