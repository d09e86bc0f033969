"""Tensors for a new file: in the storage kind that was asked for, with rotary rows in the order of that file."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from nextok.errors import ModelFileError
from nextok.formats.files import quote
from nextok.formats.quantize import FLOATING, PACKERS, can_pack, pack_tensor
from nextok.formats.quants import KINDS
from nextok.formats.tensor import Checkpoint, ModelConfig, Tensor

TARGETS = ("f32", "f16", *PACKERS)
Bytes = npt.NDArray[np.uint8]


def choose_kind(tensor: Tensor, to: str) -> str:
    """The storage kind in which a tensor is written: norms and biases in F32, matrices in `to` if their rows fit.

    To q8_0 and q4_1, what is quantised already stays as it is; so do rows that are not whole blocks.
    """
    if len(tensor.shape) == 1:
        return "F32"
    return to.upper() if to not in PACKERS or can_pack(tensor) else tensor.kind


def convert_tensors(checkpoint: Checkpoint, to: str, interleaved: bool) -> Iterator[Tensor]:
    """Each tensor, converted when it is asked for, so that only one of them is in memory."""
    for name, tensor in checkpoint.tensors.items():
        yield _convert(_reorder_rows(name, tensor, checkpoint.config, interleaved), name, choose_kind(tensor, to))


def _convert(tensor: Tensor, name: str, kind: str) -> Tensor:
    if kind == tensor.kind:
        return KINDS[kind].make_tensor(name, tensor.shape, tensor.data)
    if kind not in FLOATING:
        return pack_tensor(tensor, kind)
    values = tensor.to_float32()
    with np.errstate(over="ignore"):
        halved = values.astype("<f2" if kind == "F16" else "<f4")
    if np.isinf(halved).any() and not np.isinf(values).any():
        raise ModelFileError(f"tensor {quote(name)} has numbers beyond those of float16, 65,504: --to f32")
    return KINDS[kind].make_tensor(name, tensor.shape, halved.reshape(-1).view(np.uint8))


def _reorder_rows(name: str, tensor: Tensor, config: ModelConfig, interleaved: bool) -> Tensor:
    """The rows of queries and keys, whose pairs are rotated: side by side if interleaved, else half a head apart."""
    part = name.split(".")[-2]
    if config.rope_interleaved == interleaved or part not in ("attn_q", "attn_k", "attn_q_norm", "attn_k_norm"):
        return tensor
    width, half = config.head_width, config.rope_width // 2
    order = np.arange(width)
    if interleaved:
        order[: 2 * half] = np.arange(2 * half).reshape(2, half).T.reshape(-1)
    else:
        order[: 2 * half] = np.arange(2 * half).reshape(half, 2).T.reshape(-1)
    heads = tensor.shape[0] // width
    rows: Bytes = tensor.data.reshape(heads, width, -1)[:, order]
    return KINDS[tensor.kind].make_tensor(name, tensor.shape, rows.reshape(-1))
