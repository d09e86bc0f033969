"""Models small enough to enumerate: scores are a plain function of the tokens so far.

A toy model reads nothing but its cache, slot by slot, so a wrong slot, a missing ancestor or a branch of another text
changes its scores or raises an error. Tests of the engine rely on that.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nextok.core.query import Row
from nextok.models.base import Feed
from nextok.readout.readout import read
from nextok.sampling.seeds import mix

Scores = Callable[[tuple[int, ...]], Sequence[float]]
"""Logits of every token after the given ones."""

SLOT_BYTES = 16
"""Bytes that a slot counts as: a position and a token."""


class ToyCache:
    """The cache of a toy model: (position, token) in numbered slots."""

    def __init__(self) -> None:
        self.slots: dict[int, tuple[int, int]] = {}

    def fork(self, end: int) -> "ToyCache":
        """A new cache that begins with this one's slots below `end`."""
        forked = ToyCache()
        forked.slots = {slot: content for slot, content in self.slots.items() if slot < end}
        return forked

    def pages(self) -> dict[int, int]:
        """All slots are one piece."""
        return {id(self): SLOT_BYTES * len(self.slots)}

    def move(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Copy slots; a slot that was never written copies as empty."""
        contents = [self.slots.get(source) for source in sources]
        for target, content in zip(targets, contents):
            if content is None:
                self.slots.pop(target, None)
            else:
                self.slots[target] = content


class ToyModel:
    """A language model given by a function from the tokens so far to the logits of the next."""

    backend, precision = "toy", "exact"
    rounds_by_shape = False
    bytes_per_token = 1
    """There are no weights: a pass costs next to nothing."""

    def __init__(self, vocab_size: int, scores: Scores, context: int = 1 << 20) -> None:
        self.vocab_size = vocab_size
        self.context = context
        self.bytes_per_token = 4 * vocab_size  # of the one row of float32 logits, as there are no weights
        self._scores = scores

    def open(self) -> ToyCache:
        """An empty cache."""
        return ToyCache()

    def answer(self, feeds: Sequence[Feed], rows: Sequence[Row]) -> list[Any]:
        """Score every wanted token from what it sees in its cache; AssertionError if that is not its path."""
        logits = [self._scores(path) for feed in feeds for path in _read_paths(feed)]
        return read(np.array(logits, np.float32).reshape(-1, self.vocab_size), rows)


def _read_paths(feed: Feed) -> list[tuple[int, ...]]:
    slots = feed.cache.slots
    for index, (token, slot) in enumerate(zip(feed.tokens, feed.slots)):
        slots[slot] = (feed.find_position(index), token)
    return [_read_visible(feed, index, slots) for index in feed.rows]


def _read_visible(feed: Feed, index: int, slots: dict[int, tuple[int, int]]) -> tuple[int, ...]:
    seen = [slots[slot] for slot in (*range(feed.seen[index]), *feed.tails[index])]
    if [position for position, _ in seen] != list(range(len(seen))):
        raise AssertionError(f"token {index} sees positions {[position for position, _ in seen]}")
    if (feed.tails[index] or (feed.seen[index] - 1,))[-1] != feed.slots[index]:
        raise AssertionError(f"token {index} does not see itself last")
    return tuple(token for _, token in seen)


def make_scores(vocab_size: int, seed: int = 0, spread: float = 3.0) -> Scores:
    """Logits in [-spread, spread] that look random but depend on nothing except the tokens so far."""

    def score(path: tuple[int, ...]) -> list[float]:
        state = mix(seed + 1)
        for token in path:
            state = mix(state ^ (token + 1))
        return [spread * (mix(state + token) / 2**63 - 1) for token in range(vocab_size)]

    return score
