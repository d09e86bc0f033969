"""From a name, a path or a hub id to a language model that is ready to write."""

import os

from nextok.formats import Checkpoint, open_model
from nextok.hub import progress_bar, resolve
from nextok.lm import LM
from nextok.models.base import Model
from nextok.text import Tokenizer
from nextok.text import load_tokenizer as read_tokenizer

BACKENDS = ("auto", "numpy")
PRECISIONS = ("fast", "exact")


def load(
    model: str | os.PathLike[str],
    *,
    backend: str = "auto",
    precision: str = "fast",
    threads: int | None = None,
    quantize: str | None = None,
) -> LM:
    """Load a model by name (`smollm2`), path (.gguf file, safetensors folder) or Hugging Face id (owner/name).

    `backend`: auto or numpy. `precision`: the numpy backend computes in float32 in either. `threads` and
    `quantize` are for backends that have them; numpy takes its threads from OPENBLAS_NUM_THREADS.
    Raises ModelNotFoundError, ModelFileError or DownloadError, each with the way out, ValueError for an option.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    if threads is not None:
        raise ValueError("the numpy backend has no threads option; set OPENBLAS_NUM_THREADS before Python starts")
    if quantize is not None:
        raise ValueError("the numpy backend cannot quantize; leave quantize out, or load a file that is quantised")
    with progress_bar() as report:
        source = resolve(model, report=report)
    checkpoint = open_model(source.path)
    tokenizer = read_tokenizer(source.path)  # before the weights, which take longer to find fault with
    return LM(_model(checkpoint), tokenizer, source.name, source.origin)


def load_tokenizer(model: str | os.PathLike[str]) -> Tokenizer:
    """Only the tokenizer of a model; a GGUF file with nothing but a vocabulary is enough."""
    with progress_bar() as report:
        return read_tokenizer(resolve(model, report=report).path)


def _model(checkpoint: Checkpoint) -> Model:
    from nextok.models.llama_numpy import LlamaNumpy

    return LlamaNumpy(checkpoint)
