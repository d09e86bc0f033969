"""What a caller may give a template besides messages: tools, and values for its variables."""

import re
from collections.abc import Mapping
from typing import Any

from nextok.chat.values import PlainCopier

MOST_TOOLS = 128
MOST_TOOL_CHARACTERS = 256 << 10
"""Largest number of characters of all tools together."""
MOST_NAMES = 32
"""Largest number of `chat_template_kwargs`."""
MOST_VALUE_CHARACTERS = 4 << 10
"""Largest number of characters of all `chat_template_kwargs` together, names included."""
MOST_ITEMS = 256
"""Largest number of values of all `chat_template_kwargs` together."""
SCALARS = (str, int, float, bool, type(None))

OWNED = frozenset(
    (
        *("messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token"),
        *("continue_final_message", "chat_template", "tokenize", "return_dict", "allow_special"),
        *("range", "dict", "namespace", "raise_exception", "strftime_now", "loop", "self", "caller", "varargs"),
        *("kwargs", "true", "false", "none", "True", "False", "None"),
    )
)
"""Names in a template that belong to the renderer or to the language."""


def read_tools(tools: Any) -> list[dict[str, Any]] | None:
    """Plain copies of OpenAI's tool objects; None if there is none; ValueError that says the place of a wrong one."""
    if tools is None:
        return None
    if not isinstance(tools, list | tuple):
        raise ValueError(f"tools must be a list of tool objects, got {type(tools).__name__}")
    if len(tools) > MOST_TOOLS:
        raise ValueError(f"tools must be at most {MOST_TOOLS}, got {len(tools)}: leave some out")
    copier = PlainCopier("tools", MOST_TOOL_CHARACTERS)
    read = [_read_tool(tool, f"tool {place}", copier) for place, tool in enumerate(tools)]
    names = [tool["function"]["name"] for tool in read]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"each tool needs a name of its own, but {min(twice)!r} is there twice")
    return read or None


def _read_tool(given: Any, place: str, copier: PlainCopier) -> dict[str, Any]:
    tool = copier.copy(given, place)
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict) or tool.get("type") != "function":
        raise ValueError(
            f'{place}: a tool is {{"type": "function", "function": {{"name": ..., "description": ..., '
            f'"parameters": {{...}}}}}}, got {" ".join(repr(tool).split())[:60]}'
        )
    name, parameters = function.get("name"), function.get("parameters")
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name):
        raise ValueError(f"{place}: its name must be 1 to 64 of the characters A-Z a-z 0-9 _ . -, got {name!r:.80}")
    if not isinstance(function.get("description"), str | None):
        raise ValueError(f"{place}: its description must be a text, got {function['description']!r:.60}")
    if not isinstance(parameters, dict | None):
        raise ValueError(f"{place}: its parameters must be a JSON schema, which is an object, got {parameters!r:.60}")
    return tool  # type: ignore[no-any-return]


def read_template_values(values: Any) -> dict[str, Any]:
    """A plain copy of `chat_template_kwargs`; ValueError for names and values that a template may not get."""
    if not isinstance(values, Mapping):
        raise ValueError(
            f'chat_template_kwargs must be a mapping as in {{"enable_thinking": False}}, got {values!r:.60}'
        )
    if len(values) > MOST_NAMES:
        raise ValueError(f"chat_template_kwargs must be at most {MOST_NAMES} names, got {len(values)}")
    for name, value in values.items():
        _check_name(name)
        items = value if isinstance(value, list | tuple) else [value]
        if bad := [each for each in items if not isinstance(each, SCALARS)]:
            raise ValueError(
                f"chat_template_kwargs: {name} must be a text, a number, True, False, None or a list of those, "
                f"got {type(bad[0]).__name__}"
            )
    copier = PlainCopier("chat_template_kwargs", MOST_VALUE_CHARACTERS, MOST_ITEMS)
    return {name: copier.copy(values[name], f"chat_template_kwargs: {name}") for name in values}


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,63}", name):
        raise ValueError(f"chat_template_kwargs: a name is a letter, then letters, digits or _, got {name!r:.80}")
    if name in OWNED:
        raise ValueError(
            f"chat_template_kwargs: {name} belongs to the renderer; choose among the template's own names"
        )
