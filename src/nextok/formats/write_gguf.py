"""A checkpoint becomes a GGUF file, which llama.cpp reads too; written by the reference package `gguf`.

The settings: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import logging
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from nextok.errors import NextokError
from nextok.formats.conversion import choose_kind, convert_tensors
from nextok.formats.gguf import Value
from nextok.formats.quants import KINDS
from nextok.formats.tensor import Checkpoint, ModelConfig, Tensor

FILE_TYPES = {"f32": 0, "f16": 1, "q8_0": 7, "q4_1": 3}
ROPE_FREQS = "rope_freqs.weight"
LARGEST_FLOAT32 = float(np.finfo(np.float32).max)


def write_gguf(path: Path, checkpoint: Checkpoint, name: str, vocabulary: Mapping[str, Value], to: str) -> None:
    """Write the model with matrices in `to`, and the `tokenizer.` settings of `vocabulary`.

    NextokError if the package is not there. A file of that name is overwritten.
    """
    gguf = _import_gguf()
    config = checkpoint.config
    architecture = "llama" if config.architecture == "mistral" else config.architecture  # GGUF has one name for both
    interleaved = architecture == "llama"
    writer = gguf.GGUFWriter(path, architecture)
    try:
        general: dict[str, Value] = {
            "general.name": name,
            "general.file_type": FILE_TYPES[to],
            "general.quantization_version": 2,
        }
        for key, value in {**general, **_build_settings(config, architecture), **vocabulary}.items():
            _add_setting(gguf, writer, key, value)
        table = _build_divisor_table(config)
        extra = [table] if table else []
        for tensor in extra:
            _announce(gguf, writer, tensor, "F32")
        for key, tensor in checkpoint.tensors.items():
            _announce(gguf, writer, tensor, choose_kind(tensor, to), key)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in (*extra, *convert_tensors(checkpoint, to, interleaved)):
            writer.write_tensor_data(np.ascontiguousarray(tensor.data))
    finally:
        writer.close()


def _import_gguf() -> Any:
    try:
        import gguf
    except ImportError:
        raise NextokError('GGUF files are written with the package gguf: pip install "nextok[gguf]"') from None
    logging.getLogger("gguf.gguf_writer").setLevel(logging.ERROR)
    return gguf


def _build_settings(config: ModelConfig, architecture: str) -> dict[str, Value]:
    factor = _find_linear_factor(config)
    scaling: dict[str, Value] = {"rope.scaling.type": "linear", "rope.scaling.factor": factor} if factor else {}
    values: dict[str, Value] = {
        "context_length": config.context,
        "embedding_length": config.width,
        "block_count": config.layers,
        "feed_forward_length": config.hidden,
        "attention.head_count": config.heads,
        "attention.head_count_kv": config.kv_heads,
        "attention.key_length": config.head_width,
        "attention.value_length": config.head_width,
        "attention.layer_norm_rms_epsilon": config.norm_epsilon,
        "rope.dimension_count": config.rope_width,
        "rope.freq_base": config.rope_theta,
        "vocab_size": config.vocab_size,
        **scaling,
    }
    return {f"{architecture}.{key}": value for key, value in values.items()}


def _find_linear_factor(config: ModelConfig) -> float | None:
    """The number that divides all frequencies, if it is the same for all."""
    divisors = set(config.rope_divisors or ())
    return divisors.pop() if len(divisors) == 1 else None


def _build_divisor_table(config: ModelConfig) -> Tensor | None:
    """A divisor for each frequency, where they differ."""
    if config.rope_divisors is None or _find_linear_factor(config) is not None:
        return None
    numbers = np.array(config.rope_divisors, "<f4")
    return KINDS["F32"].make_tensor(ROPE_FREQS, numbers.shape, numbers.view(np.uint8))


def _add_setting(gguf: Any, writer: Any, key: str, value: Value) -> None:
    """A setting in the type that llama.cpp expects: numbers in 32 bits, if they fit."""
    types = gguf.GGUFValueType
    if isinstance(value, list):
        if value:
            writer.add_key_value(key, value, types.ARRAY, types[_choose_type(value, ("INT32", "UINT32"))])
        return
    writer.add_key_value(key, value, types[_choose_type([value], ("UINT32", "INT32"))])


def _choose_type(values: Sequence[Any], whole: tuple[str, ...]) -> str:
    """The first type that holds all values, which are of one kind; of whole numbers, those in `whole` come first."""
    match values[0]:
        case bool():
            return "BOOL"
        case str():
            return "STRING"
        case float():
            return (
                "FLOAT32"
                if all(abs(value) <= LARGEST_FLOAT32 or not isfinite(value) for value in values)
                else "FLOAT64"
            )
    kinds = (*whole, "INT64", "UINT64")
    limits = {kind: np.iinfo(kind.lower()) for kind in kinds}
    low, high = min(values), max(values)
    return next(kind for kind in kinds if limits[kind].min <= low and high <= limits[kind].max)


def _announce(gguf: Any, writer: Any, tensor: Tensor, kind: str, name: str = ROPE_FREQS) -> None:
    size = KINDS[kind].count_bytes(tensor.shape)
    writer.add_tensor_info(name, tensor.shape, np.dtype(np.float32), size, gguf.GGMLQuantizationType[kind])
