"""The C++ core; see native/src/module.cpp. Every index is checked there, and a wrong one raises ValueError."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nextok.core.query import Row
from nextok.models.base import Feed

def instruction_sets() -> list[str]:
    """The instruction sets that this processor runs, best first."""

def read_bandwidth(threads: int, megabytes: int) -> float:
    """How fast this many threads read that much memory together, in GB/s (10^9 bytes); the best of several reads."""

def read(logits: npt.NDArray[np.float32], rows: Iterable[Row], first: int = 0) -> list[Any]:
    """Answer each row as `readout/readout.py` does; one that must be read apart raises ValueError."""

def knows(type: type) -> bool:
    """Whether the core has code for transforms of this type."""

class Cache:
    """Keys and values of one tree, in pages of slots."""

    def move(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Copy slots; all are read before any is written."""

    def fork(self, end: int) -> Cache:
        """A cache that begins with this one's slots below `end`; the pages are shared until one of both writes."""

    def pages(self) -> dict[int, int]:
        """The bytes of each page, by its address."""

class Model:
    """Weights and threads."""

    def __init__(
        self,
        *,
        layers: int,
        width: int,
        heads: int,
        kv_heads: int,
        head_width: int,
        hidden: int,
        vocab: int,
        context: int,
        rope_width: int,
        rope_interleaved: bool,
        norm_epsilon: float,
        frequencies: Sequence[float],
        threads: int,
        exact: bool,
        isa: str,
    ) -> None: ...
    def set_vector(self, name: str, data: npt.NDArray[np.float32]) -> None:
        """A norm, or a bias (its name ends with `.bias`)."""

    def set_matrix(self, name: str, kind: str, data: npt.NDArray[np.uint8], rows: int, columns: int) -> None:
        """A matrix as its file stores it, repacked into panels."""

    def finish(self) -> None:
        """Check that every weight is there and has the right shape."""

    def open(self) -> Cache:
        """An empty cache."""

    def logits(self, feeds: Sequence[Feed]) -> npt.NDArray[np.float32]:
        """Scores [rows, vocab] of one pass, of the tokens whose logits are wanted."""

    def answer(
        self, feeds: Sequence[Feed], rows: Sequence[Row]
    ) -> tuple[list[Any], list[tuple[int, npt.NDArray[np.float32]]]]:
        """One pass, and the answer to each of its rows.

        A row that is read apart has None; the second list has its place and scores [1, vocab].
        """

    @property
    def weight_bytes(self) -> int:
        """What the packed matrices take."""
