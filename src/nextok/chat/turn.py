"""One answer of a chat: the prompt before it, the form that it must have, and how it is read."""

import codecs
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nextok.chat.answer import AnswerReader
from nextok.chat.families import Family, Thinking, find_family, find_thinking
from nextok.chat.forced import ForcedCalls, force_calls
from nextok.chat.marks import Marks
from nextok.chat.prompt import write_prompt
from nextok.chat.settings import read_tools
from nextok.checks import check_flag
from nextok.errors import TemplateError
from nextok.grammar.grammar import Grammar
from nextok.text.tokenizer import Tokenizer

CHOICES = '"auto", "none", "required" or {"type": "function", "function": {"name": ...}}'


@dataclass(frozen=True, slots=True)
class ChatTurn:
    """`ids`: the token ids of `prompt`, with the marks that open a forced call. `grammar`: what that call must be."""

    ids: list[int]
    grammar: Grammar | None
    tokenizer: Tokenizer
    tools: list[dict[str, Any]]
    family: Family | None
    thinking: Thinking | None
    opened: str = ""
    prompt: str = ""

    def open_reader(self) -> AnswerReader | None:
        """What reads an answer piece by piece; None where all of it is content."""
        if self.family is None and self.thinking is None:
            return None
        return AnswerReader(self.family, self.thinking, self.tools, opened=self.opened)

    def read(self, text: str, tokens: Sequence[int]) -> dict[str, Any]:
        """A whole answer as a message in OpenAI's form. `text` is shorter than its tokens before a stop string."""
        reader, left = self.open_reader(), len(text)
        if reader is None:
            return {"role": "assistant", "content": text}
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        ended: list[int] = []  # tokens since the last piece: inside a character they wait for its end, as in a stream
        for token in tokens:
            data = self.tokenizer.token_bytes[token] if token < len(self.tokenizer.token_bytes) else b""
            part = decoder.decode(data)
            ended.append(token)
            if part or not decoder.getstate()[0]:
                reader.feed(part[:left], ended)
                ended.clear()
            left = max(0, left - len(part))
        reader.feed(decoder.decode(b"", True)[:left], ended)
        reader.finish()
        return reader.message()


def begin_turn(
    marks: Marks,
    messages: Any,
    *,
    tools: Any = None,
    tool_choice: Any = "auto",
    parallel_tool_calls: bool = True,
    **template: Any,
) -> ChatTurn:
    """The turn that answers these messages; see `write_prompt` for `template`.

    ValueError or TemplateError where something is wrong with them, with the tools, or with what must be called.
    """
    check_flag("parallel_tool_calls", parallel_tool_calls)
    name, is_forced = _read_choice(tool_choice)
    given = (read_tools(tools) or []) if tool_choice != "none" else []
    if is_forced and not given:
        raise ValueError("tool_choice wants a call, but there are no tools: give some, or leave tool_choice out")
    tokenizer = marks.tokenizer
    prompt = write_prompt(marks, messages, tools=given or None, **template)
    family = find_family(tokenizer.chat_template, tokenizer) if given else None
    thinking = find_thinking(tokenizer.chat_template, tokenizer, prompt.text)
    if not is_forced:
        return ChatTurn(prompt.ids, None, tokenizer, given, family, thinking, prompt=prompt.text)
    if family is None:
        raise TemplateError("how this model writes calls is not known, so none can be forced: leave tool_choice out")
    forced: ForcedCalls = force_calls(family, given, name, parallel_tool_calls)
    # Reasoning that the template has begun ends before a forced call.
    opening = (f"\n{thinking.closing}\n\n" if thinking and thinking.begun else "") + forced.opening
    ids = [*prompt.ids, *tokenizer.encode_chat(opening)]
    return ChatTurn(ids, forced.grammar, tokenizer, given, family, None, forced.opening, prompt.text + opening)


def _read_choice(choice: Any) -> tuple[str | None, bool]:
    """The name of the function to be called, if it is named, and whether there must be a call."""
    if choice in ("auto", "none", "required"):
        return None, choice == "required"
    if isinstance(choice, Mapping) and choice.get("type") == "function":
        function = choice.get("function")
        name = function.get("name") if isinstance(function, Mapping) else None
        if isinstance(name, str):
            return name, True
    raise ValueError(f"tool_choice must be {CHOICES}, got {' '.join(f'{choice!r:.80}'.split())}")
