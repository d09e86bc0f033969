"""A Llama-family model from a Hugging Face folder. Its config.json is read as data only."""

import math
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from nextok.errors import ModelFileError, ModelNotFoundError
from nextok.formats import happy_llm, llama
from nextok.formats.fields import Fields
from nextok.formats.files import AGAIN, locate_file, name_in_errors, quote, read_json
from nextok.formats.tensor import Checkpoint, ModelConfig, Tensor
from nextok.formats.weights import read_weights

CONFIG = "config.json"
MOST_CONFIG_BYTES = 1 << 20
"""Largest size of config.json, in bytes."""

OUTER_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
NAMES = llama.SettingNames(
    layers="num_hidden_layers",
    width="hidden_size",
    heads="num_attention_heads",
    kv_heads="num_key_value_heads",
    head_width="head_dim",
    hidden="intermediate_size",
    context="max_position_embeddings",
    norm_epsilon="rms_norm_eps",
)
LAYER_NAME = re.compile(r"model\.layers\.(0|[1-9][0-9]{0,3})\.(.+)\.(weight|bias)")
UNUSED = ".self_attn.rotary_emb.inv_freq"
"""End of the names of a table in old files, which nextok computes from the configuration."""


def open_safetensors(folder: str | os.PathLike[str]) -> Checkpoint:
    """The checkpoint in a Hugging Face folder; ModelFileError if it is damaged or not of the Llama family."""
    folder = Path(folder)
    if not os.path.isdir(folder):
        raise ModelNotFoundError(f"{str(folder)!r}: there is no such folder, check the path")
    with name_in_errors(folder.name or str(folder)):
        if not os.path.exists(folder / CONFIG):
            raise ModelFileError(f"it has no {CONFIG}: give the folder of a whole model, or the path of a GGUF file")
        with name_in_errors(CONFIG):
            values = read_json(locate_file(folder, CONFIG), MOST_CONFIG_BYTES)
            is_happy_llm = values.get("model_type") == happy_llm.MODEL_TYPE
        if is_happy_llm:
            return happy_llm.open_exported(folder, values)
        with name_in_errors(CONFIG):
            config = _read_config(values)
            tied = Fields(values).read_flag("tie_word_embeddings", absent=False)
        tensors = _rename_tensors(read_weights(folder))
        if tied:
            tensors.pop("output.weight", None)  # a copy of the embedding
        elif "output.weight" not in tensors:
            raise ModelFileError("lm_head.weight is missing, and tie_word_embeddings is not true: download it again")
        return llama.check_tensors(config, tensors, {})


def _rename_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        layer = LAYER_NAME.fullmatch(name)
        if layer and layer[2] in LAYER_NAMES:
            renamed[f"blk.{layer[1]}.{LAYER_NAMES[layer[2]]}.{layer[3]}"] = tensor
        elif name in OUTER_NAMES:
            renamed[OUTER_NAMES[name]] = tensor
        elif not name.endswith(UNUSED):
            raise ModelFileError(
                f"tensor {quote(name)} is no part of a Llama model: nextok would compute this variant wrongly"
            )
    return renamed


def _read_config(values: dict[str, Any]) -> ModelConfig:
    fields = Fields(values)
    architecture = fields.read_text("model_type")
    llama.check_architecture(architecture)
    if values.get("quantization_config") is not None:
        raise ModelFileError("the model is quantised in a way nextok does not read: choose the original, or a GGUF")
    fields.allow_only("hidden_act", "silu")
    fields.allow_only("partial_rotary_factor", 1)
    config = llama.read_config(
        fields,
        NAMES,
        architecture=architecture,
        vocab_size=fields.read_integer("vocab_size", llama.MOST_VOCAB),
        window=_read_window(fields, architecture),
    )
    theta, divisors = _read_rope(fields, config.head_width, fields.read_integer(NAMES.context, llama.MOST_CONTEXT))
    return replace(config, rope_theta=theta, rope_divisors=divisors)


def _read_window(fields: Fields, architecture: str) -> int:
    """How many tokens attention looks back, 0 for all."""
    if architecture != "mistral" and not fields.read_flag("use_sliding_window", absent=False):
        return 0
    return fields.read_integer("sliding_window", llama.MOST_CONTEXT, absent=0, least=0)


def _read_rope(fields: Fields, rope_width: int, context: int) -> tuple[float, tuple[float, ...] | None]:
    """The base of the rotary frequencies and what divides each, as transformers 5 or as 4 wrote them."""
    name = "rope_parameters" if fields.values.get("rope_parameters") else "rope_scaling"
    values = fields.values.get(name) or {}
    if not isinstance(values, dict) or any(isinstance(value, dict) for value in values.values()):
        raise ModelFileError(f"{name} is {quote(values)}, not one set of values for all layers: choose another model")
    older = fields.read_number("rope_theta", *llama.THETAS, absent=llama.THETA)
    with name_in_errors(name):
        rope = Fields(values)
        rope.allow_only("partial_rotary_factor", 1)
        theta = rope.read_number("rope_theta", *llama.THETAS, absent=older)
        kind = rope.read_text("rope_type", absent=rope.read_text("type", absent="default"))
        if kind == "default":
            return theta, None
        if kind == "linear":
            return theta, (rope.read_number("factor", *llama.DIVISORS),) * (rope_width // 2)
        if kind == "llama3":
            return theta, _compute_llama3_divisors(rope, theta, rope_width, context)
        raise ModelFileError(f"rope type {quote(kind)} is not supported: choose default, linear or llama3")


def _compute_llama3_divisors(rope: Fields, theta: float, rope_width: int, context: int) -> tuple[float, ...]:
    """Llama 3.1's scaling: long waves are stretched by `factor`, short ones kept, blended in between."""
    factor = rope.read_number("factor", *llama.DIVISORS)
    low = rope.read_number("low_freq_factor", *llama.DIVISORS)
    high = rope.read_number("high_freq_factor", *llama.DIVISORS)
    original = rope.read_integer("original_max_position_embeddings", llama.MOST_CONTEXT, absent=context)
    if low >= high:
        raise ModelFileError(f"low_freq_factor {low:g} must be below high_freq_factor {high:g}: {AGAIN}")
    divisors = []
    for pair in range(rope_width // 2):
        turns = original / (2 * math.pi * theta ** (2 * pair / rope_width))  # within the original context
        kept = min(1.0, max(0.0, (turns - low) / (high - low)))
        divisors.append(1 / (kept + (1 - kept) / factor))
    return tuple(divisors)
