"""Model files of all kinds become one kind of checkpoint; nothing here can run code."""

import os

from nextok.errors import ModelFileError
from nextok.formats.from_gguf import open_gguf
from nextok.formats.from_huggingface import open_safetensors
from nextok.formats.gguf import GGUF, read_gguf
from nextok.formats.happy_llm import open_happy_llm
from nextok.formats.tensor import Checkpoint, ModelConfig, Tensor
from nextok.formats.torch_file import is_torch_file

__all__ = [
    "GGUF",
    "Checkpoint",
    "ModelConfig",
    "Tensor",
    "is_torch_file",
    "open_gguf",
    "open_happy_llm",
    "open_model",
    "open_safetensors",
    "read_gguf",
]


def open_model(path: str | os.PathLike[str]) -> Checkpoint:
    """The checkpoint at a path: a GGUF file, a Happy-LLM torch file, or a folder with config.json and weights."""
    if os.path.isdir(path):
        return open_safetensors(path)
    if str(path).endswith(".safetensors"):
        raise ModelFileError(f"{str(path)!r} is not enough: give its folder, which holds config.json too")
    if is_torch_file(path):
        return open_happy_llm(path)
    return open_gguf(path)
