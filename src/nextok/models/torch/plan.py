"""One pass as tensors: which tokens are read, where their keys go, and which slots each token sees.

The tokens of all feeds lie in one flat row. Only for attention are they brought side by side: the feeds of few tokens
padded to one shape, a long prompt by itself.

Shapes: n tokens in the pass; in a group f feeds of at most r tokens, which look at s slots at most.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from nextok.errors import LimitError
from nextok.models.base import Feed
from nextok.models.torch.passes import copy_to_device

T = TypeVar("T")
S = TypeVar("S")
Numbers = npt.NDArray[np.int64]
Sizes = tuple[int, ...]

FEW_TOKENS = 16
"""Largest number of tokens of a feed that shares a padded group; a longer feed has a group of its own."""
LEAST_SLOTS = 128
"""Smallest number of slots of a padded plan."""


class GroupParts(NamedTuple, Generic[T]):
    """What a pass needs to know of feeds that attend side by side: as arrays, as their shapes, or as tensors.

    The order of the fields is the order in which the numbers travel to the device; nothing else repeats it.
    """

    members: T  # [m] the tokens of the pass that are in this group
    places: T  # [m] where each of them is among the f * r
    rows: T  # [f, r] tokens of the pass; padding repeats the feed's first
    positions: T  # [f, r] of the rows on their paths
    seen: T  # [f, r] slots of the feed, from its first, that a row sees
    slots: T  # [f, s] of the pool, in the order of the feed's own; padding repeats its last
    tails: T  # what the rows see beyond that, counted in f * r * s
    ages: T  # how many tokens of the path lie between each of these and the row that sees it, plus one


class Group(GroupParts[torch.Tensor]):
    """Feeds that attend side by side, on the model's device."""

    def build_mask(self, window: int | None = None) -> torch.Tensor:
        """[f, 1, r, s], True where a row may look: at its whole path, or at the last `window` tokens of it."""
        slots = torch.arange(self.slots.shape[1], device=self.slots.device)
        mask = slots < self.seen.unsqueeze(-1)
        if window is None:
            mask.view(-1).index_fill_(0, self.tails, True)
        else:
            mask &= slots > self.positions.unsqueeze(-1) - window
            mask.view(-1).index_copy_(0, self.tails, self.ages < window)
        return mask.unsqueeze(1)


class FlatParts(NamedTuple, Generic[T]):
    """What a pass needs to know of all its tokens: as arrays, as their shapes, or as tensors."""

    tokens: T  # [n] ids
    positions: T  # [n] on their paths
    targets: T  # [n] slots of the pool that their keys and values are written to
    wanted: T  # [rows] the tokens whose logits are wanted, in the order of the feeds


@dataclass(frozen=True, slots=True)
class Plan:
    """All tensors of a pass, on the model's device."""

    flat: FlatParts[torch.Tensor]
    groups: tuple[Group, ...]

    @property
    def is_square(self) -> bool:
        """Whether the tokens are the rows of a single group, without padding or in a flat row that has it too."""
        return len(self.groups) == 1 and self.groups[0].rows.numel() == len(self.flat.tokens)


def cut_plan(numbers: torch.Tensor, flat: FlatParts[Sizes], groups: Sequence[GroupParts[Sizes]]) -> Plan:
    """The plan whose parts have these shapes and follow each other in one row of numbers."""
    shapes = [*flat, *(shape for group in groups for shape in group)]
    parts = iter(torch.split_with_sizes(numbers, [prod(shape) for shape in shapes]))

    def take(shape: Sizes) -> torch.Tensor:
        return next(parts).view(shape)

    return Plan(FlatParts(*map(take, flat)), tuple(Group(*map(take, group)) for group in groups))


def gather_rows(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """The rows of x that an index of any shape names, [*index.shape, *x.shape[1:]]."""
    return x.index_select(0, index.flatten()).view(*index.shape, *x.shape[1:])


def split_feeds(feeds: Sequence[Feed]) -> list[list[int]]:
    """Which feeds form a group, by their indices: all of at most FEW_TOKENS tokens, then each longer one alone."""
    few = [index for index, feed in enumerate(feeds) if len(feed.tokens) <= FEW_TOKENS]
    many = [[index] for index, feed in enumerate(feeds) if len(feed.tokens) > FEW_TOKENS]
    return ([few] if few else []) + many


def build_plan(feeds: Sequence[Feed], device: torch.device) -> Plan:
    """The plan of a pass over these feeds, whose caches are regions of one pool and are given room here."""
    _reserve_slots(feeds)
    starts = np.cumsum([0, *(len(feed.tokens) for feed in feeds)]).tolist()
    wanted = [start + row for start, feed in zip(starts, feeds) for row in feed.rows]
    flat = FlatParts[Numbers]._make([*_flatten(feeds), np.array(wanted, np.int64)])
    groups = []
    for indices in split_feeds(feeds):
        together = [(starts[index], feeds[index]) for index in indices]
        groups.append(_build_group(together, len(together), *_find_largest(feed for _, feed in together)))
    numbers = copy_to_device(_join(flat, groups), device)
    return cut_plan(numbers, FlatParts(*map(np.shape, flat)), [GroupParts(*map(np.shape, group)) for group in groups])


def check_feeds(feeds: Sequence[Feed], vocab_size: int, context: int) -> None:
    """ValueError for a token outside the vocabulary, LimitError for one beyond the context."""
    for feed in feeds:
        for token in feed.tokens:
            if not 0 <= token < vocab_size:
                raise ValueError(f"token id {token} is outside the vocabulary; ids go from 0 to {vocab_size - 1}")
        if max(feed.find_position(index) for index in range(len(feed.tokens))) >= context:
            raise LimitError(f"the text does not fit in the model's context of {context} tokens; shorten it")


class Shape(NamedTuple):
    """The sizes of a plan in which every feed of one group has the same room, so that many passes have the same."""

    feeds: int
    rows: int
    slots: int
    tails: int

    def build_plan(self, numbers: torch.Tensor) -> Plan:
        """The plan that lies in one row of numbers, as `pad_plan` lays them out."""
        n, square, tails = (self.feeds * self.rows,), (self.feeds, self.rows), (self.tails,)
        group = GroupParts[Sizes](
            members=n,
            places=n,
            rows=square,
            positions=square,
            seen=square,
            slots=(self.feeds, self.slots),
            tails=tails,
            ages=tails,
        )
        return cut_plan(numbers, FlatParts(tokens=n, positions=n, targets=n, wanted=n), [group])


def pad_plan(feeds: Sequence[Feed], shape: Shape) -> tuple[torch.Tensor, list[int]]:
    """The numbers of a plan of this shape, on the host, and which of all its logits are wanted.

    A token of padding is written to slot 0, which belongs to no region.
    """
    _reserve_slots(feeds)
    f, r, s, t = shape
    everywhere = np.arange(f * r)
    numbered = [(index * r, feed) for index, feed in enumerate(feeds)]
    group = _build_group(numbered, f, r, s)
    flat = np.zeros((3, f * r), np.int64)
    flat[:, group.members] = _flatten(feeds)
    # Padding of the tails marks a slot as visible that is visible already.
    visible = group.tails[0] if len(group.tails) else group.seen[0, 0] - 1
    tails = np.concatenate([group.tails, np.full(t - len(group.tails), visible)])
    ages = np.concatenate([group.ages, np.zeros(t - len(group.ages), np.int64)])
    group = group._replace(members=everywhere, places=everywhere, tails=tails, ages=ages)
    wanted = [start + row for start, feed in numbered for row in feed.rows]
    return torch.from_numpy(_join(FlatParts._make([*flat, everywhere]), [group])), wanted


def choose_shape(feeds: Sequence[Feed]) -> Shape:
    """The smallest shape of powers of two that holds these feeds."""
    rows, slots = _find_largest(feeds)
    tails = sum(len(tail) for feed in feeds for tail in feed.tails)
    return Shape(_round_up(len(feeds)), _round_up(rows), max(LEAST_SLOTS, _round_up(slots)), _round_up(max(1, tails)))


def _round_up(least: int) -> int:
    """The smallest power of two that is at least this."""
    return 1 << (least - 1).bit_length()


def _find_largest(feeds: Iterable[Feed]) -> tuple[int, int]:
    """The most tokens of a feed, and the most slots that one looks at."""
    sizes = [(len(feed.tokens), feed.end) for feed in feeds]
    return max(rows for rows, _ in sizes), max(slots for _, slots in sizes)


def _reserve_slots(feeds: Sequence[Feed]) -> None:
    """Give all caches room, after which none of them moves any more."""
    for feed in feeds:
        feed.cache.reserve(feed.end)


def _flatten(feeds: Sequence[Feed]) -> list[Numbers]:
    """Tokens, positions and targets of all feeds, one after the other."""
    tokens = [token for feed in feeds for token in feed.tokens]
    positions = [feed.find_position(index) for feed in feeds for index in range(len(feed.tokens))]
    targets = [feed.cache.start + slot for feed in feeds for slot in feed.slots]
    return [np.array(each, np.int64) for each in (tokens, positions, targets)]


def _join(flat: FlatParts[Numbers], groups: Sequence[GroupParts[Numbers]]) -> Numbers:
    """All numbers of a pass in one row, in the order in which `cut_plan` takes them apart."""
    return np.concatenate([part.reshape(-1) for parts in (flat, *groups) for part in parts])


def _build_group(feeds: Sequence[tuple[int, Feed]], f: int, r: int, s: int) -> GroupParts[Numbers]:
    """The arrays of a group of this size, from feeds and where each begins in the pass."""
    rows, positions, seen = np.zeros((f, r), np.int64), np.zeros((f, r), np.int64), np.ones((f, r), np.int64)
    slots = np.zeros((f, s), np.int64)
    members, places, tails, ages = list[int](), list[int](), list[int](), list[int]()
    for index, (start, feed) in enumerate(feeds):
        n = len(feed.tokens)
        rows[index] = start
        rows[index, :n] += np.arange(n)
        positions[index, :n] = [feed.find_position(i) for i in range(n)]
        seen[index, :n] = feed.seen
        slots[index] = feed.cache.start + np.minimum(np.arange(s), feed.end - 1)
        members += range(start, start + n)
        places += range(index * r, index * r + n)
        for row, tail in enumerate(feed.tails):
            tails += [(index * r + row) * s + slot for slot in tail]
            ages += range(len(tail) - 1, -1, -1)
    return GroupParts(
        members=np.array(members, np.int64),
        places=np.array(places, np.int64),
        rows=rows,
        positions=positions,
        seen=seen,
        slots=slots,
        tails=np.array(tails, np.int64),
        ages=np.array(ages, np.int64),
    )
