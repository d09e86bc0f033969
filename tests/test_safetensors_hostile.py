"""Nothing in a Hugging Face folder is believed unchecked: every fault is one ModelFileError, in one line."""

import json
import math
import random
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from folder_writer import INDEX, LLAMA3, SINGLE, config, folder, sharded, weights
from nextok.errors import ModelFileError, ModelNotFoundError
from nextok.formats import open_model, open_safetensors


def refused(path: Path, message: str) -> None:
    start = time.process_time()
    with pytest.raises(ModelFileError, match=message) as caught:
        open_model(path)
    assert time.process_time() - start < 1
    assert str(caught.value).startswith(f"{path.name}: ")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


DEEP = b"[" * 100_000
BAD_CONFIGS: dict[str, tuple[Any, str]] = {
    "not JSON": (b"{", "not JSON"),
    "empty": (b"", "not JSON"),
    "a pickle": (b"\x80\x04\x95", "not JSON"),
    "nested deep": (DEEP, "not JSON"),
    "nested deep in an object": (b'{"model_type": ' + b"[" * 900 + b"]" * 900 + b"}", "model_type is|not JSON"),
    "a number of 5,000 digits": (b'{"vocab_size": ' + b"9" * 5000 + b"}", "not JSON"),
    "a number of 4,000 digits": (json.dumps(config(vocab_size=int("9" * 4000))).encode(), "vocab_size is 99"),
    "a list": ([config()], "not a JSON object"),
    "a string": (b'"llama"', "not a JSON object"),
    "null": (b"null", "not a JSON object"),
    "huge": (b" " * (1 << 20) + b"{}", "1,048,576 bytes"),
    "no type": (config(model_type=None), "model_type is missing"),
    "another architecture": (config("gpt2"), "'gpt2' is not supported: choose a model of llama, mistral"),
    "type is a list": (config(["llama"]), r"model_type is \['llama'\]"),  # type: ignore[arg-type]
    "half a character": (config("\ud800\n"), r"'\\ud800\\n' is not supported"),
    "quantised": (config(quantization_config={"quant_method": "gptq"}), "quantised"),
    "another activation": (config(hidden_act="gelu"), "hidden_act is 'gelu'"),
    "yarn": (config(rope_scaling={"type": "yarn", "factor": 4}), "rope type 'yarn'"),
    "dynamic": (config(rope_parameters={"rope_type": "dynamic", "factor": 4}), "rope type 'dynamic'"),
    "rope by layer type": (config(rope_parameters={"full_attention": {"rope_theta": 1}}), "for all layers"),
    "rope is a list": (config(rope_scaling=[1]), "for all layers"),
    "rope type is a number": (config(rope_scaling={"rope_type": 3}), "rope_type is 3"),
    "no factor": (config(rope_scaling={"type": "linear"}), "factor is missing"),
    "factor 0": (config(rope_scaling={"type": "linear", "factor": 0}), "factor is 0"),
    "factor NaN": (config(rope_scaling={"type": "linear", "factor": math.nan}), "factor is nan"),
    "factor true": (config(rope_scaling={"type": "linear", "factor": True}), "factor is True"),
    "llama3 without its parts": (
        config(rope_scaling={"type": "llama3", "factor": 8.0}),
        "low_freq_factor is missing",
    ),
    "llama3 upside down": (config(rope_scaling=LLAMA3 | {"low_freq_factor": 4.0}), "must be below"),
    "part of a head rotated": (config(partial_rotary_factor=0.5), "partial_rotary_factor is 0.5"),
    "theta is infinite": (config(rope_theta=math.inf), "rope_theta is inf"),
    "tied is a string": (config(tie_word_embeddings="yes"), "tie_word_embeddings is 'yes'"),
    "window is a string": (config("mistral", sliding_window="4096"), "sliding_window is '4096'"),
    "window used is a number": (config("qwen2", use_sliding_window=1), "use_sliding_window is 1"),
    "heads cannot share": (config(num_key_value_heads=3), "cannot share"),
    "head of odd width": (config(head_dim=7), "must be even"),
    "no head width to be had": (config(head_dim=None, num_attention_heads=5), "head_dim is missing"),
    "another vocabulary": (config(vocab_size=12), "has shape"),
    "another depth": (config(num_hidden_layers=3), "blk.2.attn_norm.weight is missing"),
    "less depth": (config(num_hidden_layers=1), "blk.1"),
}
for key in config():
    if key not in ("model_type", "hidden_act", "tie_word_embeddings", "head_dim", "num_key_value_heads"):
        BAD_CONFIGS[f"{key} absent"] = config(**{key: None}), f"{key} is missing"
    if key not in ("model_type", "hidden_act", "tie_word_embeddings"):
        BAD_CONFIGS[f"{key} negative"] = config(**{key: -1}), f"{key} is -1"
        BAD_CONFIGS[f"{key} NaN"] = config(**{key: math.nan}), f"{key} is nan"
        BAD_CONFIGS[f"{key} a list"] = config(**{key: [2]}), rf"{key} is \[2\]"


@pytest.mark.parametrize("name", BAD_CONFIGS)
def test_bad_configuration(tmp_path: Path, name: str) -> None:
    settings, message = BAD_CONFIGS[name]
    refused(folder(tmp_path / "m", settings), message)


@pytest.mark.parametrize(
    "shard",
    ["../x.safetensors", "/etc/passwd", "a/b.safetensors", "..\\x", "..", ".", "", "C:x", "a\0b", "a\nb", "x" * 300],
)
def test_an_index_names_only_files_of_its_folder(tmp_path: Path, shard: str) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"")
    refused(sharded(tmp_path / "m", lm_head__weight=shard), "no plain file name|not in the folder|leads nowhere")


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (b"", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"{}", "weight_map"),
        (b'{"weight_map": []}', "weight_map"),
        (b'{"weight_map": {}}', "names 0 files"),
        (b'{"weight_map": {"a": 1}}', "weight_map"),
        (b'{"weight_map": {"a": "absent.safetensors"}}', "not in the folder"),
        (json.dumps({"weight_map": {str(n): str(n) for n in range(5000)}}).encode(), "names 5000 files"),
    ],
)
def test_bad_index(tmp_path: Path, index: bytes, message: str) -> None:
    path = sharded(tmp_path / "m")
    (path / INDEX).write_bytes(index)
    refused(path, message)


def test_shards_hold_what_the_index_says(tmp_path: Path) -> None:
    first = "model-00001-of-00002.safetensors"
    refused(sharded(tmp_path / "a", model__norm__weight=first), f"{first}: tensor 'model.norm.weight'.*missing")
    path = sharded(tmp_path / "b")
    save_file(weights(), path / first)
    refused(path, "in another shard too")


def test_links(tmp_path: Path) -> None:
    elsewhere = folder(tmp_path / "elsewhere")
    outside = folder(tmp_path / "outside")
    (outside / SINGLE).unlink()
    (outside / SINGLE).symlink_to(elsewhere / SINGLE)
    refused(outside, "link to a place outside")
    circle = folder(tmp_path / "circle")
    (circle / "config.json").unlink()
    (circle / "config.json").symlink_to("config.json")
    refused(circle, "no config.json")


def test_folders_without_a_model(tmp_path: Path) -> None:
    refused(tmp_path, "no config.json")
    path = folder(tmp_path / "m")
    (path / SINGLE).unlink()
    refused(path, "holds none of model.safetensors, ")
    (path / "pytorch_model.bin").write_bytes(b"")
    refused(path, "pytorch_model.bin: the file is empty")
    with pytest.raises(ModelNotFoundError):
        open_safetensors(tmp_path / "absent")


BAD_HEADERS = {
    "empty": b"",
    "7 bytes": b"1234567",
    "header of 0 bytes": bytes(8),
    "header of 2^64-1 bytes": b"\xff" * 8 + b"{}",
    "header of 100 MB": struct.pack("<Q", 100_000_000) + b"{}",
    "header is a list": struct.pack("<Q", 2) + b"[]",
    "header nested deep": struct.pack("<Q", 10_000) + b"[" * 10_000,
    "no tensors": struct.pack("<Q", 2) + b"{}",
}
for name, entry in {
    "type that is not read": {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]},
    "type that does not exist": {"dtype": "Q4_1", "shape": [1], "data_offsets": [0, 8]},
    "scalar": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]},
    "dimension of 0": {"dtype": "F32", "shape": [0, 8], "data_offsets": [0, 0]},
    "negative dimension": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]},
    "product overflows": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 8]},
    "offsets turned": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]},
    "offsets outside": {"dtype": "F32", "shape": [2], "data_offsets": [800, 808]},
}.items():
    header = json.dumps({"model.norm.weight": entry}).encode()
    BAD_HEADERS[name] = struct.pack("<Q", len(header)) + header + bytes(8)


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_bad_header(tmp_path: Path, name: str) -> None:
    path = folder(tmp_path / "m")
    (path / SINGLE).write_bytes(BAD_HEADERS[name])
    refused(path, "empty|header|refuses|type is|shape is|missing")


def test_a_truncated_shard(tmp_path: Path) -> None:
    path = sharded(tmp_path / "m")
    shard = path / "model-00002-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])
    refused(path, f"{shard.name}: safetensors refuses")


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("model.layers.0.self_attn.q_proj.weight", (32, 31), "attn_q.weight has shape"),
        ("model.layers.1.input_layernorm.weight", (1, 32), "attn_norm.weight has shape"),
        ("model.layers.0.self_attn.q_norm.weight", (8,), "no part of a llama model"),
        ("model.layers.2.input_layernorm.weight", (32,), "blk.2"),
        ("model.layers.01.input_layernorm.weight", (32,), "no part of a Llama model"),
        ("model.layers.0.mlp.experts.0.up_proj.weight", (64, 32), "no part of a Llama model"),
        ("token_embd.weight", (11, 32), "no part of a Llama model"),
        ("score.weight", (2, 32), "no part of a Llama model"),
    ],
)
def test_unfitting_tensors(tmp_path: Path, name: str, shape: tuple[int, ...], message: str) -> None:
    refused(folder(tmp_path / "m", None, weights() | {name: np.zeros(shape, np.float32)}), message)


@pytest.mark.parametrize("name", sorted(weights()))
def test_missing_tensors(tmp_path: Path, name: str) -> None:
    arrays = weights()
    del arrays[name]
    refused(folder(tmp_path / "m", None, arrays), "is missing")


def test_mutants_are_read_or_refused(tmp_path: Path) -> None:
    choose, path = random.Random(7), folder(tmp_path / "m")
    originals = {name: (path / name).read_bytes() for name in ("config.json", SINGLE)}
    for _ in range(2000):
        name = choose.choice([*originals])
        data = bytearray(originals[name])
        for _ in range(choose.randint(1, 3)):
            at = choose.randrange(min(len(data), 3000))
            data[at : at + choose.randint(0, 3)] = choose.randbytes(choose.randint(0, 3))
        (path / name).unlink()  # a mapped file must not change
        (path / name).write_bytes(data)
        try:
            for tensor in open_safetensors(path).tensors.values():
                assert tensor.to_float32().shape == tensor.shape
        except ModelFileError:
            pass
        (path / name).unlink()
        (path / name).write_bytes(originals[name])
