"""A Llama-family model from a GGUF file: its settings checked, its tensors found."""

import os
from dataclasses import replace
from pathlib import Path

from nextok.errors import ModelFileError
from nextok.formats import llama
from nextok.formats.fields import Fields
from nextok.formats.files import AGAIN, name_in_errors, quote
from nextok.formats.gguf import GGUF, read_gguf
from nextok.formats.tensor import Checkpoint, ModelConfig, Tensor

NAMES = llama.SettingNames(
    layers="block_count",
    width="embedding_length",
    heads="attention.head_count",
    kv_heads="attention.head_count_kv",
    head_width="attention.key_length",
    hidden="feed_forward_length",
    context="context_length",
    norm_epsilon="attention.layer_norm_rms_epsilon",
)
# Settings that change the arithmetic, each with the values for which they do not.
NEUTRAL: dict[str, tuple[object, ...]] = {
    "expert_count": (0,),
    "use_parallel_residual": (False,),
    "attention.causal": (True,),
    "attention.scale": (0,),
    "attention.clamp_kqv": (0,),
    "attention.max_alibi_bias": (0,),
    "attn_logit_softcapping": (0,),
    "final_logit_softcapping": (0,),
    "embedding_scale": (0, 1),
    "residual_scale": (0, 1),
    "logit_scale": (0, 1),
    "rope.scaling.attn_factor": (0, 1),
}


def open_gguf(path: str | os.PathLike[str]) -> Checkpoint:
    """The checkpoint in a GGUF file; ModelFileError if it is damaged or not of the Llama family."""
    gguf = read_gguf(path)
    with name_in_errors(Path(path).name):
        general = Fields(gguf.metadata)
        general.allow_only("general.type", "model")
        if general.read_integer("split.count", 65_535, absent=1, least=0) > 1:
            raise ModelFileError("it is one part of a split model: join them with llama-gguf-split --merge")
        tensors = dict(gguf.tensors)
        rope_freqs = tensors.pop("rope_freqs.weight", None)
        return llama.check_tensors(_read_config(gguf, rope_freqs), tensors, gguf.metadata)


def _read_config(gguf: GGUF, rope_freqs: Tensor | None) -> ModelConfig:
    architecture = Fields(gguf.metadata).read_text("general.architecture")
    llama.check_architecture(architecture)
    fields = Fields(gguf.metadata, f"{architecture}.")
    for name, allowed in NEUTRAL.items():
        fields.allow_only(name, *allowed)
    config = llama.read_config(
        fields,
        NAMES,
        architecture=architecture,
        vocab_size=_read_vocab_size(gguf),
        window=fields.read_integer("attention.sliding_window", llama.MOST_CONTEXT, absent=0, least=0),
    )
    fields.allow_only("attention.value_length", config.head_width)
    rope_width = fields.read_integer("rope.dimension_count", llama.MOST_HEAD_WIDTH, absent=config.head_width)
    return replace(
        config,
        rope_theta=fields.read_number("rope.freq_base", *llama.THETAS, absent=llama.THETA),
        rope_width=rope_width,
        rope_interleaved=architecture in ("llama", "mistral"),
        rope_divisors=_read_rope_divisors(fields, rope_freqs, rope_width),
    )


def _read_vocab_size(gguf: GGUF) -> int:
    """Number of rows of the embedding: at least one per token, more where they were padded."""
    embedding = gguf.tensors.get("token_embd.weight")
    if embedding is None:
        raise ModelFileError("it has no token_embd.weight (a vocabulary alone?): choose a file with the model")
    tokens = gguf.metadata.get("tokenizer.ggml.tokens")
    rows = embedding.shape[0]
    if rows > llama.MOST_VOCAB or (isinstance(tokens, list) and len(tokens) > rows):
        raise ModelFileError(f"token_embd.weight has {rows} rows, which do not fit the vocabulary: {AGAIN}")
    return rows


def _read_rope_divisors(fields: Fields, rope_freqs: Tensor | None, rope_width: int) -> tuple[float, ...] | None:
    """Linear scaling and Llama 3's table of divisors, which llama.cpp multiplies; None if there is neither."""
    scaling = fields.read_text("rope.scaling.type", absent="linear")
    if scaling not in ("none", "linear"):
        raise ModelFileError(f"rope scaling {quote(scaling)} is not supported: choose a model with none or linear")
    older = fields.read_number("rope.scale_linear", *llama.DIVISORS, absent=1.0)
    factor = fields.read_number("rope.scaling.factor", *llama.DIVISORS, absent=older)
    if scaling == "none":
        factor = 1.0
    if rope_freqs is None:
        return None if factor == 1 else (factor,) * (rope_width // 2)
    if rope_freqs.shape != (rope_width // 2,):
        raise ModelFileError(f"rope_freqs.weight has shape {rope_freqs.shape}, not {(rope_width // 2,)}: {AGAIN}")
    divisors: list[float] = rope_freqs.to_float32().tolist()
    least, most = llama.DIVISORS
    if not all(least <= divisor <= most for divisor in divisors):
        raise ModelFileError(f"rope_freqs.weight holds a number that is no divisor: {AGAIN}")
    return tuple(factor * divisor for divisor in divisors)
