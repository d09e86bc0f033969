"""Reading right GGUF files: as the public package reads them, and reduced to a checkpoint."""

import os
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

import gguf_writer as w
from calls import count_calls
from nextok.errors import ModelFileError, ModelNotFoundError
from nextok.formats import Checkpoint, open_gguf, open_model, read_gguf

EVERY_TYPE = {
    **{f"number.{code}": w.number(code, 1) for code in w.CODES},
    **{f"array.{code}": w.array(code, [0, 1, 1]) for code in w.CODES},
    **{f"empty.{code}": w.array(code, []) for code in w.CODES},
    "u64": w.number("u64", 2**64 - 1),
    "i64": w.number("i64", -(2**63)),
    "f64": w.number("f64", 0.1),
    "nan": float("inf"),
    "text": "naïve\n日本",
    "texts": ["", "a", "日本", "x" * 1000],
    "no texts": [],
}


def write(folder: Path, data: bytes) -> Path:
    path = folder / "tiny.gguf"
    path.write_bytes(data)
    return path


def checkpoint(
    folder: Path, settings: dict[str, Any], architecture: str = "llama", **tensors: w.Weight
) -> Checkpoint:
    metadata = w.tiny_metadata(architecture) | {f"{architecture}.{key}": value for key, value in settings.items()}
    named = {name.replace("__", "."): weight for name, weight in tensors.items()}
    return open_gguf(write(folder, w.gguf(metadata, w.tiny_tensors(architecture) | named)))


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("alignment", [8, 32, 4096])
def test_reads_what_the_public_package_reads(tmp_path: Path, version: int, alignment: int) -> None:
    metadata = EVERY_TYPE | {"general.alignment": alignment}
    path = write(tmp_path, w.gguf(metadata, w.tiny_tensors(), version, alignment))
    ours, theirs = read_gguf(path), gguf.GGUFReader(path)
    fields = {key: field for key, field in theirs.fields.items() if not key.startswith("GGUF.")}
    assert ours.metadata.keys() == fields.keys()
    for key, field in fields.items():
        if not key.startswith(("empty", "no ")):  # the package answers None for an empty array
            assert ours.metadata[key] == field.contents(), key
    assert ours.tensors.keys() == {tensor.name for tensor in theirs.tensors}
    for tensor in theirs.tensors:
        found = ours.tensors[tensor.name]
        assert found.shape == tuple(tensor.shape[::-1])
        assert found.kind == tensor.tensor_type.name
        np.testing.assert_array_equal(found.to_float32(), gguf.dequantize(tensor.data, tensor.tensor_type))


def test_types_of_values(tmp_path: Path) -> None:
    metadata = read_gguf(write(tmp_path, w.gguf(EVERY_TYPE, {}))).metadata
    assert metadata["number.bool"] is True
    assert metadata["array.bool"] == [False, True, True]
    assert type(metadata["number.f32"]) is float
    assert type(metadata["number.u8"]) is int
    assert metadata["u64"] == 2**64 - 1
    assert metadata["empty.u8"] == metadata["no texts"] == []


def test_a_vocabulary_alone_can_be_read(tmp_path: Path) -> None:
    path = write(tmp_path, w.gguf(w.tiny_metadata(), {}))
    assert read_gguf(path).tensors == {}
    with pytest.raises(ModelFileError, match="vocabulary alone"):
        open_gguf(path)


def test_bytes_stay_in_the_file(tmp_path: Path) -> None:
    tensor = read_gguf(write(tmp_path, w.tiny())).tensors["blk.0.attn_k.weight"]
    assert not tensor.data.flags.owndata
    assert not tensor.data.flags.writeable
    assert tensor.data.nbytes == 16 * 32 * 4


@pytest.mark.parametrize("architecture", ["llama", "mistral", "qwen2", "qwen3"])
def test_configuration(tmp_path: Path, architecture: str) -> None:
    found = open_model(write(tmp_path, w.tiny(architecture)))
    config = found.config
    assert (config.architecture, config.layers, config.width, config.hidden) == (architecture, 2, 32, 64)
    assert (config.heads, config.kv_heads, config.head_width, config.rope_width) == (4, 2, 8, 8)
    assert (config.vocab_size, config.context, config.rope_theta) == (8, 128, 10_000.0)
    assert config.norm_epsilon == pytest.approx(1e-5)
    assert config.rope_interleaved == (architecture in ("llama", "mistral"))
    assert config.rope_divisors is None
    assert "output.weight" not in found.tensors
    assert found.metadata["tokenizer.ggml.tokens"][6] == "日"


def test_what_may_be_absent(tmp_path: Path) -> None:
    metadata = w.tiny_metadata()
    for key in ("rope.freq_base", "rope.dimension_count"):
        del metadata[f"llama.{key}"]
    config = open_gguf(write(tmp_path, w.gguf(metadata, w.tiny_tensors()))).config
    assert (config.rope_theta, config.rope_width) == (10_000.0, 8)


def test_a_head_width_of_its_own(tmp_path: Path) -> None:
    shapes = {"attn_q": (64, 32), "attn_k": (32, 32), "attn_v": (32, 32), "attn_output": (32, 64)}
    tensors = {f"blk__{n}__{name}__weight": w.floats(*shape) for n in (0, 1) for name, shape in shapes.items()}
    settings = {"attention.key_length": 16, "attention.value_length": 16}
    config = checkpoint(tmp_path, settings, **tensors).config
    assert (config.head_width, config.rope_width) == (16, 8)


def test_biases_and_an_output_of_its_own(tmp_path: Path) -> None:
    tensors = {"output__weight": w.q8_0(8, 32), "blk__1__ffn_down__bias": w.floats(32)}
    assert {"output.weight", "blk.1.ffn_down.bias"} <= checkpoint(tmp_path, {}, **tensors).tensors.keys()


def test_a_padded_embedding_widens_the_vocabulary(tmp_path: Path) -> None:
    assert checkpoint(tmp_path, {}, token_embd__weight=w.q8_0(64, 32)).config.vocab_size == 64


@pytest.mark.parametrize(("window", "context"), [(0, 128), (64, 64), (4096, 128)])
def test_a_sliding_window_caps_the_context(tmp_path: Path, window: int, context: int) -> None:
    assert checkpoint(tmp_path, {"attention.sliding_window": window}).config.context == context


@pytest.mark.parametrize(
    ("settings", "divisors"),
    [
        ({"rope.scaling.type": "none", "rope.scaling.factor": 4.0}, None),
        ({"rope.scaling.type": "linear"}, None),
        ({"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}, (4.0,) * 4),
        ({"rope.scaling.factor": 4.0}, (4.0,) * 4),
        ({"rope.scale_linear": 2.0}, (2.0,) * 4),
    ],
)
def test_linear_scaling(tmp_path: Path, settings: dict[str, Any], divisors: tuple[float, ...] | None) -> None:
    assert checkpoint(tmp_path, settings).config.rope_divisors == divisors


def test_a_table_of_divisors(tmp_path: Path) -> None:
    table = w.Weight((4,), w.F32, np.array([1, 1, 2.5, 8], np.float32).tobytes())
    found = checkpoint(tmp_path, {"rope.scaling.factor": 2.0}, rope_freqs__weight=table)
    assert found.config.rope_divisors == (2.0, 2.0, 5.0, 16.0)
    assert "rope_freqs.weight" not in found.tensors


def test_a_large_vocabulary_is_read_in_few_calls_a_token(tmp_path: Path) -> None:
    words = [f"token {number} é" for number in range(100_000)]
    path = write(tmp_path, w.gguf({"tokenizer.ggml.tokens": words, "types": w.array("i32", [1] * 100_000)}, {}))
    assert read_gguf(path).metadata["tokenizer.ggml.tokens"] == words
    assert count_calls(lambda: read_gguf(path)) < 4 * len(words)


@pytest.mark.parametrize("path", ["absent.gguf", "absent/tiny.gguf", "nul\0.gguf", "sur\udcffrogate"])
def test_nothing_there(tmp_path: Path, path: str) -> None:
    for read in (read_gguf, open_gguf, open_model):
        with pytest.raises(ModelNotFoundError, match="no such file") as caught:
            read(tmp_path / path)
        assert "\n" not in str(caught.value)


def test_not_a_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(ModelFileError, match="folder or a device"):
            read_gguf(path)


def test_a_name_of_two_lines_stays_one_line(tmp_path: Path) -> None:
    path = tmp_path / "two\nlines.gguf"
    path.write_bytes(b"")
    with pytest.raises(ModelFileError, match="empty") as caught:
        open_model(path)
    assert "\n" not in str(caught.value)


def test_a_name_too_long(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="system cannot read"):
        open_model(tmp_path / ("x" * 5000))


def test_one_safetensors_file_is_not_enough(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelFileError, match="give its folder"):
        open_model(tmp_path / "model.safetensors")
