"""Passes of a few tokens as CUDA graphs: recorded once for each shape, then started with a single call.

A small pass is hundreds of kernels that take less time to run than to launch. A graph launches them all at once, but
always with the same shapes and addresses: so a pass is padded to the next shape that is a power of two, and its plan
is copied to where the graph looks for it.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from threading import Lock
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nextok.models.base import Feed
from nextok.models.torch.passes import sent, staged
from nextok.models.torch.plan import FEW_TOKENS, Plan, Shape, padded, shape_of
from nextok.models.torch.slots import Pool

MOST_GRAPHS = 64
ONE_AT_A_TIME = Lock()
"""A process can record only one graph at a time, whatever threads it has."""

Forward = Callable[[Plan], Tensor]


class Recorded(NamedTuple):
    """A graph, and where it reads its plan and writes its logits."""

    graph: torch.cuda.CUDAGraph
    numbers: Tensor
    logits: Tensor


class Graphs:
    """The graphs of one model, for passes whose feeds have at most FEW_TOKENS tokens each.

    The model's forward pass comes with every call: held here, model and graphs would hold each other, and the GPU's
    memory would wait for the garbage collector.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._growths = pool.growths
        self._met: set[Shape] = set()  # shapes that came once; the second time they are worth a graph
        self._too_large: set[Shape] = set()  # for the memory that is left
        self._recorded: dict[Shape, Recorded] = {}

    def logits(self, feeds: Sequence[Feed], forward: Forward) -> Tensor | None:
        """The logits of all tokens that want them; None if this pass is better run without a graph."""
        if max(len(feed.tokens) for feed in feeds) > FEW_TOKENS:
            return None
        shape = shape_of(feeds)
        if shape not in self._recorded and (shape not in self._met or len(self._recorded) == MOST_GRAPHS):
            self._met.add(shape)
            return None
        if shape in self._too_large:
            return None
        numbers, wanted = padded(feeds, shape)  # which may give a cache room
        if self._growths != self._pool.growths:  # the cache has moved, and all graphs look for it where it was
            self._growths = self._pool.growths
            self._recorded.clear()
        if shape not in self._recorded:
            try:
                self._recorded[shape] = self._record(shape, numbers, forward)
            except torch.OutOfMemoryError:  # without a graph, and without those of other shapes, it may yet fit
                self._too_large.add(shape)
                self._recorded.clear()
                return None
        recorded = self._recorded[shape]
        recorded.numbers.copy_(staged(numbers, self._pool.device), non_blocking=True)
        recorded.graph.replay()
        if wanted == list(range(len(recorded.logits))):
            return recorded.logits
        return recorded.logits.index_select(0, sent(np.array(wanted, np.int64), self._pool.device))

    @cached_property
    def _stream(self) -> torch.cuda.Stream:
        """Where all graphs are recorded: a stream has workspace of its own, which is large and never given back."""
        return torch.cuda.Stream(self._pool.device)  # type: ignore[no-untyped-call]

    def _record(self, shape: Shape, numbers: Tensor, forward: Forward) -> Recorded:
        with ONE_AT_A_TIME, torch.cuda.device(self._pool.device):
            held = numbers.to(self._pool.device)
            plan = shape.plan(held)
            # Graphs run one after the other and what one has said is read at once, so they share their memory.
            memory = next((each.graph.pool() for each in self._recorded.values()), None)
            graph = torch.cuda.CUDAGraph()
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):  # also after a failure, which would leave us on the other stream
                forward(plan)  # what is set up at the first call must not be recorded
                with torch.cuda.graph(graph, memory, self._stream, capture_error_mode="thread_local"):
                    logits = forward(plan)
            torch.cuda.current_stream().wait_stream(self._stream)
            return Recorded(graph, held, logits)
