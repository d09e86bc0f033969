"""What may be a prompt, and how one bad prompt of many is told from the others."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from nextok.checks import is_whole

RULE = "a prompt must be a text or a list of token ids"
FIX = "give a text, a list of token ids, or a list of those"


@runtime_checkable
class Array(Protocol):
    """What arrays of numpy and torch have in common."""

    @property
    def shape(self) -> Sequence[int]:
        """The size of each dimension."""
        ...

    def tolist(self) -> Any:
        """The same as lists of Python's own numbers or texts."""
        ...


Prompt = str | Sequence[int] | Array
"""A text, or its token ids: a list, a tuple, a range, or a one-dimensional array of numpy or torch."""
Checked = str | list[int]
"""A prompt whose kind has been checked."""


def list_prompts(given: Any) -> tuple[bool, list[Any]]:
    """Whether this is one prompt, and the prompts in their order; ValueError if it is none at all.

    One prompt is a text or an iterable of ids, also an array of one dimension. An iterable of texts or of such
    iterables, also a generator, gives several, and `[]` gives none. What lies inside is checked by `encode_prompts`.
    """
    if isinstance(given, str):
        return True, [given]
    several = _list_items(given)
    if several and all(map(_is_no_prompt, several)):
        return True, [several]
    if any(isinstance(each, Mapping) and "role" in each for each in several):
        raise ValueError(f"{RULE}, got a list of messages: lm.chat(messages) answers those")
    return False, several


def check_prompt(prompt: Any) -> Checked:
    """One prompt as a str or a list of ids; ValueError unless it is a text or an iterable of whole numbers."""
    if isinstance(prompt, str):
        return prompt
    ids = _list_items(prompt)
    for each in ids:
        if type(each) is not int and not is_whole(each):
            raise ValueError(f"token ids must be whole numbers, got {_show(each)}; {FIX}")
    return ids


def encode_prompts(prompts: Sequence[Any], encode: Callable[[Checked], list[int]]) -> list[list[int] | Exception]:
    """For each prompt its token ids, or the exception that says what is wrong with it and which one it is.

    `encode` turns one prompt into ids and raises what is wrong with it, such as an id outside the vocabulary, or
    more tokens than the context holds. Places are counted from 0, as in the list.
    """
    return [_encode(prompt, encode, place) for place, prompt in enumerate(prompts)]


def _encode(prompt: Any, encode: Callable[[Checked], list[int]], place: int) -> list[int] | Exception:
    try:
        return encode(check_prompt(prompt))
    except Exception as error:
        return _name_place(error.with_traceback(None), place)  # a traceback would keep what its frames hold


def _name_place(error: Exception, place: int) -> Exception:
    """The same kind of exception, whose message begins with the place of the prompt."""
    message = f"prompt {place}: {error}"
    try:
        named = type(error)(message)
    except Exception:  # a kind that takes other arguments
        named = ValueError(message)
    named.__cause__ = error
    return named


def _list_items(given: Any) -> list[Any]:
    """What an iterable holds; ValueError with the fix if it is none, or one whose order or meaning is unclear."""
    if isinstance(given, Array):
        if len(given.shape) == 1:
            return list(given.tolist())
        fix = "; list(array) makes a prompt of each row" if len(given.shape) == 2 else f"; {FIX}"
        raise ValueError(f"an array of token ids must have one dimension, got shape {tuple(given.shape)}{fix}")
    if isinstance(given, bytes | bytearray | memoryview):
        raise ValueError(f"{RULE}, got bytes; a text must be a str, as in data.decode()")
    if isinstance(given, Mapping):
        raise ValueError(f"{RULE}, got a dict, {_show(dict(given))}; give one of its values, or a list of them")
    if isinstance(given, set | frozenset):
        raise ValueError(f"{RULE}, got a set, which has no order; give a list, as in sorted(prompts)")
    if not isinstance(given, Iterable):
        raise ValueError(f"{RULE}, got {_show(given)}; {FIX}")
    return list(given)


def _is_no_prompt(each: Any) -> bool:
    """Whether this can stand for one token id only: a number, of whatever kind, right or wrong."""
    if type(each) is int:
        return True
    if isinstance(each, Array):
        return not len(each.shape)
    return not isinstance(each, Iterable)


def _show(value: Any) -> str:
    return " ".join(f"{value!r:.80}".split())
