"""A checkpoint becomes a Hugging Face folder: config.json and model.safetensors, as transformers reads them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import save_file

from nextok.errors import ModelFileError
from nextok.formats.conversion import convert_tensors
from nextok.formats.from_huggingface import CONFIG, LAYER_NAMES, OUTER_NAMES
from nextok.formats.tensor import Checkpoint, ModelConfig

CLASSES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
DTYPES = {"f32": ("float32", "<f4"), "f16": ("float16", "<f2")}
WEIGHTS = "model.safetensors"
THEIR_LAYER_NAMES = {ours: theirs for theirs, ours in LAYER_NAMES.items()}
THEIR_OUTER_NAMES = {ours: theirs for theirs, ours in OUTER_NAMES.items()}
ATTENTION, FEED_FORWARD = ("attn_q", "attn_k", "attn_v", "attn_output"), ("ffn_gate", "ffn_up", "ffn_down")


def write_folder(folder: Path, checkpoint: Checkpoint, to: str, tokens: Mapping[str, Any]) -> None:
    """Write both files into a folder that is there; `tokens` are ids for config.json, such as bos_token_id.

    ModelFileError for what transformers has no setting for, OSError if the disk is full.
    """
    name, dtype = DTYPES[to]
    settings = {**_build_settings(checkpoint, name), **tokens}
    arrays = {
        _name_tensor(tensor.name): tensor.to_float32().astype(dtype)
        for tensor in convert_tensors(checkpoint, to, interleaved=False)
    }
    (folder / CONFIG).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    try:
        save_file(arrays, folder / WEIGHTS, metadata={"format": "pt"})
    except SafetensorError as error:
        raise OSError(str(error)) from None
    (folder / WEIGHTS).chmod((folder / CONFIG).stat().st_mode)  # the library lets only the owner read it


def _name_tensor(name: str) -> str:
    if name in THEIR_OUTER_NAMES:
        return THEIR_OUTER_NAMES[name]
    _, layer, part, end = name.split(".")
    return f"model.layers.{layer}.{THEIR_LAYER_NAMES[part]}.{end}"


def _build_settings(checkpoint: Checkpoint, dtype: str) -> dict[str, Any]:
    config = checkpoint.config
    if config.rope_width != config.head_width:
        raise ModelFileError(
            f"{config.rope_width} of {config.head_width} dimensions of a head are rotated, which a folder of "
            "this kind cannot express: convert to GGUF"
        )
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": config.rope_theta, **_build_scaling(config)}
    return {
        "architectures": [CLASSES[config.architecture]],
        "model_type": config.architecture,
        "dtype": dtype,
        "hidden_act": "silu",
        "hidden_size": config.width,
        "intermediate_size": config.hidden,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_width,
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.context,
        "rms_norm_eps": config.norm_epsilon,
        "rope_theta": config.rope_theta,
        "rope_parameters": rope,
        "tie_word_embeddings": "output.weight" not in checkpoint.tensors,
        **_build_attention(checkpoint),
    }


def _build_scaling(config: ModelConfig) -> dict[str, Any]:
    divisors = set(config.rope_divisors or ())
    if len(divisors) > 1:
        raise ModelFileError(
            "its rotary frequencies are divided by a table (Llama 3), of which only the numbers are known: "
            "convert to GGUF, which holds them"
        )
    return {"rope_type": "linear", "factor": divisors.pop()} if divisors else {}


def _build_attention(checkpoint: Checkpoint) -> dict[str, Any]:
    """The settings that differ between the architectures: biases, and windows, of which there are none here."""
    config = checkpoint.config
    if config.architecture == "mistral":
        settings: dict[str, Any] = {"sliding_window": None}
    elif config.architecture == "llama":
        settings = {
            "attention_bias": _has_biases(checkpoint, ATTENTION),
            "mlp_bias": _has_biases(checkpoint, FEED_FORWARD),
        }
    else:
        settings = {"use_sliding_window": False}
    known = {f"{part}.bias" for part in ATTENTION if settings.get("attention_bias")}
    known |= {f"{part}.bias" for part in FEED_FORWARD if settings.get("mlp_bias")}
    known |= {f"{part}.bias" for part in ATTENTION[:3] if config.architecture == "qwen2"}
    for name in checkpoint.tensors:
        if name.endswith(".bias") and name.split(".", 2)[2] not in known:
            raise ModelFileError(f"tensor {name} has no place in {CLASSES[config.architecture]}: convert to GGUF")
    return settings


def _has_biases(checkpoint: Checkpoint, parts: tuple[str, ...]) -> bool:
    names = [f"blk.{layer}.{part}.bias" for layer in range(checkpoint.config.layers) for part in parts]
    return all(name in checkpoint.tensors for name in names)
