"""Writes small Hugging Face model folders: a configuration and random weights."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA3 |= {"original_max_position_embeddings": 64}
Arrays = dict[str, np.ndarray]


def config(model_type: str = "llama", **changes: Any) -> dict[str, Any]:
    values = {
        "model_type": model_type,
        "num_hidden_layers": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "vocab_size": 11,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
    }
    return values | changes


def weights(model_type: str = "llama", tied: bool = False) -> Arrays:
    random_floats = np.random.default_rng(0).standard_normal

    def floats(*shape: int) -> np.ndarray:
        return random_floats(shape).astype(np.float32)

    arrays = {"model.embed_tokens.weight": floats(11, 32), "model.norm.weight": floats(32)}
    if not tied:
        arrays["lm_head.weight"] = floats(11, 32)
    for layer in range(2):
        products = {"self_attn.q_proj": (32, 32), "self_attn.k_proj": (16, 32), "self_attn.v_proj": (16, 32)}
        products |= {"self_attn.o_proj": (32, 32), "mlp.gate_proj": (64, 32), "mlp.up_proj": (64, 32)}
        products |= {"mlp.down_proj": (32, 64), "input_layernorm": (32,), "post_attention_layernorm": (32,)}
        if model_type == "qwen3":
            products |= {"self_attn.q_norm": (8,), "self_attn.k_norm": (8,)}
        for name, shape in products.items():
            arrays[f"model.layers.{layer}.{name}.weight"] = floats(*shape)
            if model_type == "qwen2" and name[-6:] in ("q_proj", "k_proj", "v_proj"):
                arrays[f"model.layers.{layer}.{name}.bias"] = floats(shape[0])
    return arrays


def folder(path: Path, settings: Any = None, arrays: Arrays | None = None) -> Path:
    """A model folder with one safetensors file; settings may be any JSON value or the very bytes."""
    path.mkdir(exist_ok=True)
    settings = config() if settings is None else settings
    data = settings if isinstance(settings, bytes) else json.dumps(settings).encode()
    (path / "config.json").write_bytes(data)
    save_file(weights() if arrays is None else arrays, path / SINGLE)
    return path


def sharded(path: Path, **changes: str) -> Path:
    """The same model in two files; `changes` maps tensors to other files in the index."""
    folder(path)
    (path / SINGLE).unlink()
    names, weight_map = sorted(weights()), {}
    for number, part in enumerate((names[:9], names[9:]), 1):
        shard = f"model-0000{number}-of-00002.safetensors"
        save_file({name: weights()[name] for name in part}, path / shard)
        weight_map |= dict.fromkeys(part, shard)
    weight_map |= {name.replace("__", "."): shard for name, shard in changes.items()}
    (path / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return path
