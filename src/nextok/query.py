"""The only question a strategy can ask: score these nodes, and read the scores like this.

Decisions come home, logits do not: a reply holds tokens and log-probabilities, never a row of the vocabulary.
"""

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from nextok.events import Chosen, Event
from nextok.sampling.transforms import Sampler, Transform

TARGET = "target"
"""The model whose text is being written; any other model in a query is the model object itself."""


class Candidate(NamedTuple):
    """A possible next token and its natural log-probability."""

    token: int
    logprob: float


@dataclass(frozen=True, slots=True)
class Choice:
    """The token at one node; its raw log-probability and the best alternatives where they were asked for."""

    token: int
    logprob: float | None = None
    top: tuple[Candidate, ...] = ()


@dataclass(frozen=True, slots=True)
class Pick:
    """Draw one token from the node's scores. Reply: a Choice."""

    sampler: Sampler


@dataclass(frozen=True, slots=True)
class Top:
    """The `count` most probable tokens after the transforms, best first, ties by lowest id. Reply: Candidates."""

    count: int
    transforms: tuple[Transform, ...] = ()


@dataclass(frozen=True, slots=True)
class Score:
    """How probable a given token is. Reply: a Choice with that token."""

    token: int


Read = Pick | Top | Score


@dataclass(frozen=True, slots=True)
class Query:
    """Score these nodes with one model; `reads` has one entry for each node, or a single one for all."""

    nodes: tuple[int, ...]
    reads: tuple[Read, ...]
    model: object = TARGET

    def read(self, index: int) -> Read:
        """How the node at `index` is read."""
        return self.reads[index if len(self.reads) > 1 else 0]


@dataclass(frozen=True, slots=True)
class Row:
    """One readout of one row of logits, with everything a backend needs to know for it."""

    index: int  # of the row, counted over all feeds of the pass in their order
    read: Read
    seed: int
    position: int  # of the token to be chosen, in its whole path
    forbidden: frozenset[int] = frozenset()  # tokens that may not be chosen here
    logprobs: int | None = None  # how many alternatives to report; None: no log-probabilities at all


T = TypeVar("T")
Decoding = Generator[Query | Event, Any, T]
"""A strategy in flight: it yields questions and events; a question is answered by {node: reply}."""


def pick(nodes: Iterable[int], sampler: Sampler, model: object = TARGET) -> Decoding[dict[int, int]]:
    """One token for each node, as {node: token}; log-probabilities, if the request wants any, leave as events."""
    choices = yield Query(tuple(nodes), (Pick(sampler),), model)
    for node, choice in choices.items():
        if choice.logprob is not None and model is TARGET:
            yield Chosen(node, choice.token, choice.logprob, choice.top)
    return {node: choice.token for node, choice in choices.items()}


def top(
    nodes: Iterable[int], count: int, transforms: tuple[Transform, ...] = (), model: object = TARGET
) -> Decoding[dict[int, list[Candidate]]]:
    """The `count` best continuations of each node, as {node: [Candidate]}."""
    candidates: dict[int, list[Candidate]] = yield Query(tuple(nodes), (Top(count, transforms),), model)
    return candidates


def score(nodes: Sequence[int], tokens: Sequence[int]) -> Decoding[dict[int, Choice]]:
    """The Choice of each token under its node, as {node: Choice}."""
    choices: dict[int, Choice] = yield Query(tuple(nodes), tuple(Score(token) for token in tokens))
    return choices
