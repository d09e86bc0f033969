"""Messages to the token ids of a prompt, by the chat template of the model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nextok.chat.marks import Escape, Marks
from nextok.chat.messages import Message, read_messages, write_arguments
from nextok.chat.settings import read_template_values, read_tools
from nextok.checks import check_flag
from nextok.errors import TemplateError
from nextok.text.template import render_chat
from nextok.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """A conversation as the model reads it: its text, in which marks of messages look like any other, and its ids."""

    text: str
    ids: list[int]


def write_prompt(
    marks: Marks,
    messages: Any,
    *,
    tools: Any = None,
    chat_template_kwargs: Any = None,
    continue_final_message: bool = False,
    allow_special: bool = False,
) -> ChatPrompt:
    """The prompt that the template of a vocabulary makes of messages, up to where the model's answer begins.

    Marks (control tokens) in the texts of users, systems and tools, in `tools` and in `chat_template_kwargs` are
    plain text unless `allow_special`; those in the assistant's messages stay marks, as templates look for them.
    With `continue_final_message` the prompt ends in the last message, whose trailing space is kept unless the
    template trims it. ValueError for arguments of another shape, TemplateError if the template cannot render them.
    """
    check_flag("continue_final_message", continue_final_message)
    check_flag("allow_special", allow_special)
    read = read_messages(messages)
    given = read_tools(tools)
    values = read_template_values({} if chat_template_kwargs is None else chat_template_kwargs)
    template = marks.tokenizer.chat_template or ""
    if given and template and "tools" not in template:
        raise TemplateError(
            "the chat template of this model takes no tools: leave tools out, or say them in a message"
        )
    escape = Escape(marks, [read, given, values], template)
    if not allow_special:
        read = [each if each["role"] == "assistant" else escape.hide(each) for each in read]
        given, values = escape.hide(given), escape.hide(values)

    def render(each: Sequence[Message], add_generation_prompt: bool) -> str:
        return _render(marks.tokenizer, each, given, values, add_generation_prompt)

    text = _render_begun(read, render, escape.take()) if continue_final_message else render(read, True)
    if any("\ud800" <= letter <= "\udfff" for letter in {*text}):
        raise TemplateError("the chat template writes half a character (a lone surrogate), which is no text")
    pieces = escape.show(text)
    return ChatPrompt("".join(piece.text for piece in pieces), marks.encode(pieces))


def _render(
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    tools: list[dict[str, Any]] | None,
    values: dict[str, Any],
    add_generation_prompt: bool,
) -> str:
    """The rendered text; where the template fails on a tool call, with the arguments of calls as JSON text.

    Most templates want an object there and write it as JSON (Qwen, Llama, Mistral), DeepSeek's joins it to a text.
    """

    def render(each: Sequence[Message]) -> str:
        return render_chat(
            tokenizer.chat_template,
            each,
            tools=tools,
            values=values,
            bos_token="" if tokenizer.bos_id is None else tokenizer.spell(tokenizer.bos_id),
            eos_token="" if tokenizer.eos_id is None else tokenizer.spell(tokenizer.eos_id),
            add_generation_prompt=add_generation_prompt,
        )

    try:
        return render(messages)
    except TemplateError:
        written = write_arguments(messages)
        if written is None:
            raise
        try:
            return render(written)
        except TemplateError:
            pass
        raise


def _render_begun(messages: list[Message], render: Callable[[Sequence[Message], bool], str], end: str) -> str:
    """The text up to the end of the last message's content; `end`: a character that is nowhere in it."""
    last = messages[-1] if messages else {}
    begun = last.get("content")
    if last.get("role") != "assistant" or not isinstance(begun, str) or last.get("tool_calls"):
        raise ValueError(
            "continue_final_message goes on with the last message, which must be the assistant's, with content and "
            "without tool_calls"
        )
    # The space after the mark tells whether the template trims, as in transformers: then the prompt is trimmed too.
    text = render([*messages[:-1], {**last, "content": f"{begun}{end} "}], False)
    place = text.rfind(end)
    before = text[: max(place, 0)]
    if not text.startswith(f"{end} ", max(place, 0)):
        before = before.rstrip()
    if place < 0 or not before.rstrip().endswith(begun.strip()):
        raise TemplateError(
            "the chat template does not end in the content of the last message, so that it cannot be continued: "
            "leave continue_final_message out"
        )
    return before
