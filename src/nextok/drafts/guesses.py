"""What all drafts share: how far to guess, what became of the guesses, and the nodes that they are."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import count, islice
from operator import eq

from nextok.core.query import Decoding, Speed, SpeedOf
from nextok.core.request import Request
from nextok.drafts.base import Reader
from nextok.drafts.pace import PRIOR_WEIGHT, TRIAL, Pace, Probing
from nextok.drafts.worth import SURE_RATES, SURE_WEIGHT, Worth


class Guesses:
    """The guesses of one request: learns how often they come true, and so how far ahead it is worth guessing.

    `rates`: how often a guess is expected to come true after a match of 0, 1, 2, ... tokens; see Pace.
    `model`: the draft model that guesses; None: guesses cost nothing.
    `size`: how many guesses there are, so many tokens ahead; by default as many as tokens.
    `weight`: how many observations the rates count for at first.
    `trial`: how many tokens ahead to try now and then, when guesses of a model do not pay.
    """

    def __init__(
        self,
        request: Request,
        rates: Sequence[float],
        model: Reader | None = None,
        size: Callable[[int], int] = int,
        trial: int = TRIAL,
        weight: float = PRIOR_WEIGHT,
    ) -> None:
        self._request = request
        self._model = model
        # Ids that mean something to both models: either may have more rows, padded to a round number.
        self.shared_ids = 0 if model is None else min(model.vocab_size, request.limits.vocab_size or model.vocab_size)
        self._size = size
        self._pace = Pace(rates, weight)
        self._probing = Probing(trial)
        self._sure = Pace(SURE_RATES, SURE_WEIGHT)
        self._match = 0
        self._worth: Worth | None = None  # of the last guesses, if they were weighed one by one
        self._outcomes: Callable[[], Iterable[bool]] = tuple  # whether the last guesses were right, in order

    def count(self, most: int, match: int = 0) -> Decoding[int]:
        """How many tokens ahead to guess now, from 0 to `most`: as far as pays, and as there is room.

        `match`: how many tokens at the end of the text the guess is made from.
        """
        self._learn()
        self._match, most = match, max(0, min(most, self._room()))
        plan = self._pace.plan(match, most, (yield Speed(self._model)), self._size)
        return plan.length if self._model is None else self._probing.length(plan.length, most)

    def weigh(self, most: int) -> Decoding[Worth]:
        """The same for guesses of a model that are made one by one: tells after each whether another one pays."""
        self._learn()
        self._match, most = 0, max(0, min(most, self._room()))
        speed_of: SpeedOf = yield Speed(self._model)
        plan = self._pace.plan(0, most, speed_of)
        length = self._probing.length(plan.length, most)
        least = min(length, 1) if plan.length else length  # a trial is made in full
        self._worth = Worth(plan, speed_of, self._sure, self._pace.rate(0), least, most if plan.length else length)
        return self._worth

    def expect(self, nodes: list[int]) -> list[int]:
        """Remember these guesses, to learn from what becomes of them; returns them."""
        request, tip = self._request, self._request.tip
        self._outcomes = lambda: _find_guessed(request, tip, nodes)
        return nodes

    def lay_out(self, tokens: Sequence[int], match: int = 0) -> Decoding[list[int]]:
        """Nodes for as many of these expected tokens as are worth guessing now; learns from all of them."""
        count = yield from self.count(len(tokens), match)
        written, start = self._request.tokens, len(self._request.tokens)
        self._outcomes = lambda: map(eq, tokens, written[start:])
        return add_chain(self._request, tokens[:count])

    def _learn(self) -> None:
        """Learn from what became of the last guesses."""
        outcomes = list(self._outcomes())
        self._pace.learn(count(self._match), outcomes)
        if self._worth:
            self._sure.learn(self._worth.kinds, outcomes)
        self._worth, self._outcomes = None, tuple

    def _room(self) -> int:
        """How many tokens ahead the text and the draft model have room for."""
        request, model = self._request, self._model
        if model is None:
            return request.room - 1
        if request.tree.token[request.tip] >= self.shared_ids:  # the model cannot read it
            return 0
        return min(request.room - 1, model.context - request.tree.depth[request.tip] - 1)


def add_chain(request: Request, tokens: Iterable[int]) -> list[int]:
    """The nodes of guessed token ids, one below the other from the tip on.

    Ends before the first one that the text has no room for, that is no token, or that the request's grammar forbids.
    """
    nodes, node, size = list[int](), request.tip, request.limits.vocab_size
    for token in islice(tokens, max(0, request.room - 1)):
        if (size is not None and token >= size) or not request.permits(node, token):
            break
        node = request.tree.add(node, token)
        nodes.append(node)
    return nodes


def _find_guessed(request: Request, tip: int, guessed: Collection[int]) -> Iterator[bool]:
    """Whether each token that came after `tip` was among the guessed nodes, as far as those go."""
    parents = {request.tree.parent[node] for node in guessed}
    for node in request.tree.nodes(request.tip, above=tip):
        if request.tree.parent[node] not in parents:
            return
        yield node in guessed
