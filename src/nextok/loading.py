"""From a name, a path or a hub id to a language model that is ready to write."""

import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nextok.checks import check_whole
from nextok.errors import ModelFileError, NextokError
from nextok.extras import needed_for
from nextok.formats import Checkpoint, is_torch_file, open_model
from nextok.formats.quantize import PACKERS, can_pack, quantize_checkpoint
from nextok.formats.quants import KINDS
from nextok.formats.suggested import read_suggested
from nextok.formats.tensor import WatchedTensors
from nextok.hub import Progress, Report, resolve
from nextok.lm import LM
from nextok.models.base import Model
from nextok.models.memory import check_memory
from nextok.models.processors import check_threads
from nextok.text import Tokenizer
from nextok.text import load_tokenizer as read_tokenizer

BACKENDS = ("auto", "native", "numpy", "torch")
PRECISIONS = ("fast", "exact")
MOST_SEATS = 1024
MOST_PADDING = 128
"""To a multiple of this at most, rows are added to an embedding beyond the tokens that there are."""
ANOTHER = "name the tokenizer that it was trained with (tokenizer=, --tokenizer)"
GROWTH = {"Q4_0": 10 / 9, "Q5_0": 12 / 11}
"""Bytes in the native core for each byte in the file: it gives every block an offset, which these kinds lack."""
SMALLER = "free some, or choose a smaller model or one in fewer bits"


def load(
    model: str | os.PathLike[str],
    *,
    backend: str = "auto",
    device: str | None = None,
    precision: str = "fast",
    threads: int | None = None,
    quantize: str | None = None,
    tokenizer: str | os.PathLike[str] | None = None,
    context: int | None = None,
    heads: int | None = None,
    cache_memory: int | None = None,
    seats: int = 32,
    progress: Report | None = None,
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
    `context`: tokens of prompt and text together, at most the model's own. `heads`: of a .pth file that does not say
    it. `cache_memory`: bytes of caches kept after their requests for later texts that begin alike, by default 0.
    `seats`: texts that are written at once; further ones wait. `progress` is called with a Progress, from the thread
    that loads, while files are fetched and weights read.
    Raises ModelNotFoundError, ModelFileError or DownloadError, each with the way out, ValueError for an option, and
    LimitError before the weights are read if the memory of this machine does not hold them.
    """
    _check_choices(backend, device, precision, threads, quantize)
    _check_shape(context, heads, cache_memory, seats, progress)
    source = resolve(model, report=progress)
    checkpoint = _limit_context(open_model(source.path, heads=heads), context)
    read = read_tokenizer(source.path) if tokenizer is None else load_tokenizer(tokenizer, progress=progress)
    check_size(read, checkpoint, source.path)  # before the weights, which take longer to find fault with
    if quantize is not None:
        checkpoint = _quantize(checkpoint, source.name, quantize, progress)
    with _watch(checkpoint, f"loading {source.name}", progress) as watched:
        made = _model(watched, source.name, backend, device, precision, threads)
    engine: Any = {"cache_memory": cache_memory or 0, "seats": seats}
    return LM(made, read, source.name, source.origin, **engine, suggested=read_suggested(checkpoint, source.path))


def _quantize(checkpoint: Checkpoint, name: str, kind: str, progress: Report | None) -> Checkpoint:
    """The same model with smaller weights; LimitError if there is no room for them."""
    check_memory(f"{name} in {kind}", _count_packed(checkpoint, kind), SMALLER)
    with _watch(checkpoint, f"quantizing {name}", progress) as watched:
        return quantize_checkpoint(watched, kind)


def load_tokenizer(model: str | os.PathLike[str], *, progress: Report | None = None) -> Tokenizer:
    """Only the tokenizer of a model; a GGUF file with nothing but a vocabulary is enough.

    `progress` is called with a Progress while files are fetched.
    """
    return read_tokenizer(resolve(model, report=progress).path)


def check_size(tokenizer: Tokenizer, checkpoint: Checkpoint, path: Path) -> None:
    """ModelFileError unless the model at `path` has a row for each id, and hardly more if it is a torch file."""
    ids, rows = tokenizer.vocab_size, checkpoint.config.vocab_size
    if ids > rows:
        raise ModelFileError(f"{path.name}: its tokenizer has {ids} ids, but the model only {rows} rows: {ANOTHER}")
    if is_torch_file(path) and rows >= ids + MOST_PADDING:
        raise ModelFileError(f"{path.name}: its tokenizer has only {ids} ids, but the model {rows} rows: {ANOTHER}")


def _check_choices(
    backend: str, device: str | None, precision: str, threads: int | None, quantize: str | None
) -> None:
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


def _check_shape(
    context: int | None, heads: int | None, cache_memory: int | None, seats: int, progress: Report | None
) -> None:
    """ValueError before anything is fetched; the model's own limits are known later."""
    check_whole("seats", seats, 1, MOST_SEATS)
    for name, value, least in (("context", context, 1), ("heads", heads, 1), ("cache_memory", cache_memory, 0)):
        if value is not None:
            check_whole(name, value, least)
    if progress is not None and not callable(progress):
        raise ValueError(f"progress must be a function that takes a Progress, got {progress!r}")


def _limit_context(checkpoint: Checkpoint, context: int | None) -> Checkpoint:
    """The same model, opened for so many tokens; ValueError if it was not made for as many."""
    if context is None:
        return checkpoint
    check_whole("context", context, 1, checkpoint.config.context, "; the upper bound is the model's own context")
    return replace(checkpoint, config=replace(checkpoint.config, context=int(context)))


@contextmanager
def _watch(checkpoint: Checkpoint, stage: str, progress: Report | None) -> Iterator[Checkpoint]:
    """The same model, whose reading is reported in bytes of the file, up to the end."""
    if progress is None:
        yield checkpoint
        return
    total = sum(tensor.data.nbytes for tensor in checkpoint.tensors.values())

    def report(done: int) -> None:
        progress(Progress(stage, done, total, brief=True))

    yield replace(checkpoint, tensors=WatchedTensors(checkpoint.tensors, report))
    report(total)


def _model(
    checkpoint: Checkpoint, name: str, backend: str, device: str | None, precision: str, threads: int | None
) -> Model:
    """The model in memory; LimitError before a tensor is read if there is no room for it."""
    exact = precision == "exact"
    if backend == "torch":
        with needed_for("backend='torch'"):
            from nextok.models.torch.devices import choose_device, load_torch

        if choose_device(device).type == "cpu":
            _check_room(name, checkpoint, "torch")
        return load_torch(checkpoint, device, exact=exact, threads=threads)
    if backend == "native" or (backend == "auto" and find_spec("nextok._native")):
        return _native_model(checkpoint, name, exact, threads)
    if backend == "auto":
        warnings.warn(
            "the native core was not built, so numpy does its work, slowly; "
            "install nextok again with a C++17 compiler",
            stacklevel=3,
        )
    from nextok.models.llama_numpy import LlamaNumpy

    _check_room(name, checkpoint, "numpy")
    return LlamaNumpy(checkpoint)


def _native_model(checkpoint: Checkpoint, name: str, exact: bool, threads: int | None) -> Model:
    if not find_spec("nextok._native"):
        raise NextokError("the native core was not built; install nextok again with a C++17 compiler")
    try:
        from nextok.models.native import NativeModel
    except ImportError as error:  # it is there, so no compiler is missing
        raise NextokError(
            f"the native core cannot be imported ({error}); install nextok again, or choose backend='numpy'"
        ) from error
    _check_room(name, checkpoint, "native")
    return NativeModel(checkpoint, exact=exact, threads=threads)


def _check_room(name: str, checkpoint: Checkpoint, backend: str) -> None:
    """LimitError if a backend that computes on the processor has no room for the weights as it holds them.

    native holds about what the file does; torch and numpy hold float32, the largest twice while it is converted.
    """
    tensors = checkpoint.tensors.values()
    if backend == "native":
        needed = sum(round(tensor.data.nbytes * GROWTH.get(tensor.kind, 1)) for tensor in tensors)
    else:
        sizes = [4 * math.prod(tensor.shape) for tensor in tensors]
        needed = sum(sizes) + max(sizes)
    check_memory(f"{name} on the {backend} backend", needed, SMALLER)


def _count_packed(checkpoint: Checkpoint, kind: str) -> int:
    """The bytes that the matrices have once they are quantised; what stays as it is remains in its file."""
    return sum(
        KINDS[kind.upper()].count_bytes(tensor.shape) for tensor in checkpoint.tensors.values() if can_pack(tensor)
    )
