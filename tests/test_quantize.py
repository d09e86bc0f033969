"""Quantising on load equals the reference package, block by block."""

import gguf
import numpy as np
import pytest

import nextok as nt
from nextok.errors import NextokError
from nextok.formats.quantize import PACKERS, quantize_checkpoint
from nextok.formats.tensor import Checkpoint
from nextok.models.llama_numpy import LlamaNumpy
from nextok.models.native import NativeModel
from test_native import CONFIG, checkpoint
from test_numpy_model import TOKENS, in_memory, straight

ODD = np.array([0.0, -0.0, 1e-30, -1e-8, 6e-5, 1.0, -1.0, 0.5, 127.0, -127.5, 3e4, -3e4], np.float32)


def blocks(case: str) -> np.ndarray:
    dice = np.random.default_rng(5)
    cases = {
        "normal": dice.standard_normal((500, 32)),
        "one sign": np.abs(dice.standard_normal((200, 32))),
        "flat": np.repeat(ODD, 32).reshape(-1, 32),
        "odd": dice.choice(ODD, (500, 32)),
        "halfway": dice.integers(-254, 255, (300, 32)) / 2,
    }
    return cases[case].astype(np.float32)


@pytest.mark.parametrize("case", ["normal", "one sign", "flat", "odd", "halfway"])
@pytest.mark.parametrize("kind", PACKERS)
def test_blocks_equal_those_of_the_reference(kind: str, case: str) -> None:
    values = blocks(case)
    expected = gguf.quantize(values, gguf.GGMLQuantizationType[kind.upper()])
    np.testing.assert_array_equal(PACKERS[kind](values), expected)


@pytest.mark.parametrize("kind", PACKERS)
@pytest.mark.parametrize("source", ["F32", "F16", "BF16"])
def test_a_model_is_quantised_matrix_by_matrix(kind: str, source: str) -> None:
    original = checkpoint(source)
    packed = quantize_checkpoint(original, kind)
    for name, tensor in packed.tensors.items():
        if len(tensor.shape) == 1:
            assert tensor is original.tensors[name]
            continue
        values = original.tensors[name].to_float32()
        assert tensor.kind == kind.upper()
        expected = gguf.quantize(values, gguf.GGMLQuantizationType[tensor.kind])
        np.testing.assert_array_equal(tensor.data.reshape(len(values), -1), expected)


@pytest.mark.parametrize("kind", PACKERS)
def test_both_backends_compute_what_the_blocks_say(kind: str) -> None:
    packed = quantize_checkpoint(checkpoint("F32"), kind)
    reference, native = LlamaNumpy(packed), NativeModel(packed, exact=True)
    expected = reference.logits(reference.forward([straight(reference, TOKENS)]))
    assert np.abs(native.logits([straight(native, TOKENS)]) - expected).max() < 1e-4 * np.abs(expected).max()
    assert native._core.weight_bytes < NativeModel(checkpoint("F32"))._core.weight_bytes / 3


def test_rows_that_are_no_whole_blocks_stay_as_they_are() -> None:
    tensors = {name: in_memory(name, np.ones(shape)) for name, shape in {"odd": (4, 40), "even": (4, 64)}.items()}
    packed = quantize_checkpoint(Checkpoint(CONFIG, tensors, {}), "q8_0").tensors
    assert (packed["odd"], packed["even"].kind) == (tensors["odd"], "Q8_0")


def test_what_is_quantised_already_is_refused() -> None:
    original = checkpoint("Q4_1")
    tensors = {name: each for name, each in original.tensors.items() if each.kind == "Q4_1"}
    with pytest.raises(NextokError, match=r"quantize='q8_0' is for weights in F32, F16, BF16.*leave it out"):
        quantize_checkpoint(Checkpoint(CONFIG, tensors, {}), "q8_0")
    with pytest.raises(ValueError, match="quantize must be one of q8_0, q4_1 or None, got 'q2'"):
        nt.load("smollm2", quantize="q2")
