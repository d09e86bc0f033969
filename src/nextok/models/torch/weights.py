"""The weights of a Llama-family model as tensors: those of a module in memory, or read from a file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nextok.formats.files import release_pages
from nextok.formats.tensor import Checkpoint, ModelConfig
from nextok.formats.tensor import Tensor as Stored

Product = tuple[Tensor, Tensor | None]
"""A matrix [outputs, inputs] and its bias."""
SideBySide = tuple[Product, ...]
"""Products of one input, whose outputs follow each other."""

TORCH_TYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""The type of torch for each storage kind that it can hold unchanged."""


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
    head: Tensor  # [vocab, d], often the embedding itself

    @property
    def bytes_per_token(self) -> int:
        """Bytes of all matrices and the head; an embedding that is not the head too is not counted."""
        products = (p for layer in self.layers for p in (*layer.q_k_v, *layer.output, *layer.gate_up, *layer.down))
        return sum(matrix.nbytes for matrix in (*(matrix for matrix, _ in products), self.head))


def borrow_weights(config: ModelConfig, tensors: Mapping[str, Tensor]) -> Weights:
    """The weights under the names of a Checkpoint, sharing the memory of `tensors`."""
    return _build_weights(config, tensors.get, lambda layer: layer)


def load_weights(checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device) -> Weights:
    """The weights of a checkpoint in this type on a device; matrices that share their input become one."""

    def get(name: str) -> Tensor | None:
        stored = checkpoint.tensors.get(name)
        return None if stored is None else _convert(stored, dtype, device)

    return _build_weights(checkpoint.config, get, _merge_products)


def _build_weights(
    config: ModelConfig, get: Callable[[str], Tensor | None], finish: Callable[[Layer], Layer]
) -> Weights:
    def get_weight(name: str) -> Tensor:
        found = get(f"{name}.weight")
        assert found is not None, name  # the checkpoint was checked
        return found

    def get_products(*names: str) -> SideBySide:
        return tuple((get_weight(name), get(f"{name}.bias")) for name in names)

    def build_layer(at: str) -> Layer:
        return Layer(
            attention_norm=get_weight(f"{at}attn_norm"),
            q_k_v=get_products(f"{at}attn_q", f"{at}attn_k", f"{at}attn_v"),
            q_norm=get(f"{at}attn_q_norm.weight"),
            k_norm=get(f"{at}attn_k_norm.weight"),
            output=get_products(f"{at}attn_output"),
            feed_forward_norm=get_weight(f"{at}ffn_norm"),
            gate_up=get_products(f"{at}ffn_gate", f"{at}ffn_up"),
            down=get_products(f"{at}ffn_down"),
        )

    embedding = get_weight("token_embd")
    head = get("output.weight")
    layers = tuple(finish(build_layer(f"blk.{index}.")) for index in range(config.layers))
    return Weights(embedding, layers, get_weight("output_norm"), embedding if head is None else head)


def _merge_products(layer: Layer) -> Layer:
    return replace(layer, q_k_v=(_concatenate(layer.q_k_v),), gate_up=(_concatenate(layer.gate_up),))


def _concatenate(products: SideBySide) -> Product:
    """One product whose outputs are those of all, in their order."""
    matrix = torch.cat([matrix for matrix, _ in products])
    if all(bias is None for _, bias in products):
        return matrix, None
    return matrix, torch.cat([m.new_zeros(len(m)) if bias is None else bias for m, bias in products])


def _convert(stored: Stored, dtype: torch.dtype, device: torch.device) -> Tensor:
    if kind := TORCH_TYPES.get(stored.kind):
        values = torch.from_numpy(stored.data.copy()).view(kind).view(stored.shape)
    else:
        values = torch.from_numpy(stored.to_float32())
    release_pages(stored.data)
    return values.to(device, dtype)
