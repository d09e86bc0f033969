"""What all beam searches share: how beams grow, when the search is over, and what is certain before that."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from heapq import heapify, heappop, heapreplace
from typing import Literal, NamedTuple

from nextok.checks import check_number, check_whole, is_number
from nextok.core.events import Beams, Finished, Hypothesis, Token
from nextok.core.query import Decoding
from nextok.core.request import Request
from nextok.core.tree import Tree
from nextok.errors import DeadEndError
from nextok.sampling.sampler import Sampler
from nextok.strategies.rescore import rescore

WIDEST = 256
"""Largest number of beams of one search."""


def check_width(width: int) -> None:
    """ValueError unless so many beams are possible."""
    check_whole("width", width, 1, WIDEST)


@dataclass(frozen=True, slots=True)
class Rules:
    """How a beam search goes: those of transformers 5, and `patience` (Kasai et al., arXiv 2204.05424)."""

    width: int
    length_penalty: float
    early_stopping: bool | Literal["never"]
    patience: float

    def __post_init__(self) -> None:
        check_width(self.width)
        if not (is_number(self.length_penalty) and -10 <= self.length_penalty <= 10):
            raise ValueError(f"length_penalty must be from -10 to 10, got {self.length_penalty!r}")
        if type(self.early_stopping) is not bool and self.early_stopping != "never":
            raise ValueError(f'early_stopping must be True, False or "never", got {self.early_stopping!r}')
        check_number("patience", self.patience, 0, 100)
        if self.patience == 0:
            raise ValueError("patience must be above 0, got 0; 1 waits for as many texts as there are beams")

    @property
    def wanted(self) -> int:
        """How many finished texts the search waits for and keeps: patience * width, rounded, at least one."""
        return max(1, math.floor(self.patience * self.width + 0.5))


class Extension(NamedTuple):
    """A beam and one more token: the sum of its log-probabilities, and what it is ranked by."""

    parent: int
    token: int
    logprob: float
    merit: float


class Search:
    """One beam search under way: its live beams and its finished texts, each best first."""

    def __init__(self, request: Request, rules: Rules) -> None:
        self.live = [Hypothesis(request.tip, 0.0, 0.0)]
        self.finished: list[Hypothesis] = []
        # With this many candidates, `width` of them can go on even if every stop token is among the best.
        self.candidates = rules.width * max(2, 1 + len(request.limits.stop_ids))
        self._request = request
        self._rules = rules
        self._length = 0
        self._longest = request.room

    @property
    def goes_on(self) -> bool:
        """Whether a live beam could still change the finished texts."""
        rules = self._rules
        if not self.live or len(self.finished) < rules.wanted:
            return bool(self.live)
        if rules.early_stopping is True:
            return False
        favoured = self._longest if rules.early_stopping == "never" and rules.length_penalty > 0 else self._length
        scale: float = favoured**rules.length_penalty
        return self.live[0].logprob / scale > self.finished[-1].score

    def take(self, grown: list[Extension]) -> list[int]:
        """Go on with the best of `grown`, which come in the order of their merit or as they were drawn.

        An ending counts if it is among the first `width`. The tokens of the beams that go on or end are returned.
        """
        width, live, ended = self._rules.width, list[tuple[float, Hypothesis]](), list[Hypothesis]()
        self._length += 1
        for rank, (parent, token, logprob, merit) in enumerate(grown[: self.candidates]):
            node = self._request.tree.add(parent, token)
            if not self._request.ending(node):
                live.append((merit, Hypothesis(node, logprob, logprob)))
            elif rank < width:
                ended.append(Hypothesis(node, logprob, logprob / self._length**self._rules.length_penalty))
        live.sort(key=lambda beam: -beam[0])
        self.live = sorted((beam for _, beam in live[:width]), key=lambda beam: -beam.logprob)
        self.finished = best_first([*self.finished, *ended])[: self._rules.wanted]
        return [self._request.tree.token[beam.node] for beam in [*self.live, *ended]]


def best_first(hypotheses: Iterable[Hypothesis]) -> list[Hypothesis]:
    """By score; of equal ones the earlier first."""
    return sorted(hypotheses, key=lambda beam: -beam.score)


def beams_event(live: Iterable[Hypothesis], finished: Iterable[Hypothesis]) -> Beams:
    """The event of a step: the beams that go on and the finished ones, each best first."""
    return Beams(tuple(live), tuple(finished))


def commit_common_prefix(
    request: Request, live: Iterable[Hypothesis], finished: list[Hypothesis]
) -> list[Token | Finished]:
    """Commit what all live beams and the best finished one begin with: it is sure to be in the text."""
    shared = last_in_common(request.tree, [beam.node for beam in (*live, *finished[:1])])
    return request.commit(request.tree.path(shared, above=request.tip))


def last_in_common(tree: Tree, nodes: Iterable[int]) -> int:
    """The last common ancestor of nodes on one tree."""
    known = set(nodes)
    largest = [-node for node in known]
    heapify(largest)
    while len(largest) > 1:  # a parent's number is smaller, so the largest node is an ancestor of none of the others
        parent = tree.parent[-largest[0]]
        if parent in known:
            heappop(largest)
        else:
            known.add(parent)
            heapreplace(largest, -parent)
    return -largest[0]


def commit_best(request: Request, finished: list[Hypothesis], n: int, sampler: Sampler) -> Decoding[None]:
    """Tell the log-probabilities of the `n` best texts if the request wants any, then commit the first one.

    `finished` is best first; DeadEndError if it is empty. `sampler` is what the texts were found with.
    """
    if not finished:
        raise DeadEndError(
            "every beam came to a place where no token is allowed: grammar, allowed and forbidden tokens and "
            "penalties leave none; relax one of them"
        )
    tree, judged = request.tree, {request.prompt}
    for beam in finished[: n if request.logprobs is not None else 0]:
        nodes = [request.prompt, *tree.nodes(beam.node, above=request.prompt)]
        known = max(index for index, node in enumerate(nodes) if node in judged)
        yield from rescore(request, nodes[known:], sampler.transforms, per_path=sampler.noise)
        judged.update(nodes)
    yield from request.commit(tree.path(finished[0].node, above=request.tip))
