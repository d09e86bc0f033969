"""A small model guesses several continuations at once."""

from dataclasses import dataclass
from itertools import accumulate
from operator import mul

from nextok.core.query import Decoding, top
from nextok.core.request import Request
from nextok.drafts.base import Draft, HasModel, Propose, check_has_model
from nextok.drafts.guesses import Guesses
from nextok.sampling.sampler import Sampler

RATES = (0.8, 0.7)
"""How often the right token is expected among the guesses, at the first level and further down."""


@dataclass(frozen=True)
class TokenTree(Draft):
    """The draft model's best `widths[0]` tokens, the best `widths[1]` after each of them, and so on.

    The target checks the whole tree in one pass and follows the branch that it draws itself. How many of the levels
    are guessed depends on how often the right token was there, and on what passes cost on this machine.
    """

    lm: HasModel
    widths: tuple[int, ...] = (4, 2, 2)

    def __post_init__(self) -> None:
        check_has_model(self.lm)
        if not self.widths or any(type(width) is not int or width < 1 for width in self.widths):
            raise ValueError(f"widths must be whole numbers from 1 up, got {self.widths!r}")
        if self.size(len(self.widths)) > 255:
            raise ValueError(f"widths must describe a tree of 1 to 255 guesses, got {self.widths!r}")

    def size(self, levels: int) -> int:
        """How many guesses the first `levels` hold."""
        return sum(accumulate(self.widths[:levels], mul))

    def models(self) -> tuple[HasModel, ...]:
        """The one that guesses."""
        return (self.lm,)

    def begin(self, request: Request, sampler: Sampler) -> Propose:
        """Nothing has been guessed yet; the engine knows what the draft model has read."""
        model = self.lm.model
        guesses = Guesses(request, RATES, model, self.size, trial=1)

        def propose() -> Decoding[list[int]]:
            frontier, nodes = [request.tip], list[int]()
            levels = yield from guesses.count(len(self.widths))
            for width in self.widths[:levels]:
                tops = yield from top(frontier, width, sampler.transforms, model)
                wanted = [(node, token) for node in tops for token, _ in tops[node] if token < guesses.shared_ids]
                frontier = [request.tree.add(node, token) for node, token in wanted]
                if not frontier:
                    break
                nodes += frontier
            return guesses.expect(nodes)

        return propose
