"""What others read of a model: a backend provides all of it, and nothing else is asked of a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from nextok.core.query import Row


class Cache(Protocol):
    """The keys and values that one model keeps of one tree, in slots numbered from 0.

    It grows when a pass writes a new slot. Its model's lock covers its methods too, where the model needs one.
    """

    def move(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Copy the slots `sources` to `targets`; all are read before any is written."""
        ...

    def fork(self, end: int) -> "Cache | None":
        """A new cache that begins with this one's slots below `end`; neither sees later changes of the other.

        None if this cache has dropped some that the tokens after them would look at: they are read again.
        """
        ...

    def pages(self) -> Mapping[int, int]:
        """Bytes of each piece of memory that it holds, by a number that caches which share the piece have in common.

        No other piece has that number as long as this one is held.
        """
        ...


@dataclass(slots=True)
class Feed:
    """One tree's share of a pass: n tokens to read, each into its slot.

    Token i sees the slots 0 .. seen[i] - 1 and then those of tails[i], in this order, which is the order of its
    path and ends with its own slot. All tokens of a feed are written before any of them looks. A token's
    position is the number of slots it sees, less one.
    """

    cache: Any
    tokens: list[int]
    slots: list[int]
    seen: list[int]
    tails: list[tuple[int, ...]]
    rows: list[int]  # indices of the tokens whose logits are wanted, ascending

    @classmethod
    def from_run(cls, cache: Any, tokens: Sequence[int], start: int = 0, rows: Sequence[int] | None = None) -> "Feed":
        """A run of tokens after `start` others; every one of them is read out unless `rows` says which."""
        slots = list(range(start, start + len(tokens)))
        wanted = range(len(tokens)) if rows is None else rows
        return cls(cache, list(tokens), slots, [slot + 1 for slot in slots], [()] * len(tokens), list(wanted))

    @property
    def end(self) -> int:
        """One above the highest slot that is written or seen."""
        return 1 + max(max(self.slots), max(self.seen) - 1, *(max(tail, default=0) for tail in self.tails))

    def find_position(self, index: int) -> int:
        """How many tokens come before token `index` on its path."""
        return self.seen[index] + len(self.tails[index]) - 1


class Model(Protocol):
    """A backend: one forward pass over any mix of requests, then the readout of the rows they want."""

    vocab_size: int
    """Number of token ids that a row of logits scores."""
    context: int
    """Largest number of tokens of a text, prompt included."""
    backend: str
    """Name of the backend: toy, numpy, native, torch or transformers."""
    precision: str
    """`exact` where weights or activations and cache are float32, else `fast`."""
    rounds_by_shape: bool
    """Whether the last bits of a row depend on how many rows are computed together."""

    @property
    def bytes_per_token(self) -> int:
        """Bytes of weights that a pass of one token reads; of an embedding that is not the head too, only its row."""
        ...

    def open(self) -> Cache:
        """An empty cache."""
        ...

    def answer(self, feeds: Sequence[Feed], rows: Sequence[Row]) -> list[Any]:
        """Read all feeds, then answer each row, in order: what its read gives, or the exception of that row alone.

        Row.index counts the wanted rows of all feeds in order; several Rows may read the same one. One thread at a
        time may call; a backend that engines of several threads may share brings a lock of its own. It keeps nothing
        of `feeds` and `rows`. What it raises concerns the whole pass: the content of the caches of all feeds is then
        uncertain, and the caller drops them.
        """
        ...
