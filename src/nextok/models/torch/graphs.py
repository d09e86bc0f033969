"""Passes of a few tokens as CUDA graphs: recorded once for each shape, then started with a single call.

A small pass is hundreds of kernels that take less time to run than to launch. A graph launches them all at once, but
always with the same shapes and addresses: so a pass is padded to the next shape that is a power of two, and its plan
is copied to where the graph looks for it.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nextok.models.base import Feed
from nextok.models.torch.plan import FEW_TOKENS, Plan, Shape, padded, shape_of
from nextok.models.torch.slots import Pool

MOST_GRAPHS = 64


class Recorded(NamedTuple):
    """A graph, and where it reads its plan and writes its logits."""

    graph: torch.cuda.CUDAGraph
    numbers: Tensor
    logits: Tensor


class Graphs:
    """The graphs of one model, for passes whose feeds have at most FEW_TOKENS tokens each."""

    def __init__(self, forward: Callable[[Plan], Tensor], pool: Pool) -> None:
        self._forward = forward
        self._pool = pool
        self._growths = pool.growths
        self._met: set[Shape] = set()  # shapes that came once; the second time they are worth a graph
        self._recorded: dict[Shape, Recorded] = {}

    def logits(self, feeds: Sequence[Feed]) -> Tensor | None:
        """The logits of all tokens that want them; None if this pass is better run without a graph."""
        if max(len(feed.tokens) for feed in feeds) > FEW_TOKENS:
            return None
        shape = shape_of(feeds)
        if shape not in self._recorded and (shape not in self._met or len(self._recorded) == MOST_GRAPHS):
            self._met.add(shape)
            return None
        numbers, wanted = padded(feeds, shape)  # which may give a cache room
        if self._growths != self._pool.growths:  # the cache has moved, and all graphs look for it where it was
            self._growths = self._pool.growths
            self._recorded.clear()
        if shape not in self._recorded:
            self._recorded[shape] = self._record(shape, numbers)
        recorded = self._recorded[shape]
        recorded.numbers.copy_(numbers, non_blocking=True)
        recorded.graph.replay()
        return recorded.logits if wanted == list(range(len(recorded.logits))) else recorded.logits[wanted]

    def _record(self, shape: Shape, numbers: Tensor) -> Recorded:
        held = numbers.to(self._pool.device)
        plan = shape.plan(held)
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._forward(plan)  # what is set up at the first call must not be recorded
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            logits = self._forward(plan)
        return Recorded(graph, held, logits)
