"""Text that must follow a grammar: choices, a regular expression, a JSON schema, or a context-free grammar."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from nextok.grammar.matching import CompiledGrammar, compile_grammar, find_fault, import_llguidance
from nextok.grammar.schema import translate_schema
from nextok.text.tokenizer import Tokenizer

LONGEST = {"choices": 1 << 18, "regex": 10_000, "json_schema": 1 << 16, "lark": 1 << 16, "gbnf": 1 << 16}
"""Largest number of characters of the source, for each kind of grammar."""
MOST_CHOICES = 10_000
"""Largest number of choices."""
MOST_RULES = 1000
"""Largest number of rules of a GBNF grammar, as the time to translate them is quadratic."""
DEEPEST_SCHEMA = 60
"""Largest number of levels of a JSON schema."""
MOST_PROPERTIES = 1000
"""Largest number of members of one object of a schema, as the time to compile them is quadratic."""


@dataclass(frozen=True, slots=True)
class Grammar:
    """The form that a text must have: tokens that would break it are masked, and the text ends when nothing else
    fits.

    Made by `choices`, `regex`, `json_schema`, `lark` or `gbnf`. ValueError if it is wrong, too large or too complex;
    NextokError where llguidance, the library that reads it, is not installed. A text that is cut by `max_tokens`, a
    stop string or a stop token inside it is the beginning of one that follows the grammar.
    """

    kind: str
    source: str

    def __post_init__(self) -> None:
        if self.kind not in _FORMS:
            raise ValueError(f"a grammar must be made by Grammar.{', .'.join(_FORMS)}, got {self.kind!r}")
        _check_size(f"a grammar ({self.kind})", self.source, LONGEST[self.kind])
        if reason := find_fault(self.to_llguidance()):
            raise ValueError(f"the grammar ({self.kind}) {self.source!r:.60} cannot be used: {reason}")

    @classmethod
    def choices(cls, texts: Iterable[str]) -> "Grammar":
        """One of these texts."""
        listed = [texts] if isinstance(texts, str) else list(texts)
        if isinstance(texts, str) or not listed or not all(isinstance(text, str) and text for text in listed):
            raise ValueError(f"choices must be a list of texts, none of them empty, got {texts!r:.80}")
        if len(listed) > MOST_CHOICES:
            raise ValueError(f"choices must be at most {MOST_CHOICES:,} texts, got {len(listed):,}; use a regex")
        return cls("choices", json.dumps(list(dict.fromkeys(listed)), ensure_ascii=False))

    @classmethod
    def regex(cls, pattern: str) -> "Grammar":
        """A text that the whole pattern matches.

        The syntax is that of Rust's `regex`: Python's without lookaround and back-references; `.` is any character
        but a newline, and `\\d` any digit of Unicode, as in Python.
        """
        return cls("regex", pattern)

    @classmethod
    def json_schema(cls, schema: Mapping[str, Any] | bool | str) -> "Grammar":
        """JSON that fits a schema (Draft 2020-12), given as a dict or as JSON text; keys come in the schema's order.

        A text that ends validates with the library `jsonschema`, its formats too. ValueError for a schema of which
        that could not be guaranteed, or that no text fits: it names the place, as a JSON pointer. White space is as
        `json.dumps` writes it. As in every JSON schema, other properties are allowed unless `additionalProperties` is
        false, and those that are not `required` may be missing.
        """
        return cls("json_schema", schema if isinstance(schema, str) else _dump_schema(schema))

    @classmethod
    def lark(cls, text: str) -> "Grammar":
        """A context-free grammar in llguidance's variant of the Lark syntax; its first rule is named `start`.

        Control tokens of the model cannot be a part of the text.
        """
        return cls("lark", text)

    @classmethod
    def gbnf(cls, text: str) -> "Grammar":
        """A context-free grammar in the notation of llama.cpp; its first rule is named `root`."""
        return cls("gbnf", text)

    def to_llguidance(self) -> str:
        """The grammar as llguidance reads it; ValueError if it is not of its kind."""
        # The library would force tokens as an encoder cuts them, where other rules may want other tokens.
        return _FORMS[self.kind](self.source) + '\n%llguidance {"no_forcing": true}\n'

    def compile(self, tokenizer: Tokenizer, vocab_size: int, ends: frozenset[int]) -> CompiledGrammar:
        """The grammar over one vocabulary; a complete text is followed by one of the tokens `ends`.

        ValueError if there is no such token, or none with which a text could begin.
        """
        if not ends:
            raise ValueError(
                "a text that follows a grammar ends with an end token, but there is none: "
                "leave out ignore_eos, or name one in stop_token_ids"
            )
        return compile_grammar(self.to_llguidance(), tokenizer, vocab_size, ends)


def _check_size(name: str, text: Any, most: int) -> None:
    if not isinstance(text, str) or not text:
        raise ValueError(f"{name} must be text and not empty, got {text!r:.80}")
    if len(text) > most:
        raise ValueError(f"{name} must have at most {most:,} characters, got {len(text):,}; write it shorter")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} must be Unicode text, but has half a character (a lone surrogate)") from None


def _dump_schema(schema: Any) -> str:
    try:
        return json.dumps(schema, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"a JSON schema must be a dict that JSON can hold: {error}") from None


def _translate_choices(source: str) -> str:
    return "start: /" + "|".join("".join(map(_escape, text)) for text in json.loads(source)) + "/"


def _escape(character: str) -> str:
    """A character for itself in a regular expression."""
    return character if character.isalnum() else f"\\x{{{ord(character):x}}}"


def _translate_regex(source: str) -> str:
    if (len(source) - len(source.rstrip("\\"))) % 2:  # the library would leave that backslash out
        raise ValueError(f"the regex {source!r:.60} ends with a backslash that escapes nothing")
    return f"start: /{import_llguidance().regex_to_lark(source, '')}/"


@lru_cache(maxsize=64)
def _translate_json_schema(source: str) -> str:
    try:
        schema = json.loads(source)
    except RecursionError:
        raise _make_depth_error() from None
    except ValueError as error:
        raise ValueError(f"a JSON schema must be JSON: {error}") from None
    if not isinstance(schema, dict | bool):
        raise ValueError(f"a JSON schema must be an object, got {schema!r:.60}")
    level: list[Any] = [schema]
    for _ in range(DEEPEST_SCHEMA):
        for each in level:
            if isinstance(each, dict) and len(each) > MOST_PROPERTIES:
                raise ValueError(
                    f"an object of a JSON schema may have {MOST_PROPERTIES:,} members, got {len(each):,}"
                )
        level = [inner for each in level for inner in _list_inside(each)]
    if level:
        raise _make_depth_error()
    return translate_schema(schema)


@lru_cache(maxsize=64)
def _translate_gbnf(source: str) -> str:
    if (rules := source.count("::=")) > MOST_RULES:
        raise ValueError(f"a GBNF grammar may have {MOST_RULES:,} rules, got {rules:,}")
    import_llguidance()
    from llguidance.gbnf_to_lark import any_to_lark

    try:
        return str(any_to_lark(source))
    except RecursionError:
        raise ValueError("a GBNF grammar is nested too deeply; give its parts rules of their own") from None
    except Exception as error:  # the library's own kinds of errors share no class
        reason = " ".join(str(error).split())
        raise ValueError(f"the grammar {source!r:.60} is not GBNF: {reason:.200}") from None


def _make_depth_error() -> ValueError:
    return ValueError(f"a JSON schema may be nested {DEEPEST_SCHEMA} deep; name its parts in $defs, and use $ref")


def _list_inside(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []


_FORMS: dict[str, Callable[[str], str]] = {
    "choices": _translate_choices,
    "regex": _translate_regex,
    "json_schema": _translate_json_schema,
    "lark": str,
    "gbnf": _translate_gbnf,
}
