"""One pass as tensors: which tokens are read, where their keys go, and who looks at what.

The tokens of all feeds lie in one flat row. Only for attention are they brought side by side: the feeds of few tokens
padded to one shape, a long prompt by itself.

Shapes: n tokens in the pass; in a group f feeds of at most r tokens, which look at s slots at most.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from nextok.errors import LimitError
from nextok.models.base import Feed

Numbers = npt.NDArray[np.int64]

FEW_TOKENS = 16
"""A feed of more tokens has a group of its own."""


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
        mask = slots < self.seen[..., None]
        if window is not None:
            mask &= slots > self.positions[..., None] - window
        mask.view(-1)[self.tails] = True if window is None else self.ages < window
        return mask[:, None]


@dataclass(frozen=True, slots=True)
class Plan:
    """All tensors of a pass, on the model's device."""

    tokens: torch.Tensor  # [n]
    positions: torch.Tensor  # [n]
    targets: torch.Tensor  # [n] slots of the pool that their keys and values are written to
    wanted: torch.Tensor  # [rows] the tokens whose logits are wanted, in the order of the feeds
    groups: tuple[Group, ...]


def planned(feeds: Sequence[Feed], vocab_size: int, context: int, device: torch.device) -> Plan:
    """The plan of a pass over these feeds, whose caches are regions of one pool and are given room here.

    Raises ValueError for a token outside the vocabulary, LimitError for one beyond the context.
    """
    for feed in feeds:
        feed.cache.reserve(_end(feed))
    starts = np.cumsum([0, *(len(feed.tokens) for feed in feeds)])
    tokens = np.array([token for feed in feeds for token in feed.tokens], np.int64)
    positions = np.array([feed.position(i) for feed in feeds for i in range(len(feed.tokens))], np.int64)
    check(tokens, positions, vocab_size, context)
    targets = np.array([feed.cache.start + slot for feed in feeds for slot in feed.slots], np.int64)
    wanted = np.array([start + row for start, feed in zip(starts, feeds) for row in feed.rows], np.int64)
    numbered = list(zip(starts.tolist(), feeds))
    few = [(start, feed) for start, feed in numbered if len(feed.tokens) <= FEW_TOKENS]
    many = [[(start, feed)] for start, feed in numbered if len(feed.tokens) > FEW_TOKENS]
    parts = [tokens, positions, targets, wanted]
    groups = [_group(together) for together in ([few] if few else []) + many]
    sent = uploaded([*parts, *(array for group in groups for array in group)], device)
    first, rest = sent[: len(parts)], sent[len(parts) :]
    size = len(groups[0])
    made = tuple(Group(*rest[at : at + size]) for at in range(0, len(rest), size))
    return Plan(first[0], first[1], first[2], first[3], made)


def check(tokens: Numbers, positions: Numbers, vocab_size: int, context: int) -> None:
    """Raise what `planned` raises."""
    wrong = tokens[(tokens < 0) | (tokens >= vocab_size)]
    if len(wrong):
        raise ValueError(f"token id {wrong[0]} is outside the vocabulary; ids go from 0 to {vocab_size - 1}")
    if positions.max(initial=0) >= context:
        raise LimitError(f"the text does not fit in the model's context of {context} tokens; shorten it")


def uploaded(arrays: Sequence[Numbers], device: torch.device) -> list[torch.Tensor]:
    """Whole numbers on the device, in one copy."""
    flat = torch.from_numpy(np.concatenate([array.reshape(-1) for array in arrays])).to(device)
    parts = torch.split_with_sizes(flat, [array.size for array in arrays])
    return [part.view(array.shape) for part, array in zip(parts, arrays)]


def _end(feed: Feed) -> int:
    """One above the highest slot that a feed writes or sees."""
    return 1 + max(max(feed.slots), max(feed.seen) - 1, *(max(tail, default=0) for tail in feed.tails))


def _group(feeds: Sequence[tuple[int, Feed]]) -> tuple[Numbers, ...]:
    """The arrays of a Group, from feeds and where each begins in the pass."""
    f, r = len(feeds), max(len(feed.tokens) for _, feed in feeds)
    ends = [_end(feed) for _, feed in feeds]
    s = max(ends)
    rows, positions, seen = np.zeros((f, r), np.int64), np.zeros((f, r), np.int64), np.ones((f, r), np.int64)
    slots = np.minimum(np.arange(s), np.array(ends)[:, None] - 1)
    members, places, tails, ages = list[int](), list[int](), list[int](), list[int]()
    for index, (start, feed) in enumerate(feeds):
        n = len(feed.tokens)
        rows[index] = start
        rows[index, :n] += np.arange(n)
        positions[index, :n] = [feed.position(i) for i in range(n)]
        seen[index, :n] = feed.seen
        slots[index] += feed.cache.start
        members += range(start, start + n)
        places += range(index * r, index * r + n)
        for row, tail in enumerate(feed.tails):
            tails += [(index * r + row) * s + slot for slot in tail]
            ages += range(len(tail) - 1, -1, -1)
    lists = [np.array(each, np.int64) for each in (members, places, tails, ages)]
    return lists[0], lists[1], rows, positions, seen, slots, lists[2], lists[3]
