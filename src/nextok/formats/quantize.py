"""Floating-point weights become blocks of 8 or 4 bits, as llama.cpp's reference rounds them.

Each block of 32 values of a row has a scale; Q8_0 is symmetric, Q4_1 goes from its least to its greatest value.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from nextok.errors import NextokError
from nextok.formats.quants import CHUNK, KINDS
from nextok.formats.tensor import Checkpoint, Tensor

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

FLOATING = ("F32", "F16", "BF16")
"""The storage kinds that can be quantised."""
BLOCK = 32
"""Number of values of a block."""


def quantize_checkpoint(checkpoint: Checkpoint, kind: str) -> Checkpoint:
    """The same model with its floating-point matrices in `kind`, q8_0 or q4_1.

    Norms, biases and rows that are not whole blocks stay as they are. NextokError if there is nothing to quantise.
    """
    tensors = {}
    for name in checkpoint.tensors:
        tensor = checkpoint.tensors[name]
        tensors[name] = pack_tensor(tensor, kind.upper()) if can_pack(tensor) else tensor
    if all(tensors[name] is tensor for name, tensor in checkpoint.tensors.items()):
        raise NextokError(
            f"quantize={kind!r} is for weights in {', '.join(FLOATING)}, and nothing here is: leave it out"
        )
    return replace(checkpoint, tensors=tensors)


def can_pack(tensor: Tensor) -> bool:
    """Whether a tensor is a matrix of floating-point numbers whose rows are whole blocks."""
    return tensor.kind in FLOATING and len(tensor.shape) == 2 and tensor.shape[1] % BLOCK == 0


def pack_tensor(tensor: Tensor, kind: str) -> Tensor:
    """A matrix in Q8_0 or Q4_1, a few rows at a time, so that its numbers are never all in memory."""
    pack = PACKERS[kind.lower()]
    rows, columns = tensor.shape
    blocks = np.empty((rows, KINDS[kind].count_bytes((1, columns))), np.uint8)
    source = tensor.data.reshape(rows, -1)
    step = max(1, 16 * CHUNK // columns)
    for start in range(0, rows, step):
        part = source[start : start + step]
        values = tensor.decode(part.reshape(-1), (len(part), columns))
        blocks[start : start + step] = pack(values.reshape(-1, BLOCK)).reshape(len(part), -1)
    return KINDS[kind].make_tensor(tensor.name, tensor.shape, blocks.reshape(-1))


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def _pack_q8_0(values: Floats) -> Bytes:
    """[blocks, 32] as a scale in float16 and 32 codes from -127 to 127 each, [blocks, 34]."""
    scale = np.abs(values).max(axis=1, keepdims=True) / np.float32(127)
    codes = _round(values * _invert(scale)).astype(np.int8)
    return np.hstack((_to_half(scale), codes.view(np.uint8)))


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def _pack_q4_1(values: Floats) -> Bytes:
    """[blocks, 32] as scale and least value in float16 and 32 codes from 0 to 15 each, [blocks, 20]."""
    least = values.min(axis=1, keepdims=True)
    scale = (values.max(axis=1, keepdims=True) - least) / np.float32(15)
    codes = np.trunc((values - least) * _invert(scale) + np.float32(0.5)).clip(0, 15).astype(np.uint8)
    return np.hstack((_to_half(scale), _to_half(least), codes[:, :16] | codes[:, 16:] << 4))


PACKERS: dict[str, Callable[[Floats], Bytes]] = {"q8_0": _pack_q8_0, "q4_1": _pack_q4_1}


def _invert(scale: Floats) -> Floats:
    return np.where(scale > 0, np.float32(1) / scale, np.float32(0))


def _round(values: Floats) -> Floats:
    """To the nearest whole number, halves away from zero."""
    return np.asarray(np.copysign(np.floor(np.abs(values) + np.float32(0.5)), values))


def _to_half(column: Floats) -> Bytes:
    return np.ascontiguousarray(column.astype("<f2")).view(np.uint8)
