"""The weights of a Llama-family model as tensors: borrowed from a module, or read from a file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nextok.formats.files import forget
from nextok.formats.tensor import Checkpoint, ModelConfig
from nextok.formats.tensor import Tensor as Stored

Product = tuple[Tensor, Tensor | None]
"""A matrix [outputs, inputs] and its bias."""
SideBySide = tuple[Product, ...]
"""Products of one input, whose outputs follow each other."""

KINDS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Layer:
    """The weights of one block."""

    attention_norm: Tensor  # [d]
    q_k_v: SideBySide
    q_norm: Tensor | None  # [w], Qwen 3
    k_norm: Tensor | None
    output: SideBySide
    feed_forward_norm: Tensor  # [d]
    gate_up: SideBySide
    down: SideBySide


@dataclass(frozen=True, slots=True)
class Weights:
    """All of a model's weights, of one type on one device."""

    embedding: Tensor  # [vocab, d]
    layers: tuple[Layer, ...]
    norm: Tensor  # [d]
    head: Tensor  # [vocab, d], mostly the embedding itself

    @property
    def bytes_per_token(self) -> int:
        """What one token reads: every matrix once; of an embedding that is not the head too, only its row."""
        products = (p for layer in self.layers for p in (*layer.q_k_v, *layer.output, *layer.gate_up, *layer.down))
        return sum(matrix.nbytes for matrix in (*(matrix for matrix, _ in products), self.head))


def borrowed(config: ModelConfig, tensors: Mapping[str, Tensor]) -> Weights:
    """The weights under the names of a Checkpoint, in the memory where they are."""
    return _weights(config, tensors.get, lambda layer: layer)


def loaded(checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device) -> Weights:
    """The weights of a checkpoint on a device; matrices that share their input become one."""

    def get(name: str) -> Tensor | None:
        stored = checkpoint.tensors.get(name)
        return None if stored is None else _converted(stored, dtype, device)

    return _weights(checkpoint.config, get, _merged)


def _weights(config: ModelConfig, get: Callable[[str], Tensor | None], made: Callable[[Layer], Layer]) -> Weights:
    def the(name: str) -> Tensor:
        found = get(f"{name}.weight")
        assert found is not None, name  # the checkpoint was checked
        return found

    def products(*names: str) -> SideBySide:
        return tuple((the(name), get(f"{name}.bias")) for name in names)

    def layer(at: str) -> Layer:
        return Layer(
            attention_norm=the(f"{at}attn_norm"),
            q_k_v=products(f"{at}attn_q", f"{at}attn_k", f"{at}attn_v"),
            q_norm=get(f"{at}attn_q_norm.weight"),
            k_norm=get(f"{at}attn_k_norm.weight"),
            output=products(f"{at}attn_output"),
            feed_forward_norm=the(f"{at}ffn_norm"),
            gate_up=products(f"{at}ffn_gate", f"{at}ffn_up"),
            down=products(f"{at}ffn_down"),
        )

    embedding = the("token_embd")
    head = get("output.weight")
    layers = tuple(made(layer(f"blk.{index}.")) for index in range(config.layers))
    return Weights(embedding, layers, the("output_norm"), embedding if head is None else head)


def _merged(layer: Layer) -> Layer:
    return replace(layer, q_k_v=(_one(layer.q_k_v),), gate_up=(_one(layer.gate_up),))


def _one(products: SideBySide) -> Product:
    """A single product with the same outputs."""
    matrix = torch.cat([matrix for matrix, _ in products])
    if all(bias is None for _, bias in products):
        return matrix, None
    return matrix, torch.cat([m.new_zeros(len(m)) if bias is None else bias for m, bias in products])


def _converted(stored: Stored, dtype: torch.dtype, device: torch.device) -> Tensor:
    if kind := KINDS.get(stored.kind):
        values = torch.from_numpy(stored.data.copy()).view(kind).view(stored.shape)
    else:
        values = torch.from_numpy(stored.float32())
    forget(stored.data)
    return values.to(device, dtype)
