"""A model as requests see it: its name, its drafts, and what decodes when a request names nothing."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from nextok.api.errors import ApiError
from nextok.drafts.base import Draft
from nextok.errors import NextokError
from nextok.grammar.grammar import Grammar
from nextok.lm import LM

MOST_PER_TOKEN = 32
"""Characters for each token of the context that a prompt may have; a longer one takes seconds to cut into tokens."""
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

    def check_characters(self, count: int, name: str) -> None:
        """ApiError (400) for a text of so many characters that it is not worth cutting it into tokens."""
        if count > (most := MOST_PER_TOKEN * self.lm.model.context):
            line = f"{name} has {count:,} characters, and the model's context takes at most {most:,}"
            raise ApiError(400, line, name, "context_length_exceeded")

    def warm_up(self) -> None:
        """Build what the first request of a kind would wait for: the vocabulary as grammars see it."""
        tokenizer = self.lm.tokenizer
        with suppress(NextokError, ValueError):  # without the library for grammars, or without an end token
            Grammar.choices(["a"]).compile(tokenizer, self.lm.model.vocab_size, tokenizer.eos_ids)
