"""A bounded GGUF reader: the container alone, versions 2 and 3, whatever the model is.

Every length is compared with the bytes that are left before anything is allocated, so that a hostile
file costs no more time and memory than its own size. Strings must be UTF-8, names and values alike.
The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from nextok.errors import ModelFileError
from nextok.formats.fields import Fields
from nextok.formats.files import AGAIN, map_file, name_in_errors, quote
from nextok.formats.quants import StorageKind, find_kind
from nextok.formats.tensor import Tensor

Scalar: TypeAlias = str | int | float | bool
Value: TypeAlias = Scalar | list[Scalar]

MAGIC = b"GGUF"
# The largest sizes of a file's parts, in bytes, or their largest numbers.
MOST_HEADER_BYTES = 1 << 28
MOST_KEYS = 65_536
MOST_TENSORS = 65_536
MOST_ELEMENTS = 4 << 20
MOST_STRING_BYTES = 16 << 20
MOST_NAME_BYTES = 65_536
MOST_DIMENSIONS = 4
MOST_ALIGNMENT = 1 << 20

U32, U64 = struct.Struct("<I"), struct.Struct("<Q")
NUMBERS = {0: "u1", 1: "i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 10: "<u8", 11: "<i8", 12: "<f8"}
"""Types of values that are numbers, by the number that a file gives, as numpy types."""
BOOL, STRING, ARRAY = 7, 8, 9
"""The other types of values."""
# fmt: off
KIND_NAMES = (  # The storage kinds by their numbers; "-" stands for a kind that was withdrawn.
    "F32", "F16", "Q4_0", "Q4_1", "-", "-", "Q5_0", "Q5_1",
    "Q8_0", "Q8_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_K",
    "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS",
    "I8", "I16", "I32", "I64", "F64", "IQ1_M", "BF16", "-",
    "-", "-", "TQ1_0", "TQ2_0", "-", "-", "-", "MXFP4",
    "NVFP4", "Q1_0",
)
# fmt: on


@dataclass(frozen=True, slots=True)
class GGUF:
    """The settings of a GGUF file by key, and its tensors by name (none in a file that has only a vocabulary)."""

    metadata: dict[str, Value]
    tensors: dict[str, Tensor]


def read_gguf(path: str | os.PathLike[str]) -> GGUF:
    """The contents of a GGUF file, tensors still on disk; ModelFileError for any fault in it."""
    path = Path(path)
    with name_in_errors(path.name or str(path)):
        reader = _Reader(map_file(path))
        tensor_count, key_count = reader.read_preamble()
        metadata = reader.read_metadata(key_count)
        infos = [reader.read_tensor_info() for _ in range(tensor_count)]
        return GGUF(metadata, reader.read_tensors(infos, _read_alignment(metadata)))


@dataclass(frozen=True, slots=True)
class _TensorInfo:
    name: str
    shape: tuple[int, ...]
    kind: StorageKind
    offset: int  # in bytes from the start of the data section


class _Reader:
    """A position in the mapped file; each method reads what comes next."""

    def __init__(self, buffer: mmap.mmap) -> None:
        self.buffer = buffer
        self.at = 0
        self.end = min(len(buffer), MOST_HEADER_BYTES)

    def take(self, size: int) -> int:
        """The place of the next `size` bytes, which are skipped; ModelFileError if the header ends before they do."""
        start = self.at
        if size > self.end - start:
            if self.end < len(self.buffer):
                raise ModelFileError(f"the header is longer than {MOST_HEADER_BYTES} bytes: {AGAIN}")
            raise ModelFileError(
                f"{size} bytes are announced where {self.end - start} are left: "
                "the file is truncated or damaged, download it again"
            )
        self.at = start + size
        return start

    def read_u32(self) -> int:
        return int(U32.unpack_from(self.buffer, self.take(4))[0])

    def read_u64(self) -> int:
        return int(U64.unpack_from(self.buffer, self.take(8))[0])

    def read_count(self, what: str, most: int) -> int:
        number = self.read_u64()
        if number > most:
            raise ModelFileError(f"{number} {what} are announced, but {most} are allowed: {AGAIN}")
        return number

    def read_string(self, what: str, most: int) -> str:
        size = self.read_count(f"bytes of a {what}", most)
        start = self.take(size)
        try:
            return str(self.buffer[start : start + size], "utf-8")
        except UnicodeDecodeError:
            raise ModelFileError(f"a {what} is not UTF-8: {AGAIN}") from None

    def read_preamble(self) -> tuple[int, int]:
        """How many tensors and how many keys follow."""
        if self.buffer[:4] != MAGIC:
            raise ModelFileError("the file does not begin with 'GGUF': give a GGUF file, or download it again")
        self.take(4)
        version = self.read_u32()
        if version and not version & 0xFFFF:
            raise ModelFileError("the file is big-endian, nextok reads little-endian: convert it")
        if version not in (2, 3):
            raise ModelFileError(f"the file has GGUF version {version}, nextok reads 2 and 3: convert it again")
        return self.read_count("tensors", MOST_TENSORS), self.read_count("keys", MOST_KEYS)

    def read_metadata(self, count: int) -> dict[str, Value]:
        metadata: dict[str, Value] = {}
        for _ in range(count):
            key = self.read_string("key", MOST_NAME_BYTES)
            with name_in_errors(f"metadata key {quote(key)}"):
                if key in metadata:
                    raise ModelFileError(f"the key comes twice: {AGAIN}")
                metadata[key] = self.read_value(self.read_u32())
        return metadata

    def read_value(self, type_: int) -> Value:
        if type_ == STRING:
            return self.read_string("string", MOST_STRING_BYTES)
        return self.read_array() if type_ == ARRAY else self.read_numbers(type_, 1)[0]

    def read_array(self) -> list[Scalar]:
        type_, count = self.read_u32(), self.read_count("elements", MOST_ELEMENTS)
        if type_ == ARRAY:
            raise ModelFileError(f"an array holds arrays, which no model needs: {AGAIN}")
        return self.read_strings(count) if type_ == STRING else self.read_numbers(type_, count)

    def read_numbers(self, type_: int, count: int) -> list[Any]:
        if type_ not in NUMBERS and type_ != BOOL:
            raise ModelFileError(f"value type {type_} does not exist: {AGAIN}")
        dtype = np.dtype(NUMBERS.get(type_, "u1"))
        start = self.take(count * dtype.itemsize)
        numbers = np.frombuffer(self.buffer, dtype, count, start)
        if type_ == BOOL:
            if (numbers > 1).any():
                raise ModelFileError(f"a boolean is neither 0 nor 1: {AGAIN}")
            numbers = numbers.astype(bool)
        values: list[Any] = numbers.tolist()
        return values

    def read_strings(self, count: int) -> list[Scalar]:
        """Many strings, in a loop without calls, as a vocabulary has a hundred thousand."""
        found: list[bytes] = []
        at, end, buffer, unpack = self.at, self.end, self.buffer, U64.unpack_from
        while len(found) < count and at + 8 <= end:
            start = at + 8
            size = unpack(buffer, at)[0]
            if size > MOST_STRING_BYTES or start + size > end:
                break
            at = start + size
            found.append(buffer[start:at])
        self.at = at
        if len(found) < count:
            self.read_string("string", MOST_STRING_BYTES)  # raises: the same rules, with their messages
        try:
            return [str(data, "utf-8") for data in found]
        except UnicodeDecodeError:
            raise ModelFileError(f"a string is not UTF-8: {AGAIN}") from None

    def read_tensor_info(self) -> _TensorInfo:
        name = self.read_string("tensor name", MOST_NAME_BYTES)
        with name_in_errors(f"tensor {quote(name)}"):
            dimensions = self.read_u32()
            if not 1 <= dimensions <= MOST_DIMENSIONS:
                raise ModelFileError(f"it has {dimensions} dimensions, not 1 to {MOST_DIMENSIONS}: {AGAIN}")
            shape = tuple(self.read_u64() for _ in range(dimensions))[::-1]  # the file puts the innermost first
            if 0 in shape:
                raise ModelFileError(f"its shape {shape} holds nothing: {AGAIN}")
            number = self.read_u32()
            known = number < len(KIND_NAMES)
            return _TensorInfo(name, shape, find_kind(KIND_NAMES[number] if known else str(number)), self.read_u64())

    def read_tensors(self, infos: list[_TensorInfo], alignment: int) -> dict[str, Tensor]:
        """The tensors of the data section, which begins at the next aligned byte."""
        tensors: dict[str, Tensor] = {}
        base = -(-self.at // alignment) * alignment
        free = 0  # end of the tensor before, from `base`
        for info in sorted(infos, key=lambda info: info.offset):
            with name_in_errors(f"tensor {quote(info.name)}"):
                if info.name in tensors:
                    raise ModelFileError(f"the name comes twice: {AGAIN}")
                if info.offset % alignment:
                    raise ModelFileError(f"its offset {info.offset} is no multiple of {alignment}: {AGAIN}")
                if info.offset < free:
                    raise ModelFileError(f"it overlaps the tensor before it: {AGAIN}")
                size = info.kind.count_bytes(info.shape)
                free = info.offset + size
                if base + free > len(self.buffer):
                    missing = base + free - len(self.buffer)
                    raise ModelFileError(f"the file is truncated, {missing} bytes are missing: download it again")
                data = np.frombuffer(self.buffer, np.uint8, size, base + info.offset)
                tensors[info.name] = info.kind.make_tensor(info.name, info.shape, data)
        return tensors


def _read_alignment(metadata: dict[str, Value]) -> int:
    alignment = Fields(metadata).read_integer("general.alignment", MOST_ALIGNMENT, absent=32)
    if alignment < 8 or alignment & (alignment - 1):
        raise ModelFileError(f"general.alignment is {alignment}, not a power of two from 8 up: {AGAIN}")
    return alignment
