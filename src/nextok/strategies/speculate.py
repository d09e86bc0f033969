"""Speculative (assisted) decoding: guess several tokens cheaply, check them all in one pass of the target.

The rule is sample-then-match (arXiv 2408.07978): draw the target's own token at every guessed node, and keep
walking while the guess holds what was drawn. Noise belongs to the request, so the text is the one that plain
decoding with the same seed would have given, token for token, whatever the draft.
"""

from dataclasses import dataclass

from nextok.core.events import Verified
from nextok.core.query import Decoding, pick
from nextok.core.request import Request
from nextok.drafts.base import Draft, HasModel, models_of
from nextok.strategies.base import Strategy
from nextok.strategies.fence import FencedDraft
from nextok.strategies.sample import Greedy, Sampling, check_sampler


@dataclass(frozen=True)
class Speculate(Strategy):
    """The text of `sampling`, in fewer passes of the target model."""

    draft: Draft
    sampling: Sampling = Greedy()

    def __post_init__(self) -> None:
        check_sampler(self.sampling)
        models_of(self.draft)

    def is_random(self) -> bool:
        """As its sampling does."""
        return self.sampling.sampler.noise

    def models(self) -> tuple[HasModel, ...]:
        """Those of the draft."""
        return models_of(self.draft)

    def decode(self, request: Request) -> Decoding[None]:
        """Guess, draw the target's own tokens along the guess, keep what matches and one more."""
        sampler = self.sampling.sampler
        draft = FencedDraft(self.draft, request, sampler)
        while not request.finish_reason:
            drafted = yield from draft.propose()
            picked = yield from pick([request.tip, *drafted], sampler)  # one pass of the target
            tokens, node = list[int](), request.tip
            while node in picked and not request.ending(node):  # while the draft holds what was drawn
                tokens.append(picked[node])
                node = request.tree.find(node, tokens[-1])
            yield Verified(drafted=len(drafted), accepted=len(tokens) - (node not in picked))
            yield from request.commit(tokens)
