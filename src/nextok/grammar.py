"""Text that must follow a grammar: choices, a regular expression, a JSON schema, or a context-free grammar."""

from dataclasses import dataclass

from nextok.sampling.past import Past
from nextok.sampling.transforms import Allow
from nextok.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Grammar:
    """What a text may be."""

    kind: str
    source: str

    def compiled(self, tokenizer: Tokenizer, vocab_size: int) -> "Compiled":
        """The grammar over one vocabulary."""
        raise NotImplementedError


class Compiled:
    """A grammar over one vocabulary."""

    def begin(self) -> "Progress":
        """Follow one text."""
        raise NotImplementedError


class Progress:
    """How far one request's texts have come, node by node."""

    def at(self, past: Past) -> Allow | None:
        """The tokens that may come next."""
        raise NotImplementedError
