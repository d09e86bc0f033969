"""A small model guesses for a large one."""

from dataclasses import dataclass

from nextok.core.query import Decoding, Speed, pick
from nextok.core.request import Request
from nextok.drafts.base import Lender, Propose, check_max_draft, checked_lender, shared_ids
from nextok.drafts.pace import Pace, Probing
from nextok.sampling.sampler import Sampler

RATES = (0.6,)
"""How often a guess comes true, wherever it is made."""


@dataclass(frozen=True)
class DraftModel:
    """A chain of up to `max_draft` tokens drawn by another loaded model of the same vocabulary.

    It draws with the target's own sampler and noise: the more alike the two distributions, the more often
    both draw the same token. How long the chain gets depends on how often they did, and on what passes of the two
    models cost on this machine; when it does not pay, it is tried again now and then.
    """

    lm: Lender
    max_draft: int = 10

    def __post_init__(self) -> None:
        checked_lender(self.lm)
        check_max_draft(self.max_draft)

    def begin(self, request: Request, sampler: Sampler) -> Propose:
        """Nothing has been guessed yet; the engine knows what the draft model has read."""
        model = self.lm.model
        pace, probing, guess, start = Pace(RATES), Probing(), list[int](), 0

        def propose() -> Decoding[list[int]]:
            nonlocal guess, start
            pace.learn(0, (expected == token for expected, token in zip(guess, request.tokens[start:])))
            node, nodes = request.tip, list[int]()
            room = min(self.max_draft, request.room - 1, model.context - request.tree.depth[node] - 1)
            speed_of = yield Speed(model)
            most = probing.length(pace.length(0, room, speed_of), room)
            known = shared_ids(request, model)
            while len(nodes) < most and request.tree.token[node] < known:
                picked = yield from pick([node], sampler, model)
                if node not in picked:  # a dead end
                    break
                node = request.tree.add(node, picked[node])
                nodes.append(node)
            if nodes and request.tree.token[node] >= known:
                nodes.pop()
            guess, start = [request.tree.token[node] for node in nodes], len(request.tokens)
            return nodes

        return propose
