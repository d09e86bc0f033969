"""The parts of a `tokenizer.json` that the `tokenizers` library may run: those known to stay small and fast.

A file chooses among the library's steps and gives them parameters. Some choices multiply the text at each step, run a
regular expression that takes very long, or abort the process; no published vocabulary needs such a choice.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from nextok.errors import ModelFileError
from nextok.formats.files import quote
from nextok.text.pretokenizers import PUBLISHED_PATTERNS

MOST_STEPS = 8
"""Largest number of steps of a sequence."""
MOST_PIECES = 16
"""Largest number of pieces of a template, and of ids of one of its tokens."""
MOST_NAMED = 64
"""Largest number of tokens of a template."""
LONGEST_CONSTANT = 16
"""Largest number of characters of a constant text."""

Rule = tuple[str, Callable[[Any], bool]]
"""What a setting must be, in words, and a function that tells whether a value is that."""
Allowed = Mapping[str, Mapping[str, Rule]]
"""For each kind of step, the rule of each setting."""


def _is_constant(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST_CONSTANT


def _is_text(value: Any) -> bool:
    return isinstance(value, dict) and [*value] == ["String"] and _is_constant(value["String"])


def _is_pattern(value: Any) -> bool:
    return _is_text(value) or any(value == {"Regex": pattern} for pattern in PUBLISHED_PATTERNS)


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= MOST_PIECES


def _is_single(value: Any) -> bool:
    return _is_list(value) and sum("Sequence" in piece for piece in value if isinstance(piece, dict)) == 1


def _is_named(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= MOST_NAMED
        and all(isinstance(each, dict) and _is_list(each.get("ids")) for each in value.values())
    )


def _allow_one_of(*choices: str) -> Rule:
    return f"one of {', '.join(choices)}", lambda value: value in choices


_FLAG: Rule = ("true or false", lambda value: value is None or type(value) is bool)
_COUNT: Rule = ("a small number", lambda value: type(value) is int and 0 <= value <= LONGEST_CONSTANT)
_CONSTANT: Rule = ("a short text", _is_constant)
_CHARACTER: Rule = ("one character", lambda value: isinstance(value, str) and len(value) == 1)
_CONTENT: Rule = ("a short text", lambda value: value == "" or _is_constant(value))
_TEXT: Rule = ("a short constant text", _is_text)
_PATTERN: Rule = ("a short constant text or the regular expression of a well-known family", _is_pattern)
_BEHAVIOR = _allow_one_of("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous")
_SINGLE: Rule = (f"at most {MOST_PIECES} pieces, one of them the text", _is_single)
_PAIR: Rule = (f"at most {MOST_PIECES} pieces", _is_list)
_NAMED: Rule = (f"at most {MOST_NAMED} tokens of at most {MOST_PIECES} ids", _is_named)

_BYTE_LEVEL = {"add_prefix_space": _FLAG, "trim_offsets": _FLAG, "use_regex": _FLAG}
_METASPACE = {
    "replacement": _CHARACTER,
    "prepend_scheme": _allow_one_of("first", "never", "always"),
    "split": _FLAG,
    "add_prefix_space": _FLAG,
    "str_rep": _CHARACTER,
}
_REPLACE = {"pattern": _TEXT, "content": _CONTENT}
_NORMALIZERS: Allowed = {
    "NFC": {},
    "NFD": {},
    "NFKC": {},
    "NFKD": {},
    "Prepend": {"prepend": _CONSTANT},
    "Replace": _REPLACE,
}
_PRE_TOKENIZERS: Allowed = {
    "ByteLevel": _BYTE_LEVEL,
    "Digits": {"individual_digits": _FLAG},
    "Metaspace": _METASPACE,
    "Punctuation": {"behavior": _BEHAVIOR},
    "Split": {"pattern": _PATTERN, "behavior": _BEHAVIOR, "invert": _FLAG},
}
_POST_PROCESSORS: Allowed = {
    "ByteLevel": _BYTE_LEVEL,
    "TemplateProcessing": {"single": _SINGLE, "pair": _PAIR, "special_tokens": _NAMED},
}
_DECODERS: Allowed = {
    "ByteLevel": _BYTE_LEVEL,
    "ByteFallback": {},
    "Fuse": {},
    "Metaspace": _METASPACE,
    "Replace": _REPLACE,
    "Strip": {"content": _CONSTANT, "start": _COUNT, "stop": _COUNT},
}
# For each part, the key under which a sequence keeps its steps, and the steps that are allowed.
PARTS: Mapping[str, tuple[str, Allowed]] = {
    "normalizer": ("normalizers", _NORMALIZERS),
    "pre_tokenizer": ("pretokenizers", _PRE_TOKENIZERS),
    "post_processor": ("processors", _POST_PROCESSORS),
    "decoder": ("decoders", _DECODERS),
}


def check_parts(content: Mapping[str, Any]) -> None:
    """ModelFileError for the first step of a `tokenizer.json` that is not known to be harmless."""
    for part, (inner, allowed) in PARTS.items():
        kinds = [_check_step(part, step, allowed) for step in _list_steps(content, part, inner)]
        if repeated := {kind for kind in kinds if kinds.count(kind) > 1} - {"Split", "Replace"}:
            raise ModelFileError(f"its {part} has {min(repeated)} twice, but nextok reads it once")


def _list_steps(content: Mapping[str, Any], part: str, inner: str) -> list[Any]:
    value = content.get(part)
    if value is None:
        return []
    steps = value.get(inner) if isinstance(value, dict) and value.get("type") == "Sequence" else [value]
    if not isinstance(steps, list) or len(steps) > MOST_STEPS:
        raise ModelFileError(f"its {part} is no list of at most {MOST_STEPS} steps, which is what nextok reads")
    return steps


def _check_step(part: str, step: Any, allowed: Allowed) -> str:
    kind = step.get("type") if isinstance(step, dict) else step
    if not isinstance(step, dict) or not isinstance(kind, str) or kind not in allowed:
        raise ModelFileError(f"its {part} has {quote(kind)}, but nextok reads {', '.join(allowed)} only")
    for name, value in step.items():
        if name == "type":
            continue
        if name not in allowed[kind]:
            raise ModelFileError(f"its {part} has {kind} with {quote(name)}, which nextok does not know")
        what, holds = allowed[kind][name]
        if not holds(value):
            raise ModelFileError(f"its {part} has {kind} with {name} {quote(value)}, but nextok reads {what} only")
    if kind == "Replace" and len(step.get("content", "")) > len(step.get("pattern", {}).get("String", "")):
        raise ModelFileError(f"its {part} makes text longer ({quote(step)}), but nextok reads Replace that does not")
    return kind


@contextmanager
def catch_panics() -> Iterator[None]:
    """Turn what the library raises for a damaged file into ModelFileError; its panics are no `Exception`."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:
        raise ModelFileError(f"it cannot be read ({quote(str(error))}): download it again") from None
