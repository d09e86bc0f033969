"""What a draft is."""

from collections.abc import Callable, Iterable
from typing import Protocol

from nextok.checks import check_whole
from nextok.core.query import Decoding
from nextok.core.request import Request
from nextok.sampling.sampler import Sampler

Propose = Callable[[], Decoding[list[int]]]
"""Guess below the request's tip; returns the guessed nodes, parents first. It may ask models, and may be empty."""


class Reader(Protocol):
    """All that a draft may know of a model: how much fits in it. Questions to it go through queries."""

    vocab_size: int
    context: int


class Lender(Protocol):
    """Anything that carries a model, such as a loaded LM."""

    @property
    def model(self) -> Reader:
        """The model that guesses."""
        ...


class Draft(Protocol):
    """A way to guess: a frozen record of its settings, which may remember what it has seen of one request."""

    def begin(self, request: Request, sampler: Sampler) -> Propose:
        """Start guessing for `request`, whose tokens the target will draw with `sampler`."""
        ...


def nothing() -> Decoding[list[int]]:
    """No guesses."""
    yield from ()
    return []


def check_max_draft(max_draft: int) -> None:
    """ValueError unless `max_draft` is a sensible number of tokens."""
    check_whole("max_draft", max_draft, 1, 64)


def checked_lender(lm: Lender) -> Lender:
    """`lm` itself, if it has a model to lend."""
    if not hasattr(lm, "model"):
        raise ValueError(f"lm must be a loaded model, as from nextok.load(...), got {lm!r}")
    return lm


def laid_out(request: Request, tokens: Iterable[int]) -> list[int]:
    """The nodes of a guessed chain below the tip, up to the first token that the request's rules forbid."""
    nodes, node = list[int](), request.tip
    for token in tokens:
        if not request.permits(node, token):
            break
        node = request.tree.add(node, token)
        nodes.append(node)
    return nodes


def shared_ids(request: Request, model: Reader) -> int:
    """How many token ids mean something to both models: either may have more rows, padded to a round number."""
    return min(model.vocab_size, request.limits.vocab_size or model.vocab_size)
