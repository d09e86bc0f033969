"""A small model guesses several continuations at once."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import accumulate
from operator import mul

from nextok.core.query import Decoding, Speed, top
from nextok.core.request import Request
from nextok.drafts.base import Lender, Propose, checked_lender, shared_ids
from nextok.drafts.pace import Pace, Probing
from nextok.sampling.sampler import Sampler

RATES = (0.8, 0.7)
"""How often the right token is among the guesses, at the first level and further down."""


@dataclass(frozen=True)
class TokenTree:
    """The draft model's best `widths[0]` tokens, the best `widths[1]` after each of them, and so on.

    The target checks the whole tree in one pass and follows the branch that it draws itself. How many of the levels
    are guessed depends on how often the right token was there, and on what passes cost on this machine.
    """

    lm: Lender
    widths: tuple[int, ...] = (4, 2, 2)

    def __post_init__(self) -> None:
        checked_lender(self.lm)
        if not self.widths or any(type(width) is not int or width < 1 for width in self.widths):
            raise ValueError(f"widths must be whole numbers from 1 up, got {self.widths!r}")
        if self.size(len(self.widths)) > 255:
            raise ValueError(f"widths must describe a tree of 1 to 255 guesses, got {self.widths!r}")

    def size(self, levels: int) -> int:
        """How many guesses the first `levels` hold."""
        return sum(accumulate(self.widths[:levels], mul))

    def begin(self, request: Request, sampler: Sampler) -> Propose:
        """Nothing has been guessed yet; the engine knows what the draft model has read."""
        model = self.lm.model
        pace, probing, guessed, tip = Pace(RATES), Probing(trial=1), set[int](), request.tip

        def propose() -> Decoding[list[int]]:
            nonlocal guessed, tip
            pace.learn(0, _found(request, tip, guessed))
            frontier, guessed, tip = [request.tip], set(), request.tip
            room = min(len(self.widths), request.room - 1, model.context - request.tree.depth[tip] - 1)
            speed_of = yield Speed(model)
            levels = pace.length(0, room, speed_of, self.size)
            known = shared_ids(request, model)
            if request.tree.token[tip] >= known:
                return []
            for width in self.widths[: probing.length(levels, max(room, 0))]:
                tops = yield from top(frontier, width, sampler.transforms, model)
                guesses = [(node, token) for node in tops for token, _ in tops[node] if token < known]
                frontier = [request.tree.add(node, token) for node, token in guesses]
                if not frontier:
                    break
                guessed.update(frontier)
            return sorted(guessed)

        return propose


def _found(request: Request, tip: int, guessed: Collection[int]) -> Iterator[bool]:
    """Whether each token that came after `tip` was among the guesses, as far as those go."""
    for node in request.tree.nodes(request.tip, above=tip):
        if not any(request.tree.parent[guess] == request.tree.parent[node] for guess in guessed):
            return
        yield node in guessed
