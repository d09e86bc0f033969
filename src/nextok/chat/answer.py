"""An answer as it streams, to content, reasoning and tool calls."""

import re
import secrets
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from nextok.chat.calls import CallReader, JsonReader, NamedReader
from nextok.chat.events import AnswerEvent, CallLog, Content, Reasoning
from nextok.chat.families import Family, Thinking
from nextok.chat.tagged import FUNCTION, TaggedReader, split_glm, split_xml

STEP = 1024
"""Number of characters that are read at once, so that the time to copy what is left of them stays linear."""
MOST_BETWEEN = 16
"""Largest number of characters, a semicolon and white space, between two bare calls."""
HALF = re.compile("[\ud800-\udfff]")


class AnswerReader:
    """Reads the pieces of one answer in order; `message()` is what their events, joined, amount to.

    Without `family` no calls are read, without `thinking` no reasoning. `tools`: OpenAI's tool objects; a call of
    another function stays content, as does all that only begins like a call. The arguments of a call are told as they
    come (nextok/chat/calls.py says from where on), those in tags once they are whole. White space around calls and
    reasoning is dropped, and so are control tokens, which are no text. `opened`: marks that stand at the end of the
    prompt and belong to the answer, as of a forced call. Takes linear time, raises nothing, and how the text is cut
    into pieces makes no difference.
    """

    def __init__(
        self,
        family: Family | None = None,
        thinking: Thinking | None = None,
        tools: Iterable[Mapping[str, Any]] | None = None,
        opened: str = "",
        make_id: Callable[[], str] | None = None,
    ) -> None:
        functions = {each["function"]["name"]: each["function"].get("parameters") or {} for each in tools or ()}
        self._family = family if functions else None
        self._thinking = thinking
        # A half character stands for a control token: no text holds one.
        control = dict((*(family.control if family else ()), *(thinking.control if thinking else ())))
        self._signs = {token: chr(0xD800 + place) for place, token in enumerate(control.values())}
        self._spelled = {spelling: self._signs[token] for spelling, token in control.items()}
        self._content, self._reasoning = _Trimmer(), _Trimmer(drop=True)
        self._events: list[AnswerEvent] = []
        self._calls = CallLog(functions, self._events, make_id or self._draw_id)
        # How the next text is read: reasoning, then content. An opening mark leads from content to a call, and the
        # end of a call to its closing mark, and back to content.
        self._read = {True: self._read_reasoning, False: self._read_content}[bool(thinking and thinking.begun)]
        self._pending = ""
        self._is_start = True  # where reasoning or a bare call may begin
        self._call: CallReader | None = None
        self._earlier = 0  # number of calls before the present opening mark
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
            message["tool_calls"] = self._calls.write()
        return message

    def _take(self) -> list[AnswerEvent]:
        events = self._events.copy()
        self._events.clear()
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
        calls, closing = self._calls, self._spell(self._family.closing)
        match self._family.form:
            case "xml":
                self._call = TaggedReader(calls, closing, [FUNCTION], split_xml)
            case "glm":
                self._call = TaggedReader(calls, closing, calls.tools, split_glm)
            case "named" | "list":
                self._call = NamedReader(calls, self._spell("[ARGS]"), self._spell("[CALL_ID]"))
            case "json" | "bare":
                self._call = JsonReader(calls)
        calls.held.append(opening)
        self._is_start, self._earlier, self._read = False, len(calls), self._read_call

    def _read_call(self, text: str) -> str | None:
        assert self._call
        end = self._call.feed(text)
        if end is None:
            return None
        self._end_call()
        return text[end:]

    def _end_call(self) -> None:
        """End what an opening mark began; what is held of it is content."""
        assert self._call
        self._call.finish()
        self._call, self._read = None, self._read_content
        if len(self._calls) > self._earlier:
            self._content.drop_space()
            self._read, self._is_start = self._read_closing, True
        if held := self._calls.take_held():
            self._show(held)
            self._read, self._is_start = self._read_content, False

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
