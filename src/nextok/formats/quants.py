"""Storage kinds: how blocks of bytes become float32, equal to the last bit to llama.cpp's reference.

A block is described by a numpy record: its fields are the block's layout, its size the bytes per block.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from nextok.errors import ModelFileError
from nextok.formats.files import AGAIN
from nextok.formats.tensor import Tensor

Bytes: TypeAlias = npt.NDArray[np.uint8]
Floats: TypeAlias = npt.NDArray[np.float32]
Records: TypeAlias = npt.NDArray[Any]

CHUNK = 65_536
"""Number of values decoded at a time: bytes, temporaries and result together stay in the processor's cache."""


@dataclass(frozen=True, slots=True)
class StorageKind:
    """One storage format: `length` values lie in one record of `layout`, `unpack` writes them to [n, length]."""

    name: str
    length: int
    layout: np.dtype[Any]
    unpack: Callable[[Records, Floats], None]

    def count_bytes(self, shape: tuple[int, ...]) -> int:
        """How many bytes a tensor of this shape takes; ModelFileError if a row is not whole blocks."""
        if shape[-1] % self.length:
            raise ModelFileError(
                f"rows have {shape[-1]} values, but {self.name} stores blocks of {self.length}: {AGAIN}"
            )
        return prod(shape) // self.length * self.layout.itemsize

    def decode(self, data: Bytes, shape: tuple[int, ...]) -> Floats:
        """The numbers, float32 of `shape`, that lie in exactly `self.count_bytes(shape)` bytes."""
        records = data.view(self.layout)
        values = np.empty((len(records), self.length), np.float32)
        step = max(1, CHUNK // self.length)
        with np.errstate(all="ignore"):  # a damaged scale gives infinities or NaN here, as in llama.cpp
            for start in range(0, len(records), step):
                self.unpack(records[start : start + step], values[start : start + step])
        return values.reshape(shape)

    def make_tensor(self, name: str, shape: tuple[int, ...], data: Bytes) -> Tensor:
        """A tensor of this kind over its bytes."""
        return Tensor(name, shape, self.name, data, self.decode)


def _unpack_float(records: Records, out: Floats) -> None:
    out[:, 0] = records["value"]


def _unpack_bf16(records: Records, out: Floats) -> None:
    np.left_shift(records["value"], 16, out=out[:, 0].view(np.uint32), dtype=np.uint32)


def _unpack_q8_0(records: Records, out: Floats) -> None:
    out[:] = records["values"]
    out *= _to_column(records["scale"])


def _unpack_nibbles(records: Records, out: Floats, fifth_bit: bool, offset: int | None) -> None:
    """Q4_0, Q4_1, Q5_0, Q5_1: low nibbles are the first 16 values; below them a fixed offset or a minimum."""
    values = np.empty(out.shape, np.uint8)
    np.bitwise_and(records["low"], 15, out=values[:, :16])
    np.right_shift(records["low"], 4, out=values[:, 16:])
    if fifth_bit:
        high = np.unpackbits(records["high"], axis=1, bitorder="little")
        values |= np.left_shift(high, 4, out=high)
    out[:] = values
    if offset is not None:
        out -= np.float32(offset)
    out *= _to_column(records["scale"])
    if offset is None:
        out += _to_column(records["minimum"])


def _unpack_q4_k(records: Records, out: Floats, fifth_bit: bool) -> None:
    """Q4_K and Q5_K: 8 runs of 32 values, each with a 6-bit scale and a 6-bit minimum."""
    values = np.empty((len(records), 4, 2, 32), np.uint8)
    low = records["low"].reshape(-1, 4, 32)
    np.bitwise_and(low, 15, out=values[:, :, 0])
    np.right_shift(low, 4, out=values[:, :, 1])
    runs = values.reshape(-1, 8, 32)
    if fifth_bit:
        for run in range(8):
            runs[:, run] |= (records["high"] >> run & 1) << 4
    scales, minima, spread = np.split(records["scales"], 3, axis=1)
    scales = np.hstack((scales & 63, spread & 15 | scales >> 2 & 48))
    minima = np.hstack((minima & 63, spread >> 4 | minima >> 2 & 48))
    result = out.reshape(-1, 8, 32)
    result[:] = runs
    result *= (_to_column(records["scale"]) * scales.astype(np.float32))[:, :, None]
    result -= (_to_column(records["minimum"]) * minima.astype(np.float32))[:, :, None]


def _unpack_q6_k(records: Records, out: Floats) -> None:
    """16 runs of 16 values, each with an 8-bit scale; 4 low and 2 high bits a value."""
    values = np.empty((len(records), 2, 4, 32), np.uint8)
    low, high = records["low"].reshape(-1, 2, 2, 32), records["high"].reshape(-1, 2, 32)
    np.bitwise_and(low, 15, out=values[:, :, :2])
    np.right_shift(low, 4, out=values[:, :, 2:])
    for quarter in range(4):
        values[:, :, quarter] |= (high >> 2 * quarter & 3) << 4
    result = out.reshape(-1, 16, 16)
    result[:] = values.reshape(-1, 16, 16)
    result -= np.float32(32)
    result *= (_to_column(records["scale"]) * records["scales"].astype(np.float32))[:, :, None]


def _to_column(half: npt.NDArray[np.float16]) -> Floats:
    return half.astype(np.float32)[:, None]


def _build_kinds() -> dict[str, StorageKind]:
    scale, minimum, low = ("scale", "<f2"), ("minimum", "<f2"), ("low", "u1", 16)
    high, run_scales, run_low = ("high", "u1", 4), ("scales", "u1", 12), ("low", "u1", 128)
    rows: list[tuple[str, int, list[Any], Callable[[Records, Floats], None]]] = [
        ("F32", 1, [("value", "<f4")], _unpack_float),
        ("F16", 1, [("value", "<f2")], _unpack_float),
        ("BF16", 1, [("value", "<u2")], _unpack_bf16),
        ("Q8_0", 32, [scale, ("values", "i1", 32)], _unpack_q8_0),
        ("Q4_0", 32, [scale, low], partial(_unpack_nibbles, fifth_bit=False, offset=8)),
        ("Q4_1", 32, [scale, minimum, low], partial(_unpack_nibbles, fifth_bit=False, offset=None)),
        ("Q5_0", 32, [scale, high, low], partial(_unpack_nibbles, fifth_bit=True, offset=16)),
        ("Q5_1", 32, [scale, minimum, high, low], partial(_unpack_nibbles, fifth_bit=True, offset=None)),
        ("Q4_K", 256, [scale, minimum, run_scales, run_low], partial(_unpack_q4_k, fifth_bit=False)),
        (
            "Q5_K",
            256,
            [scale, minimum, run_scales, ("high", "u1", 32), run_low],
            partial(_unpack_q4_k, fifth_bit=True),
        ),
        ("Q6_K", 256, [run_low, ("high", "u1", 64), ("scales", "i1", 16), scale], _unpack_q6_k),
    ]
    return {name: StorageKind(name, length, np.dtype(layout), unpack) for name, length, layout, unpack in rows}


KINDS = _build_kinds()


def find_kind(name: str) -> StorageKind:
    """The storage kind of this name; ModelFileError, with the names there are, if nextok does not read it."""
    kind = KINDS.get(name)
    if kind is None:
        raise ModelFileError(f"storage kind {name[:20]!r} is not read: choose a file in {', '.join(KINDS)}")
    return kind
