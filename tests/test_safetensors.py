"""Hugging Face folders: what is read from them, whichever program wrote them."""

import math
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

from folder_writer import LLAMA3, SINGLE, config, folder, sharded, weights
from nextok.formats import open_model, open_safetensors


def same_numbers(path: Path) -> None:
    tensors = open_safetensors(path).tensors
    wanted = weights()
    assert len(tensors) == len(wanted)
    pairs = {"blk.1.attn_k.weight": "model.layers.1.self_attn.k_proj.weight", "output.weight": "lm_head.weight"}
    pairs |= {"blk.0.ffn_norm.weight": "model.layers.0.post_attention_layernorm.weight"}
    pairs |= {"blk.0.attn_norm.weight": "model.layers.0.input_layernorm.weight"}
    pairs |= {"blk.0.attn_output.weight": "model.layers.0.self_attn.o_proj.weight"}
    for ours, theirs in pairs.items():
        np.testing.assert_array_equal(tensors[ours].to_float32(), wanted[theirs])


@pytest.mark.parametrize("model_type", ["llama", "mistral", "qwen2", "qwen3"])
def test_configuration(tmp_path: Path, model_type: str) -> None:
    found = open_model(folder(tmp_path / "m", config(model_type), weights(model_type)))
    shape = found.config
    assert (shape.architecture, shape.layers, shape.width, shape.hidden) == (model_type, 2, 32, 64)
    assert (shape.heads, shape.kv_heads, shape.head_width, shape.rope_width) == (4, 2, 8, 8)
    assert (shape.vocab_size, shape.context, shape.norm_epsilon) == (11, 512, 1e-5)
    assert (shape.rope_theta, shape.rope_interleaved, shape.rope_divisors) == (10_000.0, False, None)
    assert found.metadata == {}


def test_one_file_or_several(tmp_path: Path) -> None:
    same_numbers(folder(tmp_path / "one"))
    same_numbers(sharded(tmp_path / "two"))


def test_a_tied_output_is_left_out(tmp_path: Path) -> None:
    for name, arrays in (("copied", weights()), ("absent", weights(tied=True))):
        found = open_safetensors(folder(tmp_path / name, config(tie_word_embeddings=True), arrays))
        assert "output.weight" not in found.tensors


@pytest.mark.parametrize("kind", ["F16", "BF16"])
def test_half_precision(tmp_path: Path, kind: str) -> None:
    numbers = np.linspace(-3, 3, 11 * 32, dtype=np.float32).reshape(11, 32)
    bits = (numbers.view(np.uint32) >> 16).astype(np.uint16)
    wanted = numbers.astype(np.float16) if kind == "F16" else (bits.astype(np.uint32) << 16).view(np.float32)
    stored = numbers.astype(np.float16) if kind == "F16" else bits.view(np.float16)
    path = folder(tmp_path / "m", None, weights() | {"lm_head.weight": stored})
    if kind == "BF16":  # numpy has no such type: written as F16, then renamed in the header
        data = (path / SINGLE).read_bytes()
        size = struct.unpack("<Q", data[:8])[0]
        header = data[8 : 8 + size].replace(b'"F16"', b'"BF16"')
        (path / SINGLE).write_bytes(struct.pack("<Q", len(header)) + header + data[8 + size :])
    tensor = open_safetensors(path).tensors["output.weight"]
    assert tensor.kind == kind
    np.testing.assert_array_equal(tensor.to_float32(), wanted.astype(np.float32))


def test_what_may_be_absent_or_ignored(tmp_path: Path) -> None:
    settings = config(
        auto_map={"AutoModel": "evil.py"}, _attn_implementation_internal="evil/kernel", rope_scaling=None
    )
    for key in ("head_dim", "tie_word_embeddings", "hidden_act"):
        del settings[key]
    table = {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(4, np.float32)}
    assert open_safetensors(folder(tmp_path / "m", settings, weights() | table)).config.head_width == 8


@pytest.mark.parametrize("make", [LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config])
def test_reads_what_transformers_writes(tmp_path: Path, make: Any) -> None:
    shape = {key: value for key, value in config().items() if key not in ("model_type", "hidden_act")}
    written = make(**shape, rope_parameters={"rope_theta": 5e5, **LLAMA3})
    folder(tmp_path, None, weights(written.model_type))
    written.save_pretrained(tmp_path)
    found = open_safetensors(tmp_path).config
    assert (found.architecture, found.rope_theta, found.layers) == (written.model_type, 5e5, 2)
    assert found.rope_divisors is not None


@pytest.mark.parametrize(
    ("settings", "context"),
    [
        (config("mistral", sliding_window=100), 100),
        (config("mistral", sliding_window=4096), 512),
        (config("mistral", sliding_window=None), 512),
        (config("qwen2", sliding_window=100, use_sliding_window=False), 512),
        (config("qwen2", sliding_window=100, use_sliding_window=True), 100),
        (config("qwen3", sliding_window=100, use_sliding_window=True), 100),
        (config("qwen2", sliding_window=100), 512),
    ],
)
def test_a_sliding_window_caps_the_context(tmp_path: Path, settings: dict[str, Any], context: int) -> None:
    path = folder(tmp_path / "m", settings, weights(settings["model_type"]))
    assert open_safetensors(path).config.context == context


def llama3_divisors(theta: float, width: int) -> np.ndarray:
    """Restated from transformers' `_compute_llama3_parameters`, in float64."""
    plain = 1 / theta ** (np.arange(0, width, 2) / width)
    wavelength = 2 * math.pi / plain
    low, high = 64 / 1.0, 64 / 4.0
    scaled = np.where(wavelength > low, plain / 8.0, plain)
    smooth = (64 / wavelength - 1.0) / (4.0 - 1.0)
    blended = (1 - smooth) * plain / 8.0 + smooth * plain
    return plain / np.where((wavelength >= high) & (wavelength <= low), blended, scaled)


@pytest.mark.parametrize(
    "settings",
    [
        {"rope_parameters": {"rope_theta": 500.0, **LLAMA3}},
        {"rope_theta": 500.0, "rope_scaling": LLAMA3},
        {"rope_theta": 500, "rope_scaling": LLAMA3, "rope_parameters": None},
    ],
)
def test_llama3_scaling_as_transformers_does_it(tmp_path: Path, settings: dict[str, Any]) -> None:
    found = open_safetensors(folder(tmp_path / "m", config(**settings))).config
    wanted = llama3_divisors(500.0, 8)
    assert found.rope_theta == 500.0
    np.testing.assert_allclose(found.rope_divisors, wanted, rtol=1e-12)
    assert wanted.min() == 1.0  # every branch is taken: kept, blended, stretched
    assert wanted.max() == 8.0
    assert ((wanted > 1.0) & (wanted < 8.0)).any()


@pytest.mark.parametrize(
    ("settings", "theta", "divisors"),
    [
        ({"rope_theta": 1e6}, 1e6, None),
        ({"rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}}, 1e6, None),
        ({"rope_scaling": {"type": "linear", "factor": 2}}, 1e4, (2.0,) * 4),
        ({"rope_scaling": {"rope_type": "linear", "factor": 2.5}, "rope_theta": 5.0}, 5.0, (2.5,) * 4),
        ({"rope_parameters": {"rope_type": "linear", "factor": 4.0}}, 1e4, (4.0,) * 4),
    ],
)
def test_rope_kinds(tmp_path: Path, settings: dict[str, Any], theta: float, divisors: Any) -> None:
    found = open_safetensors(folder(tmp_path / "m", config(**settings))).config
    assert (found.rope_theta, found.rope_divisors) == (theta, divisors)


def test_the_links_of_a_hub_cache(tmp_path: Path) -> None:
    elsewhere = folder(tmp_path / "elsewhere")
    repository = tmp_path / "models--a--b"
    (repository / "blobs").mkdir(parents=True)
    snapshot = repository / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    for file in ("config.json", SINGLE):
        os.rename(elsewhere / file, repository / "blobs" / f"hash-{file}")
        (snapshot / file).symlink_to(f"../../blobs/hash-{file}")
    same_numbers(snapshot)
