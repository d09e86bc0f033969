"""Beam search: keep the few most probable texts instead of one. The rules are those of transformers 5."""

from dataclasses import KW_ONLY, dataclass
from typing import Literal

from nextok.core.query import Decoding, draws, top
from nextok.core.request import Request
from nextok.strategies.base import Strategy
from nextok.strategies.beam.search import Extension, Rules, Search, beams_event, commit_best, commit_common_prefix
from nextok.strategies.sample import Greedy, Sampling, check_sampler


@dataclass(frozen=True)
class Beam(Strategy):
    """The best text found by keeping `width` beams; a finished one scores sum(logprob) / length ** length_penalty.

    `early_stopping`: True ends with patience * width finished texts; False when the best live beam, at its present
    length, scores no better than the worst of them; "never" assumes the length that would favour it most.
    `n`: how many of the finished texts are returned, best first. `sampling`: what is done to the scores before
    their log-softmax; one that draws makes it beam sampling: the candidates of a step are drawn without replacement.
    """

    width: int
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    n: int = 1
    _: KW_ONLY
    patience: float = 1.0
    sampling: Sampling = Greedy()

    def __post_init__(self) -> None:
        check_sampler(self.sampling)
        most = min(self.width, self.rules.wanted)
        if type(self.n) is not int or not 1 <= self.n <= most:
            limit = "width" if most == self.width else "patience * width"
            raise ValueError(f"n must be from 1 to {limit} ({most}), got {self.n!r}")

    @property
    def rules(self) -> Rules:
        """How the search goes."""
        return Rules(self.width, self.length_penalty, self.early_stopping, self.patience)

    def texts(self) -> int:
        """The `n` best."""
        return self.n

    def is_random(self) -> bool:
        """As its sampling does."""
        return self.sampling.sampler.noise

    def decode(self, request: Request) -> Decoding[None]:
        """Extend all beams, set the finished ones aside, keep the best, until nothing can improve."""
        search, sampler = Search(request, self.rules), self.sampling.sampler
        grow = self._draw if sampler.noise else self._rank
        while search.goes_on:
            yield from commit_common_prefix(request, search.live, search.finished)
            grown = yield from grow(search)
            search.take(grown)
            yield beams_event(search.live, search.finished)
        yield from commit_best(request, search.finished, self.n, sampler)

    def _rank(self, search: Search) -> Decoding[list[Extension]]:
        """The most probable continuations of all beams together."""
        tops = yield from top(
            [beam.node for beam in search.live], search.candidates, self.sampling.sampler.transforms
        )
        totals = [
            Extension(beam.node, token, beam.logprob + logprob, beam.logprob + logprob)
            for beam in search.live
            for token, logprob in tops[beam.node]
        ]
        return sorted(totals, key=lambda grown: -grown.merit)

    def _draw(self, search: Search) -> Decoding[list[Extension]]:
        """A draw without replacement from the continuations of all beams together, as probable as they are."""
        drawn = yield from draws(
            [beam.node for beam in search.live], search.candidates, self.sampling.sampler.transforms
        )
        totals = [
            (beam.logprob + perturbed, Extension(beam.node, token, beam.logprob + logprob, beam.logprob + logprob))
            for beam in search.live
            for token, logprob, perturbed in drawn[beam.node]
        ]
        return [grown for _, grown in sorted(totals, key=lambda total: -total[0])]
