"""Diverse beam search (Vijayakumar et al., arXiv 1610.02424): groups of beams, each kept off the ones before."""

from collections import Counter
from dataclasses import KW_ONLY, dataclass
from typing import Literal

from nextok.checks import check_number, check_whole
from nextok.core.events import Hypothesis
from nextok.core.query import Decoding, top
from nextok.core.request import Request
from nextok.strategies.base import Strategy
from nextok.strategies.beam.search import (
    Extension,
    Rules,
    Search,
    beams_event,
    best_first,
    commit_best,
    commit_common_prefix,
)
from nextok.strategies.sample import Greedy, Sampling, check_sampler


@dataclass(frozen=True)
class DiverseBeam(Strategy):
    """`groups` beam searches of width / groups beams each, side by side; the `n` best texts that differ are returned.

    When a group ranks its continuations, a token loses `diversity` for each time that the groups before it chose it
    at the same step (Hamming diversity; stop tokens lose nothing). The loss decides which beams are kept and is then
    forgotten: log-probabilities and scores are the model's own, and compare with those of Beam, whose other settings
    mean the same here, for each group.
    """

    width: int
    groups: int
    diversity: float
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    n: int = 1
    _: KW_ONLY
    patience: float = 1.0
    sampling: Sampling = Greedy()

    def __post_init__(self) -> None:
        check_whole("groups", self.groups, 1)
        check_number("diversity", self.diversity, 0, 1000)
        if check_sampler(self.sampling).noise:
            raise ValueError(f"a diverse beam does not draw; use Greedy(...) or Chain(..., draw=False), got {self!r}")
        if Rules(self.width, 0, False, 1).width % self.groups:
            raise ValueError(f"width must be a multiple of groups ({self.groups}), got {self.width!r}")
        most = min(self.width, self.rules.wanted * self.groups)
        if type(self.n) is not int or not 1 <= self.n <= most:
            raise ValueError(f"n must be from 1 to {most}, as many texts as the groups keep, got {self.n!r}")

    @property
    def rules(self) -> Rules:
        """How the search of each group goes."""
        return Rules(self.width // self.groups, self.length_penalty, self.early_stopping, self.patience)

    def texts(self) -> int:
        """The `n` best."""
        return self.n

    def decode(self, request: Request) -> Decoding[None]:
        """Take every group one token further in turn, until nothing can improve in any of them."""
        sampler, rules = self.sampling.sampler, self.rules
        searches, finished = [Search(request, rules) for _ in range(self.groups)], list[Hypothesis]()
        while active := [search for search in searches if search.goes_on]:
            live = best_first(dict.fromkeys(beam for search in active for beam in search.live))
            yield from commit_common_prefix(request, live, finished)
            # So many, because the losses of the earlier groups can take that many tokens out of the first places.
            count = active[0].candidates + len(searches) * active[0].candidates
            tops = yield from top([beam.node for beam in live], count, sampler.transforms)
            chosen: Counter[int] = Counter()
            for search in active:
                grown = [
                    Extension(
                        beam.node, token, total := beam.logprob + logprob, total - self.diversity * chosen[token]
                    )
                    for beam in search.live
                    for token, logprob in tops[beam.node]
                ]
                taken = search.take(sorted(grown, key=lambda grown: -grown.merit))
                chosen.update(token for token in taken if token not in request.limits.stop_ids)
            finished = best_first(dict.fromkeys(beam for search in searches for beam in search.finished))
            yield beams_event(best_first(dict.fromkeys(beam for search in active for beam in search.live)), finished)
        yield from commit_best(request, finished, self.n, sampler)
