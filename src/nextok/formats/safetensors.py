"""The tensors of a safetensors file."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from nextok.errors import ModelFileError
from nextok.formats.files import AGAIN, map_file, name_in_errors, quote
from nextok.formats.quants import KINDS
from nextok.formats.tensor import Tensor

KINDS_READ = ("F32", "F16", "BF16")
"""The types of tensors that nextok reads."""
MOST_HEADER_BYTES = 16 << 20
"""Largest size of a header, in bytes."""


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Every tensor by its own name, still on disk; the header lists them in the order of their bytes, no gaps."""
    with name_in_errors(path.name):
        buffer = map_file(path)
        at = 8 + struct.unpack("<Q", buffer[:8].ljust(8, b"\0"))[0]
        if at > min(len(buffer), MOST_HEADER_BYTES):
            raise ModelFileError("the header is longer than the file, or than 16 MiB: download it again")
        tensors: dict[str, Tensor] = {}
        for name, kind_name, shape in _read_header(path):
            with name_in_errors(f"tensor {quote(name)}"):
                if kind_name not in KINDS_READ:
                    raise ModelFileError(f"its type is {kind_name}: choose a model in {', '.join(KINDS_READ)}")
                if not shape or 0 in shape:
                    raise ModelFileError(f"its shape is {shape}, a weight has values in rows: {AGAIN}")
                size = KINDS[kind_name].count_bytes(shape)
                if at + size > len(buffer):
                    raise ModelFileError("the file is truncated: download it again")
                data = np.frombuffer(buffer, np.uint8, size, at)
                tensors[name] = KINDS[kind_name].make_tensor(name, shape, data)
                at += size
        return tensors


def _read_header(path: Path) -> list[tuple[str, str, tuple[int, ...]]]:
    """Name, type and shape of each tensor, checked by the safetensors library itself."""
    try:
        with safe_open(path, framework="numpy") as file:
            parts: list[tuple[str, Any]] = [(name, file.get_slice(name)) for name in file.offset_keys()]
            return [(name, part.get_dtype(), tuple(part.get_shape())) for name, part in parts]
    except (SafetensorError, OSError) as error:
        raise ModelFileError(f"safetensors refuses it ({quote(str(error))}): download it again") from None
