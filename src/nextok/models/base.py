"""What the engine knows about a model: it opens caches and answers one pass at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from nextok.core.query import Row


class Cache(Protocol):
    """What one model has read of one tree, in numbered slots; it grows by itself when a new slot is written."""

    def move(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Copy the slots `sources` to `targets`; all are read before any is written."""
        ...

    def fork(self, end: int) -> "Cache":
        """A cache of its own that begins with this one's slots below `end`."""
        ...


@dataclass(slots=True)
class Feed:
    """One tree's share of a pass: tokens to read, each into its slot.

    Token i sees the slots 0 .. seen[i] - 1 and then those of tails[i], in this order, which is the order of its
    path and ends with its own slot. All tokens of a feed are written before any of them looks. A token's
    position is the number of slots it sees, less one.
    """

    cache: Any
    tokens: list[int]
    slots: list[int]
    seen: list[int]
    tails: list[tuple[int, ...]]
    rows: list[int]  # which of the tokens need logits, ascending

    @classmethod
    def straight(cls, cache: Any, tokens: Sequence[int], start: int = 0, rows: Sequence[int] | None = None) -> "Feed":
        """A run of tokens after `start` others; every one of them is read out unless `rows` says which."""
        slots = list(range(start, start + len(tokens)))
        wanted = range(len(tokens)) if rows is None else rows
        return cls(cache, list(tokens), slots, [slot + 1 for slot in slots], [()] * len(tokens), list(wanted))

    @property
    def end(self) -> int:
        """One above the highest slot that is written or seen."""
        return 1 + max(max(self.slots), max(self.seen) - 1, *(max(tail, default=0) for tail in self.tails))

    def position(self, index: int) -> int:
        """How many tokens come before token `index` on its path."""
        return self.seen[index] + len(self.tails[index]) - 1


class Model(Protocol):
    """A backend: one forward pass over any mix of requests, then the readout of the rows they want."""

    vocab_size: int
    context: int

    @property
    def bytes_per_token(self) -> int:
        """Bytes of weights that a pass of one token reads."""
        ...

    def open(self) -> Cache:
        """An empty cache."""
        ...

    def answer(self, feeds: Sequence[Feed], rows: Sequence[Row]) -> list[Any]:
        """Read all feeds, then answer each row, in order: a Choice, Candidates, or the exception of that row.

        Row.index counts the wanted rows of all feeds in order; several Rows may read the same one.
        """
        ...
