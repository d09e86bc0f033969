"""The tensors of a Hugging Face folder, in one file or in several with an index, as safetensors or from torch."""

import os
from collections.abc import Callable
from pathlib import Path

from nextok.errors import ModelFileError
from nextok.formats.files import AGAIN, locate_file, name_in_errors, quote, read_json
from nextok.formats.safetensors import read_safetensors
from nextok.formats.tensor import Tensor
from nextok.formats.torch_file import read_torch_file

# The file names that are looked for, in this order, each with its reader.
READERS: dict[str, Callable[[Path], dict[str, Tensor]]] = {
    "model.safetensors": read_safetensors,
    "pytorch_model.bin": read_torch_file,
}
MOST_INDEX_BYTES = 16 << 20
"""Largest size of an index, in bytes."""
MOST_SHARDS = 4096
"""Largest number of files that an index may name."""


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Every tensor of the folder by its own name, still on disk; ModelFileError for any fault."""
    for single, read in READERS.items():
        if os.path.exists(folder / single):
            return read(locate_file(folder, single))
        if os.path.exists(folder / _name_index(single)):
            return _join_shards(folder, _name_index(single), read)
    names = [name for single in READERS for name in (single, _name_index(single))]
    raise ModelFileError(f"it holds none of {', '.join(names)}: download the whole model")


def _name_index(single: str) -> str:
    return f"{single}.index.json"


def _join_shards(folder: Path, index: str, read: Callable[[Path], dict[str, Tensor]]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for shard, promised in _list_shards(folder, index).items():
        found = read(locate_file(folder, shard))
        if missing := promised - found.keys():
            raise ModelFileError(f"{shard}: tensor {quote(min(missing))} of the index is missing: {AGAIN}")
        if twice := tensors.keys() & found.keys():
            raise ModelFileError(f"{shard}: tensor {quote(min(twice))} is in another shard too: {AGAIN}")
        tensors |= found
    return tensors


def _list_shards(folder: Path, index: str) -> dict[str, set[str]]:
    """For each file that the index names, the tensors it must hold."""
    with name_in_errors(index):
        weight_map = read_json(locate_file(folder, index), MOST_INDEX_BYTES).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
            raise ModelFileError(f"weight_map does not map tensors to files: {AGAIN}")
        shards: dict[str, set[str]] = {}
        for tensor, name in weight_map.items():
            shards.setdefault(name, set()).add(tensor)
        if not 1 <= len(shards) <= MOST_SHARDS:
            raise ModelFileError(f"it names {len(shards)} files, not 1 to {MOST_SHARDS}: {AGAIN}")
        for name in shards:
            if not os.path.exists(locate_file(folder, name)):
                raise ModelFileError(f"{quote(name)} is not in the folder: download the whole model")
        return shards
