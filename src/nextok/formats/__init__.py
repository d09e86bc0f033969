"""Model files of all kinds become one kind of checkpoint; nothing here can run code."""

import os

from nextok.checks import check_whole
from nextok.errors import ModelFileError
from nextok.formats.from_gguf import open_gguf
from nextok.formats.from_huggingface import open_safetensors
from nextok.formats.gguf import GGUF, read_gguf
from nextok.formats.happy_llm import open_happy_llm
from nextok.formats.llama import MOST_HEADS
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


def open_model(path: str | os.PathLike[str], *, heads: int | None = None) -> Checkpoint:
    """The checkpoint at a path: a GGUF file, a Happy-LLM torch file, or a folder with config.json and weights.

    `heads`: the number of heads of a Happy-LLM torch file, which shows in none of its tensors.
    """
    if heads is not None:
        check_whole("heads", heads, 1, MOST_HEADS)
    if heads is not None and (os.path.isdir(path) or not is_torch_file(path)):
        raise ValueError(f"heads is for Happy-LLM .pth files, but {os.fspath(path)!r} says its own: leave heads out")
    if os.path.isdir(path):
        return open_safetensors(path)
    if str(path).endswith(".safetensors"):
        raise ModelFileError(f"{str(path)!r} is not enough: give its folder, which holds config.json too")
    if is_torch_file(path):
        return open_happy_llm(path, heads)
    return open_gguf(path)
