"""The common form of all model files: one configuration and a mapping of named tensors."""

from collections.abc import Callable, ItemsView, Iterator, Mapping, ValuesView
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Tensor:
    """One weight as it lies in its file: memory-mapped bytes, not yet decoded.

    `shape` is in numpy order (rows = outputs first); `kind` is the storage format by its GGUF name
    (`F32`, `BF16`, `Q4_1`, ...); `data` is a read-only view of exactly the tensor's bytes, uint8.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    data: npt.NDArray[np.uint8]
    decode: Callable[[npt.NDArray[np.uint8], tuple[int, ...]], npt.NDArray[np.float32]]

    def to_float32(self) -> npt.NDArray[np.float32]:
        """The numbers, float32, of this tensor's shape."""
        return self.decode(self.data, self.shape)


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The shape of a Llama-family decoder, whatever file it came from."""

    architecture: str  # llama, mistral, qwen2 or qwen3
    layers: int
    width: int  # numbers of the residual stream
    heads: int
    kv_heads: int
    head_width: int  # numbers of a head
    hidden: int  # numbers between the two products of the feed-forward part
    vocab_size: int
    context: int  # largest number of tokens, prompt and generated ones together
    norm_epsilon: float
    rope_theta: float
    rope_width: int  # number of leading dimensions of a head that are rotated
    rope_interleaved: bool  # True: pairs (0, 1), (2, 3), ... as in GGUF llama; False: halves, as in HF
    rope_divisors: tuple[float, ...] | None = None  # per frequency, [rope_width / 2]: Llama 3 and linear scaling


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model file, opened and checked but not read: every tensor is present and of the right shape.

    A backend looks each tensor up by its name, with [] or get, when it is about to read it: see WatchedTensors.

    Tensor names are GGUF's, without regard to the file: `token_embd.weight` [vocab, width],
    `output.weight` (absent: tied to the embedding), `output_norm.weight`, and for each layer n under
    `blk.n.`: `attn_norm`, `attn_q`, `attn_k`, `attn_v`, `attn_output`, `ffn_norm`, `ffn_gate`, `ffn_up`,
    `ffn_down`, optionally `attn_q_norm`, `attn_k_norm`, each `.weight`, and `.bias` for any product.
    """

    config: ModelConfig
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, Any]  # of a GGUF file; empty for other formats


class WatchedTensors(Mapping[str, Tensor]):
    """The same tensors, whose reading is told: `report` hears how many bytes were read before, at each look-up.

    A look-up is [] or get; to ask for names, or to go through all items or values, is none.
    """

    def __init__(self, tensors: Mapping[str, Tensor], report: Callable[[int], None]) -> None:
        self._tensors = tensors
        self._report = report
        self._read: set[str] = set()
        self._bytes = 0

    def __getitem__(self, name: str) -> Tensor:
        tensor = self._tensors[name]
        if name not in self._read:
            self._report(self._bytes)
            self._read.add(name)
            self._bytes += tensor.data.nbytes
        return tensor

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def items(self) -> ItemsView[str, Tensor]:
        """All of them, not counted as read."""
        return self._tensors.items()

    def values(self) -> ValuesView[Tensor]:
        """All of them, not counted as read."""
        return self._tensors.values()
