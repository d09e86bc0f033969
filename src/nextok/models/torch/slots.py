"""The memory behind all caches of one model: for each layer a tensor of slots, of which every tree has a region.

There is one block for all trees, so that a pass over many of them gathers what each may see by slot numbers, and so
that a recorded graph finds it at the same address every time.
"""

from collections.abc import Sequence
from threading import RLock
from typing import Self

import torch

LEAST_REGION = 64
"""Smallest number of slots of a region that holds any."""


class Pool:
    """Slots of keys and values, divided into regions; slot 0 belongs to no region: padding is written there.

    `shapes`: for each layer those of one token's keys and values, mostly (groups, width) for both. `lock` is the
    model's: who uses the pool or its regions holds it, except for `give`.
    """

    @torch.inference_mode(False)
    def __init__(
        self,
        shapes: Sequence[tuple[tuple[int, ...], tuple[int, ...]]],
        dtype: torch.dtype,
        device: torch.device,
        slots: int = 256,
    ) -> None:
        self.device = device
        self.lock = RLock()
        self.layers = [
            tuple(torch.zeros((slots, *shape), dtype=dtype, device=device) for shape in both) for both in shapes
        ]
        self.growths = 0  # how often the memory has moved
        self._slots = slots
        self._free = [(1, slots - 1)]  # (start, size), ascending, never touching each other
        self._returned: list[tuple[int, int]] = []

    @property
    def slot_bytes(self) -> int:
        """Bytes of the keys and values of one token."""
        return sum(tensor[0].nbytes for both in self.layers for tensor in both)

    def take(self, size: int) -> int:
        """The first slot of a free region of so many slots; the memory grows where there is none."""
        while self._returned:
            self._merge(self._returned.pop())
        for index, (start, free) in enumerate(self._free):
            if free >= size:
                self._free[index : index + 1] = [(start + size, free - size)] if free > size else []
                return start
        self._grow(max(2 * self._slots, self._slots + size))
        return self.take(size)

    def give(self, start: int, size: int) -> None:
        """Take a region back; needs no lock, as a finaliser may call it in the middle of `take`."""
        self._returned.append((start, size))

    @torch.no_grad()
    def copy(self, sources: torch.Tensor, targets: torch.Tensor) -> None:
        """Copy slots; all are read before any is written."""
        for both in self.layers:
            for tensor in both:
                tensor[targets] = tensor[sources]

    def _merge(self, region: tuple[int, int]) -> None:
        merged: list[tuple[int, int]] = []
        for start, size in sorted([*self._free, region]):
            if merged and sum(merged[-1]) == start:
                merged[-1] = (merged[-1][0], merged[-1][1] + size)
            else:
                merged.append((start, size))
        self._free = merged

    @torch.inference_mode(False)  # else it could be written in that mode only
    @torch.no_grad()
    def _grow(self, slots: int) -> None:
        def grow(tensor: torch.Tensor) -> torch.Tensor:
            larger = tensor.new_zeros((slots, *tensor.shape[1:]))
            larger[: self._slots] = tensor
            return larger

        for index, both in enumerate(self.layers):  # one after the other, so that little is in memory twice
            self.layers[index] = tuple(grow(tensor) for tensor in both)
        self._merge((self._slots, slots - self._slots))
        self._slots = slots
        self.growths += 1


class Region:
    """The cache of one tree: a run of slots of the pool, numbered from 0 within the region."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.start = 0
        self.size = 0

    def __del__(self) -> None:
        self._pool.give(self.start, self.size)

    def reserve(self, end: int) -> None:
        """Make room for the slots below `end`; the region may move to another place."""
        if end <= self.size:
            return
        old, size = self.start, self.size
        room = max(end, 2 * size, LEAST_REGION)
        self.start = self._pool.take(room)
        self.size = room
        if size:
            self._pool.copy(self._index_run(old, size), self._index_run(self.start, size))
            self._pool.give(old, size)

    def move(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Copy slots; all are read before any is written."""
        with self._pool.lock:
            self.reserve(max(*sources, *targets) + 1)
            self._pool.copy(self._index_slots(sources), self._index_slots(targets))

    def fork(self, end: int) -> Self:
        """A new region that begins with this one's slots below `end`."""
        forked = type(self)(self._pool)
        if end:
            with self._pool.lock:
                forked.reserve(end)
                self._pool.copy(self._index_run(self.start, end), self._index_run(forked.start, end))
        return forked

    def pages(self) -> dict[int, int]:
        """Its slots of all layers are one piece."""
        with self._pool.lock:
            return {id(self): self.size * self._pool.slot_bytes}

    def _index_slots(self, slots: Sequence[int]) -> torch.Tensor:
        return torch.tensor(slots, device=self._pool.device) + self.start

    def _index_run(self, start: int, size: int) -> torch.Tensor:
        return torch.arange(start, start + size, device=self._pool.device)
