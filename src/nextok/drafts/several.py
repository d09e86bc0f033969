"""Several drafts for one text: at each place the one that promises most."""

from dataclasses import dataclass, replace
from typing import Any

from nextok.core.query import Decoding, Query, Speed, SpeedOf
from nextok.core.request import Request
from nextok.drafts.base import Draft, HasModel, Propose, check_steps, models_of
from nextok.sampling.sampler import Sampler

DECAY = 0.95
"""Factor by which the weight of older passes shrinks with each new one that a draft has guessed for."""
PRIOR_TOKENS, PRIOR_WEIGHT = 1.2, 4.0
"""Tokens that a draft is taken to bring in the time of a plain pass, and how many passes this counts for."""


@dataclass(frozen=True, init=False)
class Drafts(Draft):
    """These drafts in order: the first that promises more than the later ones have lately brought guesses.

    Cheap ones come first, as in Drafts(PromptLookup(), DraftModel(small)): the model is asked only where nothing
    can be copied.
    """

    drafts: tuple[Draft, ...]

    def __init__(self, *drafts: Draft) -> None:
        if len(drafts) < 2:
            raise ValueError(
                f"Drafts takes two or more, as in Drafts(PromptLookup(), DraftModel(lm)), got {drafts!r}"
            )
        for draft in drafts:
            models_of(draft)
        object.__setattr__(self, "drafts", drafts)

    def __repr__(self) -> str:
        return f"Drafts({', '.join(map(repr, self.drafts))})"

    def models(self) -> tuple[HasModel, ...]:
        """Those of all of them."""
        return tuple(model for draft in self.drafts for model in models_of(draft))

    def begin(self, request: Request, sampler: Sampler) -> Propose:
        """Begin all of them; what each has brought is learnt as the text grows."""
        parts = [_Part(draft.begin(request, sampler)) for draft in self.drafts]
        asked: list[_Part] = []  # since the last proposal
        start = 0

        def propose() -> Decoding[list[int]]:
            nonlocal start
            depth = request.tree.depth[request.tip]
            if asked:
                asked[-1].learn(depth - start, 1.0 + sum(part.extra for part in asked))
            start = depth
            asked.clear()
            for place, part in enumerate(parts):
                asked.append(part)
                if nodes := (yield from part.propose(parts[place + 1 :])):
                    return nodes
            return []

        return propose


class _Part:
    """One of the drafts at work for a request, and what it has brought."""

    def __init__(self, propose: Propose) -> None:
        self._propose = propose
        self._tokens = PRIOR_TOKENS * PRIOR_WEIGHT  # written in passes that it guessed for
        self._costs = PRIOR_WEIGHT  # of these passes, in units of a pass without guesses
        self._passes = PRIOR_WEIGHT
        self.extra = 0.0  # what its last guesses cost beyond a pass without guesses, likewise

    def learn(self, tokens: int, cost: float) -> None:
        """So many tokens were written by the pass after its last guesses, which had this cost."""
        self._tokens = DECAY * self._tokens + tokens
        self._costs = DECAY * self._costs + cost
        self._passes = DECAY * self._passes + 1

    def speed(self, speed_of: SpeedOf) -> float:
        """Tokens per second of all requests together that it has lately brought."""
        tokens, cost = self._tokens / self._passes, self._costs / self._passes
        return (speed_of.gained + tokens) / (cost * speed_of.seconds(0, 0))

    def propose(self, later: list["_Part"]) -> Decoding[list[int]]:
        """Its guesses, told that without them the `later` ones guess."""
        steps, passes = check_steps(self._propose()), 0
        speed_of: SpeedOf | None = None
        reply: Any = None
        error: Exception | None = None
        while True:
            try:
                item = steps.throw(error) if error else steps.send(reply)
            except StopIteration as end:
                if speed_of and isinstance(end.value, list):
                    self.extra = speed_of.seconds(len(end.value), passes) / speed_of.seconds(0, 0) - 1.0
                nodes: list[int] = end.value
                return nodes
            passes += isinstance(item, Query)
            reply = error = None
            try:
                reply = yield item
            except Exception as failure:  # of the draft model, or of the question
                error = failure
            if isinstance(item, Speed) and isinstance(reply, SpeedOf):
                speed_of = reply
                others = [part.speed(speed_of) for part in later]
                reply = replace(speed_of, otherwise=max(speed_of.otherwise, *others, 0.0))
