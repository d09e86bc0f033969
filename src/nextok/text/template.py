"""Chat messages to a prompt, by the template of the model."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from nextok.errors import TemplateError
from nextok.text.child import CHILD

MOST_SOURCE = 64 << 10
"""Largest number of characters of a template."""
MOST_CHARACTERS = 1 << 20
"""Largest number of characters of a prompt."""
SECONDS = 1.0
"""Longest time that a child process may compute, in seconds."""
SECONDS_TO_START = 20.0
"""Longest time that a child process may take to start on a very busy machine, in seconds."""
ENDED_BY_ALARM = -14
"""Status after SIGALRM, which Windows lacks: there only the time to start ends a child process."""

_ADVICE = "continue raw text instead (generate, or --raw on the command line)"


def render_chat(
    template: str | None,
    messages: Sequence[Mapping[str, Any]],
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    values: Mapping[str, Any] | None = None,
    bos_token: str = "",
    eos_token: str = "",
    add_generation_prompt: bool = True,
    now: datetime | None = None,
) -> str:
    """The prompt that a Jinja chat template makes of messages (`role`, `content`); TemplateError if it cannot.

    A template is a program of unknown origin. One that only iterates over messages is recognised and rendered here,
    in milliseconds; any other runs in a sandbox in a child process that the system ends after a time limit, since
    nothing else can interrupt C code. `values`: further variables of the template.
    Raises ValueError for messages that are no mappings of plain values.
    """
    if not template:
        raise TemplateError(f"this model has no chat template: {_ADVICE}")
    if len(template) > MOST_SOURCE:
        raise TemplateError(f"the chat template has more than {MOST_SOURCE:,} characters: {_ADVICE}")
    if isinstance(messages, str) or not all(isinstance(message, Mapping) for message in messages):
        raise ValueError('messages must be a list of mappings, such as {"role": "user", "content": "Hello"}')
    variables = {
        **(values or {}),
        "messages": list(messages),
        "tools": tools,
        "documents": None,
        "add_generation_prompt": add_generation_prompt,
        "bos_token": bos_token,
        "eos_token": eos_token,
    }
    plain = _to_plain_json(variables)  # so that a template never gets an object of the caller
    from nextok.text import plain as in_process

    now = now or datetime.now()
    text = None
    if len(plain) <= in_process.MOST_INPUT:
        text = in_process.render_plain(template, json.loads(plain), now, MOST_CHARACTERS)
    return text if text is not None else _render_in_child(template, json.loads(plain), now)


def _to_plain_json(values: Mapping[str, Any]) -> str:
    try:
        return json.dumps(values, default=dict)
    except (TypeError, ValueError, RecursionError):
        raise ValueError("messages must hold plain values only: strings, numbers, lists and mappings") from None


def _render_in_child(template: str, values: Mapping[str, Any], now: datetime) -> str:
    request = {
        "template": template,
        "values": values,
        "now": now.isoformat(),
        "characters": MOST_CHARACTERS,
        "seconds": SECONDS,
    }
    try:
        outcome = CHILD.render(json.dumps(request).encode(), SECONDS + SECONDS_TO_START)
    except OSError as error:
        raise TemplateError(f"the chat template could not be rendered ({_join_lines(error)}): {_ADVICE}") from None
    if outcome.get("status") == ENDED_BY_ALARM:
        raise TemplateError(f"the chat template took more than {SECONDS:g} s: {_ADVICE}")
    if "status" in outcome:
        raise TemplateError(f"the chat template broke its renderer (exit status {outcome['status']}): {_ADVICE}")
    if "error" in outcome:
        raise TemplateError(f"the chat template {_join_lines(outcome['error'])}: {_ADVICE}")
    return str(outcome["text"])


def _join_lines(message: object) -> str:
    return " ".join(str(message).split())[:300]
