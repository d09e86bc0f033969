"""From a name, a path or a hub id to a language model that is ready to write."""

import os
import sys
from pathlib import Path

from nextok.errors import ModelFileError, NextokError
from nextok.extras import needed_for
from nextok.formats import Checkpoint, is_torch_file, open_model
from nextok.formats.quantize import PACKERS, quantize_checkpoint
from nextok.hub import resolve, show_progress
from nextok.lm import LM
from nextok.models.base import Model
from nextok.models.processors import check_threads
from nextok.text import Tokenizer
from nextok.text import load_tokenizer as read_tokenizer

BACKENDS = ("auto", "native", "numpy", "torch")
PRECISIONS = ("fast", "exact")
MOST_PADDING = 128
"""To a multiple of this at most, rows are added to an embedding beyond the tokens that there are."""
ANOTHER = "name the tokenizer that it was trained with (tokenizer=, --tokenizer)"


def load(
    model: str | os.PathLike[str],
    *,
    backend: str = "auto",
    device: str | None = None,
    precision: str = "fast",
    threads: int | None = None,
    quantize: str | None = None,
    tokenizer: str | os.PathLike[str] | None = None,
) -> LM:
    """Load a model by name (`smollm2`), path (.gguf file, Hugging Face or Happy-LLM folder, Happy-LLM
    .pth) or Hugging Face id (owner/name).

    `backend`: native (the C++ core), numpy (float32, written to be read), torch (a GPU, or float32 on the processor),
    or auto: native where it was built. `device`: of torch, cpu, cuda or cuda:N; by default a GPU if there is one.
    `precision`: fast (native activations in int8, as llama.cpp; bfloat16 on a GPU) or exact (float32).
    `threads`: of native and torch, by default one for each core of the machine. `quantize`: floating-point weights
    become q8_0 or q4_1. `tokenizer`: whose tokens to use instead of the model's own: a folder with tokenizer.json,
    that file, a GGUF file or a model's name. It may have fewer ids than the model has rows, never more; for a .pth
    file it must have as many, but for padding of the rows to a multiple of 128.
    Raises ModelNotFoundError, ModelFileError or DownloadError, each with the way out, ValueError for an option.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    if threads is not None and backend == "numpy":
        raise ValueError("the numpy backend has no threads option; set OPENBLAS_NUM_THREADS before Python starts")
    if device is not None and backend != "torch":
        raise ValueError(f"device is for backend='torch', got device={device!r} with backend={backend!r}")
    check_threads(threads)
    if quantize is not None and quantize not in PACKERS:
        raise ValueError(f"quantize must be one of {', '.join(PACKERS)} or None, got {quantize!r}")
    with show_progress() as report:
        source = resolve(model, report=report)
    checkpoint = open_model(source.path)
    if quantize is not None:
        checkpoint = quantize_checkpoint(checkpoint, quantize)
    read = read_tokenizer(source.path) if tokenizer is None else load_tokenizer(tokenizer)
    check_size(read, checkpoint, source.path)  # before the weights, which take longer to find fault with
    return LM(_model(checkpoint, backend, device, precision, threads), read, source.name, source.origin)


def load_tokenizer(model: str | os.PathLike[str]) -> Tokenizer:
    """Only the tokenizer of a model; a GGUF file with nothing but a vocabulary is enough."""
    with show_progress() as report:
        return read_tokenizer(resolve(model, report=report).path)


def check_size(tokenizer: Tokenizer, checkpoint: Checkpoint, path: Path) -> None:
    """ModelFileError unless the model at `path` has a row for each id, and hardly more if it is a torch file."""
    ids, rows = tokenizer.vocab_size, checkpoint.config.vocab_size
    if ids > rows:
        raise ModelFileError(f"{path.name}: its tokenizer has {ids} ids, but the model only {rows} rows: {ANOTHER}")
    if is_torch_file(path) and rows >= ids + MOST_PADDING:
        raise ModelFileError(f"{path.name}: its tokenizer has only {ids} ids, but the model {rows} rows: {ANOTHER}")


def _model(checkpoint: Checkpoint, backend: str, device: str | None, precision: str, threads: int | None) -> Model:
    if backend == "torch":
        with needed_for("backend='torch'"):
            from nextok.models.torch.devices import load_torch

        return load_torch(checkpoint, device, exact=precision == "exact", threads=threads)
    if backend != "numpy":
        try:
            from nextok.models.native import NativeModel

            return NativeModel(checkpoint, exact=precision == "exact", threads=threads)
        except ImportError:
            if backend == "native":
                raise NextokError(
                    "the native core was not built; install nextok again with a C++17 compiler"
                ) from None
            print("nextok: the native core was not built, so numpy does its work, slowly", file=sys.stderr)
    from nextok.models.llama_numpy import LlamaNumpy

    return LlamaNumpy(checkpoint)
