"""The prompt, from an argument or from a pipe."""

import os
import sys
from collections.abc import Sequence

from nextok.errors import LimitError

MOST_BYTES = 16 << 20
"""Largest size of a text from a pipe, in bytes."""


def read_prompt(words: Sequence[str], advice: str = 'as in nextok "Why is the sky blue?"') -> str:
    """The text that was given, or that of stdin if there was none or it is `-`; ValueError, LimitError."""
    if len(words) > 1:
        raise ValueError(
            f"{' '.join(words[:3])!r} is {len(words)} arguments: put a text of several words in quotes"
            + (" (or did you mean `nextok models`?)" if words[0] == "model" else "")
        )
    if words and words[0] != "-":
        text = clean(words[0])
    elif sys.stdin is None or (not words and sys.stdin.isatty()):
        raise ValueError(f"there is no text: give one, {advice}, or pipe one in")
    else:
        text = _read_pipe()
    if not text:
        raise ValueError(f"the text is empty: give one, {advice}")
    return text


def clean(argument: str) -> str:
    """An argument as Unicode text; bytes that are no UTF-8 become U+FFFD."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        return os.fsencode(argument).decode("utf-8", "replace")
    return argument


def _read_pipe() -> str:
    data = sys.stdin.buffer.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise LimitError(f"stdin holds more than the {MOST_BYTES >> 20} MB allowed for a text: pipe in less")
    text = data.decode("utf-8-sig", "replace")
    return text.removesuffix("\n").removesuffix("\r")
