"""Beam search: keep the few most probable texts instead of one. The rules are those of transformers 5."""

from dataclasses import dataclass
from typing import Literal

from nextok.events import Beams, Hypothesis
from nextok.query import Decoding, top
from nextok.request import Request
from nextok.sampling.transforms import is_number
from nextok.strategies.rescore import rescored


@dataclass(frozen=True)
class Beam:
    """The best text found by keeping `width` beams; a finished one scores sum(logprob) / length ** length_penalty.

    `early_stopping`: True ends with `width` finished texts; False when the best live beam, at its present length,
    scores no better than the worst of them; "never" assumes the length that would favour it most.
    `n`: how many of the finished texts are returned, best first.
    """

    width: int
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    n: int = 1

    def __post_init__(self) -> None:
        if type(self.width) is not int or not 1 <= self.width <= 256:
            raise ValueError(f"width must be a whole number from 1 to 256, got {self.width!r}")
        if not (is_number(self.length_penalty) and -10 <= self.length_penalty <= 10):
            raise ValueError(f"length_penalty must be from -10 to 10, got {self.length_penalty!r}")
        if type(self.early_stopping) is not bool and self.early_stopping != "never":
            raise ValueError(f'early_stopping must be True, False or "never", got {self.early_stopping!r}')
        if type(self.n) is not int or not 1 <= self.n <= self.width:
            raise ValueError(f"n must be from 1 to width ({self.width}), got {self.n!r}")

    def decode(self, request: Request) -> Decoding[None]:
        """Extend all beams, set the finished ones aside, keep the best, until nothing can improve."""
        tree, live, finished = request.tree, [Hypothesis(request.tip, 0.0, 0.0)], list[Hypothesis]()
        # With this many candidates, `width` of them can go on even if every stop token is among the best.
        candidates = self.width * max(2, 1 + len(request.limits.stop_ids))
        length = 0
        while live and self._can_improve(live, finished, length, request.limits.max_tokens):
            tops = yield from top([beam.node for beam in live], candidates)
            grown = [
                (beam.logprob + logprob, beam.node, token) for beam in live for token, logprob in tops[beam.node]
            ]
            grown.sort(key=lambda grown: -grown[0])
            live, length = [], length + 1
            for rank, (logprob, parent, token) in enumerate(grown[:candidates]):
                node = tree.add(parent, token)
                if not request.ending(node):
                    live.append(Hypothesis(node, logprob, logprob))
                elif rank < self.width:  # an ending must have earned its place
                    finished.append(Hypothesis(node, logprob, logprob / length**self.length_penalty))
            live = live[: self.width]
            finished = sorted(finished, key=lambda beam: -beam.score)[: self.width]
            yield Beams(tuple(live), tuple(finished))
        if request.logprobs is not None:
            for beam in finished[: self.n]:
                yield from rescored(request, [request.prompt, *tree.nodes(beam.node, above=request.prompt)])
        yield from request.commit(tree.path(finished[0].node, above=request.tip))

    def _can_improve(self, live: list[Hypothesis], finished: list[Hypothesis], length: int, max_length: int) -> bool:
        """Whether going on could still change the `width` finished texts."""
        if len(finished) < self.width:
            return True
        if self.early_stopping is True:
            return False
        best_length = max_length if self.early_stopping == "never" and self.length_penalty > 0 else length
        scale: float = best_length**self.length_penalty
        return live[0].logprob / scale > finished[-1].score
