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
from nextok.models.torch.passes import copy_to_device, pin_memory
from nextok.models.torch.plan import FEW_TOKENS, Plan, Shape, choose_shape, pad_plan
from nextok.models.torch.slots import Pool

MOST_GRAPHS = 64
"""Largest number of graphs of one model."""
RECORDING = Lock()
"""Held while a graph is recorded: a process can record only one at a time, in all its threads."""

Forward = Callable[[Plan], Tensor]


class RecordedGraph(NamedTuple):
    """A graph, and where it reads its plan and writes its logits."""

    graph: torch.cuda.CUDAGraph
    numbers: Tensor
    logits: Tensor


class Graphs:
    """The graphs of one model, for passes whose feeds have at most FEW_TOKENS tokens each.

    The model's forward pass is an argument of every call: if it were kept here, model and graphs would refer to each
    other, and the GPU's memory would be freed only by the garbage collector.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._growths = pool.growths
        self._seen: set[Shape] = set()  # shapes that came once; a graph is recorded when one comes again
        self._too_large: set[Shape] = set()  # shapes whose graph does not fit in the memory that is left
        self._recorded: dict[Shape, RecordedGraph] = {}

    def run(self, feeds: Sequence[Feed], forward: Forward) -> Tensor | None:
        """Logits of the wanted tokens, [rows, vocab] float32; None if this pass is better run without a graph."""
        if max(len(feed.tokens) for feed in feeds) > FEW_TOKENS:
            return None
        shape = choose_shape(feeds)
        if shape not in self._recorded and (shape not in self._seen or len(self._recorded) == MOST_GRAPHS):
            self._seen.add(shape)
            return None
        if shape in self._too_large:
            return None
        numbers, wanted = pad_plan(feeds, shape)  # may move the cache
        if self._growths != self._pool.growths:  # the cache has moved: no graph is valid any more
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
        recorded.numbers.copy_(pin_memory(numbers, self._pool.device), non_blocking=True)
        recorded.graph.replay()
        if wanted == list(range(len(recorded.logits))):
            return recorded.logits
        return recorded.logits.index_select(0, copy_to_device(np.array(wanted, np.int64), self._pool.device))

    @cached_property
    def _stream(self) -> torch.cuda.Stream:
        """The stream on which all graphs are recorded: each stream has a large workspace that is never freed."""
        return torch.cuda.Stream(self._pool.device)  # type: ignore[no-untyped-call]

    def _record(self, shape: Shape, numbers: Tensor, forward: Forward) -> RecordedGraph:
        with RECORDING, torch.cuda.device(self._pool.device):
            held = numbers.to(self._pool.device)
            plan = shape.build_plan(held)
            # Graphs run one after the other, and the logits of each are read before the next, so they share memory.
            memory = next((each.graph.pool() for each in self._recorded.values()), None)
            graph = torch.cuda.CUDAGraph()
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):  # restores the current stream after a failure too
                forward(plan)  # what is set up at the first call must not be recorded
                with torch.cuda.graph(graph, memory, self._stream, capture_error_mode="thread_local"):
                    logits = forward(plan)
            torch.cuda.current_stream().wait_stream(self._stream)
            return RecordedGraph(graph, held, logits)
