"""A small model guesses several continuations at once."""

from dataclasses import dataclass

from nextok.drafts.base import Lender, Propose, checked_lender, shared_ids
from nextok.query import Decoding, top
from nextok.request import Request
from nextok.sampling.sampler import Sampler


@dataclass(frozen=True)
class TokenTree:
    """The draft model's best `widths[0]` tokens, the best `widths[1]` after each of them, and so on.

    The target checks the whole tree in one pass and follows the branch that it draws itself.
    """

    lm: Lender
    widths: tuple[int, ...] = (4, 2, 2)

    def __post_init__(self) -> None:
        checked_lender(self.lm)
        nodes = level = 1
        for width in self.widths:
            if type(width) is not int or width < 1:
                raise ValueError(f"widths must be whole numbers from 1 up, got {self.widths!r}")
            level *= width
            nodes += level
        if not self.widths or nodes > 256:
            raise ValueError(f"widths must describe a tree of 1 to 255 guesses, got {self.widths!r}")

    def begin(self, request: Request, sampler: Sampler) -> Propose:
        """Nothing to prepare: the engine knows what the draft model has read."""
        model = self.lm.model

        def propose() -> Decoding[list[int]]:
            frontier, nodes = [request.tip], list[int]()
            room = min(request.room - 1, model.context - request.tree.depth[request.tip] - 1)
            known = shared_ids(request, model)
            if request.tree.token[request.tip] >= known:
                return nodes
            for width in self.widths[: max(room, 0)]:
                tops = yield from top(frontier, width, sampler.transforms, model)
                guesses = [(node, token) for node in tops for token, _ in tops[node] if token < known]
                frontier = [request.tree.add(node, token) for node, token in guesses]
                if not frontier:
                    break
                nodes += frontier
            return nodes

        return propose
