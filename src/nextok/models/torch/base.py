"""The part that all models of torch share: caches in one pool, one lock, and the readout on the device."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nextok.core.query import Row
from nextok.models.base import Feed
from nextok.models.torch.passes import isolate_pass
from nextok.models.torch.readout import answer_rows
from nextok.models.torch.slots import Pool, Region


class TorchModel(ABC):
    """A model whose passes give logits as a tensor.

    The pool's lock covers every pass and every change of a cache, so that engines of several threads may share it.
    """

    rounds_by_shape = True  # a matrix product adds in another order for another number of rows
    pool: Pool
    device: torch.device

    @abstractmethod
    def logits(self, feeds: Sequence[Feed]) -> Tensor:
        """Read all tokens of a pass; the scores, [rows, vocab] float32, of those whose logits are wanted."""

    def open(self) -> Region:
        """An empty cache."""
        with self.pool.lock:
            return Region(self.pool)

    def answer(self, feeds: Sequence[Feed], rows: Sequence[Row]) -> list[Any]:
        """One pass over all feeds, then the readout on the device; raises what `logits` raises."""
        with self.pool.lock, isolate_pass(self.device):
            return answer_rows(self.logits(feeds), rows)
