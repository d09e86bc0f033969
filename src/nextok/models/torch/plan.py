"""One pass as tensors: which tokens are read, where their keys go, and who looks at what.

The tokens of all feeds lie in one flat row. Only for attention are they brought side by side: the feeds of few tokens
padded to one shape, a long prompt by itself.

Shapes: n tokens in the pass; in a group f feeds of at most r tokens, which look at s slots at most.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch

from nextok.errors import LimitError
from nextok.models.base import Feed
from nextok.models.torch.passes import sent

Numbers = npt.NDArray[np.int64]

FEW_TOKENS = 16
"""A feed of more tokens has a group of its own."""
LEAST_SLOTS = 128
"""Of a padded plan."""


@dataclass(frozen=True, slots=True)
class Group:
    """Feeds that attend side by side."""

    members: torch.Tensor  # [m] the tokens of the pass that are in this group
    places: torch.Tensor  # [m] where each of them is among the f * r
    rows: torch.Tensor  # [f, r] tokens of the pass; padding repeats the feed's first
    positions: torch.Tensor  # [f, r] of the rows on their paths
    seen: torch.Tensor  # [f, r] slots of the feed, from its first, that a row sees
    slots: torch.Tensor  # [f, s] of the pool, in the order of the feed's own; padding repeats its last
    tails: torch.Tensor  # what the rows see beyond that, counted in f * r * s
    ages: torch.Tensor  # how many tokens of the path lie between each of these and the row that sees it, plus one

    def mask(self, window: int | None = None) -> torch.Tensor:
        """[f, 1, r, s], True where a row may look: at its whole path, or at the last `window` tokens of it."""
        slots = torch.arange(self.slots.shape[1], device=self.slots.device)
        mask = slots < self.seen.unsqueeze(-1)
        if window is None:
            mask.view(-1).index_fill_(0, self.tails, True)
        else:
            mask &= slots > self.positions.unsqueeze(-1) - window
            mask.view(-1).index_copy_(0, self.tails, self.ages < window)
        return mask.unsqueeze(1)


@dataclass(frozen=True, slots=True)
class Plan:
    """All tensors of a pass, on the model's device."""

    tokens: torch.Tensor  # [n]
    positions: torch.Tensor  # [n]
    targets: torch.Tensor  # [n] slots of the pool that their keys and values are written to
    wanted: torch.Tensor  # [rows] the tokens whose logits are wanted, in the order of the feeds
    groups: tuple[Group, ...]

    @property
    def square(self) -> bool:
        """Whether the tokens are the rows of a single group, without padding or in a flat row that has it too."""
        return len(self.groups) == 1 and self.groups[0].rows.numel() == len(self.tokens)

    @classmethod
    def of(cls, parts: Sequence[torch.Tensor]) -> Self:
        """From the tensors of the pass and then those of each group, in the order of their fields."""
        tokens, positions, targets, wanted, *rest = parts
        groups = (Group(*rest[at : at + OF_A_GROUP]) for at in range(0, len(rest), OF_A_GROUP))
        return cls(tokens, positions, targets, wanted, tuple(groups))


OF_A_GROUP = 8
"""Tensors."""


def taken(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """The rows of x that an index of any shape names."""
    return x.index_select(0, index.flatten()).view(*index.shape, *x.shape[1:])


def planned(feeds: Sequence[Feed], device: torch.device) -> Plan:
    """The plan of a pass over these feeds, whose caches are regions of one pool and are given room here."""
    _reserve(feeds)
    starts = np.cumsum([0, *(len(feed.tokens) for feed in feeds)]).tolist()
    wanted = [start + row for start, feed in zip(starts, feeds) for row in feed.rows]
    parts = [*_flat(feeds), np.array(wanted, np.int64)]
    numbered = list(zip(starts, feeds))
    few = [each for each in numbered if len(each[1].tokens) <= FEW_TOKENS]
    many = [[each] for each in numbered if len(each[1].tokens) > FEW_TOKENS]
    for together in ([few] if few else []) + many:
        parts += _group(together, len(together), *_largest(feed for _, feed in together))
    numbers = sent(np.concatenate([part.reshape(-1) for part in parts]), device)
    return Plan.of(_cut(numbers, [part.shape for part in parts]))


def check(feeds: Sequence[Feed], vocab_size: int, context: int) -> None:
    """ValueError for a token outside the vocabulary, LimitError for one beyond the context."""
    for feed in feeds:
        for token in feed.tokens:
            if not 0 <= token < vocab_size:
                raise ValueError(f"token id {token} is outside the vocabulary; ids go from 0 to {vocab_size - 1}")
        if max(feed.position(index) for index in range(len(feed.tokens))) >= context:
            raise LimitError(f"the text does not fit in the model's context of {context} tokens; shorten it")


class Shape(NamedTuple):
    """The sizes of a plan in which every feed of one group has the same room, so that many passes have the same."""

    feeds: int
    rows: int
    slots: int
    tails: int

    def plan(self, numbers: torch.Tensor) -> Plan:
        """The plan that lies in one row of numbers."""
        n, square = (self.feeds * self.rows,), (self.feeds, self.rows)
        tails = (self.tails,)
        return Plan.of(_cut(numbers, [n] * 6 + [square] * 3 + [(self.feeds, self.slots), tails, tails]))


def padded(feeds: Sequence[Feed], shape: Shape) -> tuple[torch.Tensor, list[int]]:
    """The numbers of a plan of this shape, on the host, and which of all its logits are wanted.

    A token of padding goes to slot 0, which is nobody's.
    """
    _reserve(feeds)
    f, r, s, t = shape
    everywhere = np.arange(f * r)
    numbered = [(index * r, feed) for index, feed in enumerate(feeds)]
    members, _, rows, positions, seen, slots, tails, ages = _group(numbered, f, r, s)
    flat = np.zeros((3, f * r), np.int64)
    flat[:, members] = _flat(feeds)
    visible = tails[0] if len(tails) else seen[0, 0] - 1  # saying again that it is changes nothing
    tails = np.concatenate([tails, np.full(t - len(tails), visible)])
    ages = np.concatenate([ages, np.zeros(t - len(ages), np.int64)])
    parts = [*flat, everywhere, everywhere, everywhere, rows, positions, seen, slots, tails, ages]
    wanted = [start + row for start, feed in numbered for row in feed.rows]
    return torch.from_numpy(np.concatenate([part.reshape(-1) for part in parts])), wanted


def shape_of(feeds: Sequence[Feed]) -> Shape:
    """The least shape of powers of two that holds these feeds."""
    rows, slots = _largest(feeds)
    tails = sum(len(tail) for feed in feeds for tail in feed.tails)
    return Shape(_power(len(feeds)), _power(rows), max(LEAST_SLOTS, _power(slots)), _power(max(1, tails)))


def _power(least: int) -> int:
    return 1 << (least - 1).bit_length()


def _largest(feeds: Iterable[Feed]) -> tuple[int, int]:
    """The most tokens of a feed, and the most slots that one looks at."""
    sizes = [(len(feed.tokens), feed.end) for feed in feeds]
    return max(rows for rows, _ in sizes), max(slots for _, slots in sizes)


def _reserve(feeds: Sequence[Feed]) -> None:
    """Give all caches room, after which none of them moves any more."""
    for feed in feeds:
        feed.cache.reserve(feed.end)


def _flat(feeds: Sequence[Feed]) -> list[Numbers]:
    """Tokens, positions and targets of all feeds, one after the other."""
    tokens = [token for feed in feeds for token in feed.tokens]
    positions = [feed.position(index) for feed in feeds for index in range(len(feed.tokens))]
    targets = [feed.cache.start + slot for feed in feeds for slot in feed.slots]
    return [np.array(each, np.int64) for each in (tokens, positions, targets)]


def _cut(numbers: torch.Tensor, shapes: Sequence[tuple[int, ...]]) -> list[torch.Tensor]:
    parts = torch.split_with_sizes(numbers, [prod(shape) for shape in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes)]


def _group(feeds: Sequence[tuple[int, Feed]], f: int, r: int, s: int) -> list[Numbers]:
    """The arrays of a Group of this size, from feeds and where each begins in the pass."""
    rows, positions, seen = np.zeros((f, r), np.int64), np.zeros((f, r), np.int64), np.ones((f, r), np.int64)
    slots = np.zeros((f, s), np.int64)
    members, places, tails, ages = list[int](), list[int](), list[int](), list[int]()
    for index, (start, feed) in enumerate(feeds):
        n = len(feed.tokens)
        rows[index] = start
        rows[index, :n] += np.arange(n)
        positions[index, :n] = [feed.position(i) for i in range(n)]
        seen[index, :n] = feed.seen
        slots[index] = feed.cache.start + np.minimum(np.arange(s), feed.end - 1)
        members += range(start, start + n)
        places += range(index * r, index * r + n)
        for row, tail in enumerate(feed.tails):
            tails += [(index * r + row) * s + slot for slot in tail]
            ages += range(len(tail) - 1, -1, -1)
    listed = [np.array(each, np.int64) for each in (members, places, tails, ages)]
    return [*listed[:2], rows, positions, seen, slots, *listed[2:]]
