"""A small model guesses for a large one."""

from dataclasses import dataclass

from nextok.drafts.base import Lender, Propose, checked_lender, checked_max_draft, shared_ids
from nextok.query import Decoding, pick
from nextok.request import Request
from nextok.sampling.sampler import Sampler


@dataclass(frozen=True)
class DraftModel:
    """A chain of `max_draft` tokens drawn by another loaded model of the same vocabulary.

    It draws with the target's own sampler and noise: the more alike the two distributions, the more often
    both draw the same token.
    """

    lm: Lender
    max_draft: int = 10

    def __post_init__(self) -> None:
        checked_lender(self.lm)
        checked_max_draft(self.max_draft)

    def begin(self, request: Request, sampler: Sampler) -> Propose:
        """Nothing to prepare: the engine knows what the draft model has read."""
        model = self.lm.model

        def propose() -> Decoding[list[int]]:
            node, nodes = request.tip, list[int]()
            room = min(self.max_draft, request.room - 1, model.context - request.tree.depth[node] - 1)
            known = shared_ids(request, model)
            while len(nodes) < room and request.tree.token[node] < known:
                picked = yield from pick([node], sampler, model)
                if node not in picked:  # a dead end
                    break
                node = request.tree.add(node, picked[node])
                nodes.append(node)
            if nodes and request.tree.token[node] >= known:
                nodes.pop()
            return nodes

        return propose
