"""What a draft is."""

from collections.abc import Callable, Generator
from typing import Any, Protocol, runtime_checkable

from nextok.checks import check_whole
from nextok.core.query import Decoding
from nextok.core.request import Request
from nextok.errors import NextokError
from nextok.sampling.sampler import Sampler

Propose = Callable[[], Decoding[list[int]]]
"""Guess below the request's tip: returns the guessed nodes, each after its parent, or none. May ask draft models."""


class Reader(Protocol):
    """All that a draft may know of a model: how much fits in it. Questions to it go through queries."""

    vocab_size: int
    context: int


@runtime_checkable
class HasModel(Protocol):
    """Anything that carries a model, such as a loaded LM."""

    @property
    def model(self) -> Reader:
        """The model that guesses."""
        ...


@runtime_checkable
class Begins(Protocol):
    """All that Speculate needs of a draft."""

    def begin(self, request: Request, sampler: Sampler) -> Propose:
        """As in Draft."""
        ...


class Draft:
    """A way to guess: a frozen record of its settings. What it does wrong costs speed, never the text.

    A plain class with a `begin` method is a draft too, one that asks no model.
    """

    def begin(self, request: Request, sampler: Sampler) -> Propose:
        """Start guessing for `request`, whose tokens the target will draw with `sampler`.

        Called once for each request, before its first pass; what is remembered of a request lives in the Propose,
        which is called before each later pass. Neither may call `commit` or `finish`.
        """
        raise NotImplementedError(f"{type(self).__name__} must have a method begin(request, sampler)")

    def models(self) -> tuple[HasModel, ...]:
        """What it takes draft models from: their vocabulary must be the target's."""
        return ()


def models_of(draft: Any) -> tuple[HasModel, ...]:
    """What a draft takes models from: of a plain class, nothing; ValueError for what is no draft."""
    if isinstance(draft, Draft):
        return draft.models()
    if isinstance(draft, type) or not isinstance(draft, Begins):
        raise ValueError(f"draft must be PromptLookup(), DraftModel(lm) or TokenTree(lm), got {draft!r}")
    return ()


def check_steps(steps: Any) -> Generator[Any, Any, Any]:
    """What `propose` has returned; NextokError unless it is a generator."""
    if not isinstance(steps, Generator):
        raise NextokError(
            f"propose must be a generator, got {steps!r:.80}; one that asks nothing begins with: yield from ()"
        )
    return steps


def check_max_draft(max_draft: int) -> None:
    """ValueError unless `max_draft` is a sensible number of tokens."""
    check_whole("max_draft", max_draft, 1, 64)


def check_has_model(lm: Any) -> None:
    """ValueError unless `lm` carries a model."""
    if isinstance(lm, type) or not isinstance(lm, HasModel):
        raise ValueError(f"lm must be a loaded model, as from nextok.load(...), got {lm!r}")
