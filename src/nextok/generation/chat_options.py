"""What a caller may ask of a chat: how messages become a prompt, besides all that any generation takes."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypedDict

from nextok.generation.explain import explain_options
from nextok.generation.options import OPTIONS, CheckedOptions, GenerateOptions, Says


class TemplateOptions(TypedDict, total=False):
    """The keyword arguments of `LM.chat_ids`: type, default and meaning, written only here."""

    tools: Annotated[
        Sequence[Mapping[str, Any]] | None,
        Says(None, 'Functions that the model may call: {"type": "function", "function": {"name": ..., ...}} each.'),
    ]
    chat_template_kwargs: Annotated[
        Mapping[str, Any], Says({}, 'Variables of the chat template, such as {"enable_thinking": False}.')
    ]
    continue_final_message: Annotated[
        bool, Says(False, "The last message is the assistant's and is begun; the model goes on writing it.")
    ]
    allow_special: Annotated[
        bool, Says(False, "Control tokens written in messages count as such; otherwise text is only text.")
    ]


class TurnOptions(TemplateOptions, total=False):
    """The keyword arguments of `LM.begin_chat`."""

    tool_choice: Annotated[
        str | Mapping[str, Any],
        Says("auto", '"none", "required", or the one to call: {"type": "function", "function": {"name": ...}}.'),
    ]
    parallel_tool_calls: Annotated[bool, Says(True, "A forced answer may have several calls.")]


class ChatOptions(GenerateOptions, TurnOptions, total=False):
    """The keyword arguments of `LM.chat` and `Conversation.ask`."""


def split_options(options: ChatOptions) -> tuple[TurnOptions, CheckedOptions]:
    """The options of the prompt, which its writer checks, and those of the generation, checked; ValueError."""
    given: dict[str, Any] = {**options}
    prompt: Any = {name: given.pop(name) for name in TurnOptions.__annotations__ if name in given}
    if unknown := {name: value for name, value in given.items() if name not in OPTIONS}:
        raise ValueError(explain_options(unknown, [*TurnOptions.__annotations__, *OPTIONS]))
    return prompt, CheckedOptions(**given)
