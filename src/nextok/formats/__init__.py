"""Model files: GGUF and Hugging Face folders become one kind of checkpoint; nothing here can run code."""

import os

from nextok.errors import ModelFileError
from nextok.formats.from_gguf import open_gguf
from nextok.formats.from_huggingface import open_safetensors
from nextok.formats.gguf import GGUF, read_gguf
from nextok.formats.tensor import Checkpoint, ModelConfig, Tensor

__all__ = [
    "GGUF",
    "Checkpoint",
    "ModelConfig",
    "Tensor",
    "open_gguf",
    "open_model",
    "open_safetensors",
    "read_gguf",
]


def open_model(path: str | os.PathLike[str]) -> Checkpoint:
    """The checkpoint at a path: a GGUF file, or a folder with config.json and safetensors files."""
    if os.path.isdir(path):
        return open_safetensors(path)
    if str(path).endswith(".safetensors"):
        raise ModelFileError(f"{str(path)!r} is not enough: give its folder, which holds config.json too")
    return open_gguf(path)
