"""Messages of a conversation: checked, copied, and in the one form that templates expect."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from nextok.chat.values import PlainCopier

MOST_CHARACTERS = 4 << 20
"""Largest number of characters of all messages together; a prompt has fewer still (text/template.py)."""
EXAMPLE = '{"role": "user", "content": "Hello"}'
Message = dict[str, Any]


def read_messages(messages: Any) -> list[Message]:
    """Plain copies of the messages; ValueError that says the place of the first wrong one, counted from 0.

    Text parts are joined, and the arguments of a tool call are an object whether they came as one or as JSON text. A
    text stands for one message of the user.
    """
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    if isinstance(messages, bytes) or not isinstance(messages, Sequence):
        raise ValueError(f"messages must be a list of mappings, such as {EXAMPLE}, got {_show(messages)}")
    copier = PlainCopier("messages", MOST_CHARACTERS)
    return [_read_message(message, f"message {place}", copier) for place, message in enumerate(messages)]


def write_arguments(messages: Sequence[Message]) -> list[Message] | None:
    """The messages with the arguments of each tool call as JSON text, which some templates want; None without any."""
    calls = [call for message in messages for call in message.get("tool_calls") or ()]
    if not any(isinstance(_get_function(call).get("arguments"), dict) for call in calls):
        return None
    written: list[Message] = json.loads(json.dumps(messages))
    for message in written:
        for call in message.get("tool_calls") or ():
            function = _get_function(call)
            if isinstance(function.get("arguments"), dict):
                function["arguments"] = json.dumps(function["arguments"], ensure_ascii=False)
    return written


def _read_message(given: Any, place: str, copier: PlainCopier) -> Message:
    if not isinstance(given, Mapping):
        raise ValueError(f"messages must be a list of mappings, such as {EXAMPLE}; {place} is {_show(given)}")
    message: Message = copier.copy(given, place)
    role = message.get("role")
    if not isinstance(role, str) or not role:
        raise ValueError(f"{place}: role must be a text such as 'user', got {_show(role)}")
    if message.get("tool_calls") in (None, []):
        message.pop("tool_calls", None)  # some templates take an empty list for calls
    else:
        message["tool_calls"] = _read_calls(message["tool_calls"], role, place)
    for name in ("name", "tool_call_id", "reasoning_content"):
        if not isinstance(message.get(name), str | None):
            raise ValueError(f"{place}: {name} must be a text, got {_show(message[name])}")
    if "content" in message:
        message["content"] = _join_parts(message["content"], place)
    if message.get("content") is None and not (message.get("tool_calls") or message.get("reasoning_content")):
        raise ValueError(f"{place}: a message of {role!r:.40} needs content, a text or a list of text parts")
    return message


def _join_parts(content: Any, place: str) -> str | None:
    if isinstance(content, str | None):
        return content
    if not isinstance(content, list):
        fix = "; write a tool's result as JSON text" if isinstance(content, dict) else ""
        raise ValueError(f"{place}: content must be a text or a list of text parts, got {_show(content)}{fix}")
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if not isinstance(kind, str):
            raise ValueError(f'{place}: a part of content is {{"type": "text", "text": ...}}, got {_show(part)}')
        if kind != "text":
            raise ValueError(f"{place}: a part of type {kind!r:.40} is no text, and text is all that is read here")
        if not isinstance(part.get("text"), str):
            raise ValueError(f"{place}: the text of a part must be a text, got {_show(part.get('text'))}")
    return "".join(part["text"] for part in content)


def _read_calls(calls: Any, role: str, place: str) -> list[Any]:
    if role != "assistant":
        raise ValueError(f"{place}: tool_calls belong to a message of the assistant, not of {role!r:.40}")
    if not isinstance(calls, list):
        raise ValueError(f"{place}: tool_calls must be a list, got {_show(calls)}")
    for call in calls:
        function = _get_function(call)
        if not isinstance(function.get("name"), str):
            raise ValueError(
                f'{place}: a tool call is {{"type": "function", "function": {{"name": ..., "arguments": ...}}}}, '
                f"got {_show(call)}"
            )
        arguments = function.get("arguments")
        if not isinstance(arguments, str | dict | None):
            raise ValueError(f"{place}: arguments must be a JSON text or an object, got {_show(arguments)}")
        function["arguments"] = _read_arguments(arguments) if isinstance(arguments, str) else arguments or {}
    return calls


def _get_function(call: Any) -> dict[str, Any]:
    """The part of a tool call that has name and arguments: OpenAI's form has it under `function`."""
    inner = call.get("function", call) if isinstance(call, dict) else {}
    return inner if isinstance(inner, dict) else {}


def _read_arguments(text: str) -> Any:
    """The object that the text stands for; the text itself if it is the JSON of no object."""
    if not text.strip():
        return {}
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_read_float)
        return PlainCopier("arguments", MOST_CHARACTERS).copy(value, "arguments") if type(value) is dict else text
    except (ValueError, RecursionError):
        return text


def _refuse(name: str) -> float:
    raise ValueError(name)


def _read_float(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse(text)


def _show(value: Any) -> str:
    try:
        return " ".join(f"{value!r:.60}".split())
    except Exception:  # an object of a caller may fail here, or be too deep
        return f"a {type(value).__name__}"
