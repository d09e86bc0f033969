"""From rows of logits to answers."""

from collections.abc import Sequence
from typing import Any

import torch

from nextok.query import Row
from nextok.sampling import readout


def read(logits: torch.Tensor, rows: Sequence[Row]) -> list[Any]:
    """Answer each row from `logits` [rows of the pass, vocab]."""
    return readout.read(logits.float().cpu().numpy(), rows)
