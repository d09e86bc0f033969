"""The tensors of a Hugging Face folder, in one safetensors file or in several with an index."""

import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from nextok.errors import ModelFileError
from nextok.formats.files import AGAIN, map_file, member, read_json, shown, within
from nextok.formats.quants import KINDS
from nextok.formats.tensor import Tensor

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
READ = ("F32", "F16", "BF16")
MOST_HEADER_BYTES = 16 << 20
MOST_INDEX_BYTES = 16 << 20
MOST_SHARDS = 4096


def read_safetensors(folder: Path) -> dict[str, Tensor]:
    """Every tensor of the folder by its own name, still on disk; ModelFileError for any fault."""
    if os.path.exists(folder / SINGLE):
        return _read_shard(member(folder, SINGLE))
    if not os.path.exists(folder / INDEX):
        raise ModelFileError(_what_instead(folder))
    tensors: dict[str, Tensor] = {}
    for shard, promised in _shards(folder).items():
        found = _read_shard(member(folder, shard))
        if missing := promised - found.keys():
            raise ModelFileError(f"{shard}: tensor {shown(min(missing))} of the index is missing: {AGAIN}")
        if twice := tensors.keys() & found.keys():
            raise ModelFileError(f"{shard}: tensor {shown(min(twice))} is in another shard too: {AGAIN}")
        tensors |= found
    return tensors


def _what_instead(folder: Path) -> str:
    if any(folder.glob("pytorch_model*.bin")):
        return (
            "it holds only pytorch_model.bin, which can run code when read: convert it, if you trust it, with "
            "transformers: AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder)"
        )
    return f"it holds neither {SINGLE} nor {INDEX}: download the whole model"


def _shards(folder: Path) -> dict[str, set[str]]:
    """For each file that the index names, the tensors it must hold."""
    with within(INDEX):
        weight_map = read_json(member(folder, INDEX), MOST_INDEX_BYTES).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
            raise ModelFileError(f"weight_map does not map tensors to files: {AGAIN}")
        shards: dict[str, set[str]] = {}
        for tensor, name in weight_map.items():
            shards.setdefault(name, set()).add(tensor)
        if not 1 <= len(shards) <= MOST_SHARDS:
            raise ModelFileError(f"it names {len(shards)} files, not 1 to {MOST_SHARDS}: {AGAIN}")
        for name in shards:
            if not os.path.exists(member(folder, name)):
                raise ModelFileError(f"{shown(name)} is not in the folder: download the whole model")
        return shards


def _read_shard(path: Path) -> dict[str, Tensor]:
    """The tensors of one file, which its header lists in the order of their bytes, without gaps."""
    with within(path.name):
        buffer = map_file(path)
        at = 8 + struct.unpack("<Q", buffer[:8].ljust(8, b"\0"))[0]
        if at > min(len(buffer), MOST_HEADER_BYTES):
            raise ModelFileError("the header is longer than the file, or than 16 MiB: download it again")
        tensors: dict[str, Tensor] = {}
        for name, kind_name, shape in _header(path):
            with within(f"tensor {shown(name)}"):
                if kind_name not in READ:
                    raise ModelFileError(f"its type is {kind_name}: choose a model in {', '.join(READ)}")
                if not shape or 0 in shape:
                    raise ModelFileError(f"its shape is {shape}, a weight has values in rows: {AGAIN}")
                size = KINDS[kind_name].size(shape)
                if at + size > len(buffer):
                    raise ModelFileError("the file is truncated: download it again")
                data = np.frombuffer(buffer, np.uint8, size, at)
                tensors[name] = KINDS[kind_name].tensor(name, shape, data)
                at += size
        return tensors


def _header(path: Path) -> list[tuple[str, str, tuple[int, ...]]]:
    """Name, type and shape of each tensor, checked by the safetensors library itself."""
    try:
        with safe_open(path, framework="numpy") as file:
            parts: list[tuple[str, Any]] = [(name, file.get_slice(name)) for name in file.offset_keys()]
            return [(name, part.get_dtype(), tuple(part.get_shape())) for name, part in parts]
    except (SafetensorError, OSError) as error:
        raise ModelFileError(f"safetensors refuses it ({shown(str(error))}): download it again") from None
