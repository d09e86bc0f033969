"""A small model guesses for a large one."""

from dataclasses import dataclass

from nextok.core.query import Decoding, choose
from nextok.core.request import Request
from nextok.drafts.base import Draft, HasModel, Propose, check_has_model, check_max_draft
from nextok.drafts.guesses import Guesses
from nextok.sampling.sampler import Sampler

RATES, RATES_WEIGHT = (0.75,), 6.0
"""How often a guess is expected to come true, wherever it is made, and the number of observations that this counts
for: few, since pairs of models and kinds of text differ much."""


@dataclass(frozen=True)
class DraftModel(Draft):
    """A chain of up to `max_draft` tokens drawn by another loaded model of the same vocabulary.

    It draws with the target's own sampler and noise: the more alike the two distributions, the more often
    both draw the same token. How long the chain gets depends on how often they did, and on what passes of the two
    models cost on this machine; when it does not pay, it is tried again now and then.
    """

    lm: HasModel
    max_draft: int = 10

    def __post_init__(self) -> None:
        check_has_model(self.lm)
        check_max_draft(self.max_draft)

    def models(self) -> tuple[HasModel, ...]:
        """The one that guesses."""
        return (self.lm,)

    def begin(self, request: Request, sampler: Sampler) -> Propose:
        """Nothing has been guessed yet; the engine knows what the draft model has read."""
        model = self.lm.model
        guesses = Guesses(request, RATES, model, weight=RATES_WEIGHT)

        def propose() -> Decoding[list[int]]:
            node, nodes = request.tip, list[int]()
            worth = yield from guesses.weigh(self.max_draft)
            while worth.another():
                choice = (yield from choose([node], sampler, model)).get(node)
                if choice is None or choice.token >= guesses.shared_ids:  # a dead end, or padding
                    break
                node = request.tree.add(node, choice.token)
                nodes.append(node)
                worth.add(choice.processed)
            return guesses.expect(nodes)[: worth.checked()]

        return propose
