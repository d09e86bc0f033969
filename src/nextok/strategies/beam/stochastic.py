"""Stochastic beam search (Kool et al., arXiv 1903.06059): different texts, drawn without replacement."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from nextok.core.events import Hypothesis
from nextok.core.query import Decoding, Drawn, draws
from nextok.core.request import Request
from nextok.strategies.base import Strategy
from nextok.strategies.beam.search import beams_event, best_first, check_width, commit_best, commit_common_prefix
from nextok.strategies.sample import Sample, Sampling, check_sampler


@dataclass(frozen=True)
class StochasticBeam(Strategy):
    """A sample of `width` different texts, exactly as if texts were drawn until so many different ones had come.

    The `score` of a text is G, the sum of its log-probability under `sampling` and Gumbel noise; the order is that
    of G, in which the first text is a plain sample. To estimate an expectation, leave out the last text, whose G is
    kappa, and give each of the others, of log-probability l, the weight exp(l) / (1 - exp(-exp(l - kappa))).
    """

    width: int
    sampling: Sampling = Sample()

    def __post_init__(self) -> None:
        check_width(self.width)
        if not check_sampler(self.sampling).noise:
            raise ValueError(f"a stochastic beam draws; sampling must be one that does, got {self.sampling!r}")

    def texts(self) -> int:
        """All of them."""
        return self.width

    def is_random(self) -> bool:
        """Always."""
        return True

    def decode(self, request: Request) -> Decoding[None]:
        """Keep the `width` texts with the largest G, whether live or finished, until all are finished."""
        sampler = self.sampling.sampler
        live, finished = [Hypothesis(request.tip, 0.0, math.inf)], list[Hypothesis]()
        while live:
            yield from commit_common_prefix(request, live, finished)
            drawn = yield from draws([beam.node for beam in live], self.width, sampler.transforms)
            grown = [child for beam in live for child in _children(request, beam, drawn[beam.node])]
            kept = best_first([*finished, *grown])[: self.width]
            live = [beam for beam in kept if not request.ending(beam.node)]
            finished = [beam for beam in kept if request.ending(beam.node)]
            yield beams_event(live, finished)
        yield from commit_best(request, finished, self.width, sampler)


def _children(request: Request, beam: Hypothesis, drawn: list[Drawn]) -> Iterator[Hypothesis]:
    """Continuations of a beam, their noise conditioned on the largest G among them all being the beam's own."""
    for token, logprob, perturbed in drawn:
        above = drawn[0].perturbed if beam.score == math.inf else beam.score  # nothing is known of the first one's G
        score = _truncate(above, beam.logprob + perturbed, beam.logprob + drawn[0].perturbed)
        yield Hypothesis(request.tree.add(beam.node, token), beam.logprob + logprob, score)


def _truncate(limit: float, value: float, largest: float) -> float:
    """-log(exp(-limit) - exp(-largest) + exp(-value)), without cancellation or overflow (the paper, appendix B)."""
    below = value - largest  # never above 0
    if below == 0:
        return limit
    spared = math.log(-math.expm1(below)) if below > -math.log(2) else math.log1p(-math.exp(below))
    v = limit - value + spared
    return limit - max(0.0, v) - math.log1p(math.exp(-abs(v)))
