"""How a model writes tool calls and reasoning, recognised by its chat template."""

from dataclasses import dataclass
from typing import Literal

from nextok.text.tokenizer import Tokenizer

Form = Literal["json", "xml", "glm", "list", "named", "bare"]


@dataclass(frozen=True, slots=True)
class Family:
    """One way to write a call: `opening`, the call in one `form`, `closing`.

    json: `{"name": ..., "arguments": ...}`; list: a list of those; named: `name[ARGS]{...}`; xml:
    `<function=name><parameter=key>value</parameter></function>`; glm: `name`, then
    `<arg_key>key</arg_key><arg_value>value</arg_value>`; bare: as json, and an answer may begin with it.
    `control`: the marks that are control tokens of the vocabulary, with their ids; all others are ordinary text.
    `arguments`: what the model calls them. `id_length`: number of characters of a call's id, where that is fixed.
    """

    name: str
    form: Form
    opening: str
    closing: str = ""
    arguments: str = "arguments"
    id_length: int | None = None
    control: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Thinking:
    """The marks around reasoning; `begun`: whether the prompt ends inside it."""

    begun: bool = False
    opening: str = "<think>"
    closing: str = "</think>"
    control: tuple[tuple[str, int], ...] = ()


THINKING = (("<think>", "</think>"), ("[THINK]", "[/THINK]"))
"""What opens and closes reasoning; the second as Magistral writes it."""
MARKS = ("<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "<|python_tag|>")


def find_family(template: str | None, tokenizer: Tokenizer) -> Family | None:
    """The way in which the model of this template writes tool calls; None if it has no tools or another way."""
    if not template or "tools" not in template:
        return None
    control = find_control(tokenizer, MARKS)
    if "<tool_call>" in template:
        marks = ("<tool_call>", "</tool_call>")
        if "<function=" in template:
            return Family("qwen3-coder", "xml", *marks, control=control)
        if "<arg_key>" in template:
            return Family("glm", "glm", *marks, control=control)
        return Family("hermes", "json", *marks, control=control)
    if "[TOOL_CALLS]" in template:
        form: Form = "named" if "[ARGS]" in template else "list"
        return Family("mistral", form, "[TOOL_CALLS]", id_length=9, control=control)
    if "<|python_tag|>" in template or '{"name": function name, "parameters"' in template:
        return Family("llama3", "bare", "<|python_tag|>", arguments="parameters", control=control)
    return None


def find_thinking(template: str | None, tokenizer: Tokenizer, prompt: str = "") -> Thinking | None:
    """The marks of reasoning that a template knows, and whether `prompt`, as rendered, ends inside it.

    None where there are none, or where the prompt has ended the reasoning already.
    """
    end = prompt.rstrip()
    for opening, closing in THINKING:
        if template and closing in template:
            control = find_control(tokenizer, (opening, closing))
            return None if end.endswith(closing) else Thinking(end.endswith(opening), opening, closing, control)
    return None


def find_control(tokenizer: Tokenizer, spellings: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    """Those of these spellings that are control tokens, with their ids."""
    found = {tokenizer.names[token]: token for token in tokenizer.control_ids}
    return tuple((spelling, found[spelling]) for spelling in spellings if spelling in found)
