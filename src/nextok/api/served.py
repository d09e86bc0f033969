"""A model as requests see it: its name, its drafts, and what decodes when a request names nothing."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from nextok.drafts.base import Draft
from nextok.errors import NextokError
from nextok.grammar.grammar import Grammar
from nextok.lm import LM

OPENAI_DEFAULTS = {"temperature": 1.0, "top_p": 1.0}
"""What a request that names neither is decoded with, as by OpenAI."""


@dataclass(frozen=True)
class Served:
    """`drafts`: by name. `defaults`: of fields that shape the draw. `strict`: refuse fields that change nothing."""

    lm: LM
    name: str
    drafts: Mapping[str, Draft] = field(default_factory=dict)
    defaults: Mapping[str, float] = field(default_factory=lambda: OPENAI_DEFAULTS)
    strict: bool = False

    def warm_up(self) -> None:
        """Build what the first request of a kind would wait for: the vocabulary as grammars see it."""
        tokenizer = self.lm.tokenizer
        with suppress(NextokError, ValueError):  # without the library for grammars, or without an end token
            Grammar.choices(["a"]).compile(tokenizer, self.lm.model.vocab_size, tokenizer.eos_ids)
