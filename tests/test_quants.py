"""Dequantisation equals the reference package to the last bit."""

import gguf
import numpy as np
import pytest

from nextok.errors import ModelFileError
from nextok.formats.gguf import KIND_NAMES
from nextok.formats.quants import KINDS, find_kind

HALVES = {"Q8_0": (0,), "Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,), "Q5_1": (0, 2), "Q4_K": (0, 2), "Q5_K": (0, 2)}
HALVES |= {"Q6_K": (208,)}  # where the blocks of each kind hold float16 scales and minima
ODD = [0.0, -0.0, 6e-8, -6e-8, 6.1e-5, 1.0, -1.0, 65504.0, -65504.0, np.inf, -np.inf, np.nan]


def blocks(name: str, count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, KINDS[name].layout.itemsize), np.uint8)


def same_bits(name: str, data: np.ndarray, rows: int = 1) -> None:
    shape = (rows, len(data) // rows * KINDS[name].length)
    with np.errstate(all="ignore"):
        wanted = gguf.dequantize(data.reshape(rows, -1), gguf.GGMLQuantizationType[name])
    found = KINDS[name].decode(data.reshape(-1), shape)
    assert found.dtype == np.float32
    assert found.shape == shape
    np.testing.assert_array_equal(found, wanted.reshape(shape))  # equal NaNs count as equal
    numbers = ~np.isnan(found)
    assert (found.view(np.uint32)[numbers] == wanted.reshape(shape).view(np.uint32)[numbers]).all()


@pytest.mark.parametrize("name", KINDS)
def test_sizes_are_the_formats_own(name: str) -> None:
    size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]
    assert (KINDS[name].length, KINDS[name].layout.itemsize) == size


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(("count", "rows"), [(1, 1), (12, 4), (999, 3)])
def test_random_bytes(name: str, count: int, rows: int) -> None:
    same_bits(name, blocks(name, count, seed=count), rows)


@pytest.mark.parametrize("name", KINDS)
def test_more_values_than_a_chunk(name: str) -> None:
    same_bits(name, blocks(name, 140_001 // KINDS[name].length))


@pytest.mark.parametrize("name", HALVES)
def test_odd_scales(name: str) -> None:
    scales = np.array(ODD, np.float16).view(np.uint8).reshape(-1, 2)
    for first in range(len(ODD)):
        data = blocks(name, len(ODD), seed=first)
        for index, at in enumerate(HALVES[name]):
            data[:, at : at + 2] = np.roll(scales, first * index, axis=0)
        same_bits(name, data)


def test_the_result_is_ours_to_write() -> None:
    data = np.frombuffer(np.ones(4, np.float32).tobytes(), np.uint8)
    found = KINDS["F32"].decode(data, (2, 2))
    found[0, 0] = 5
    assert data[0] == 0


@pytest.mark.parametrize("shape", [(16,), (32, 33), (1, 255)])
def test_a_row_must_be_whole_blocks(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelFileError, match="blocks of 32"):
        KINDS["Q4_1"].count_bytes(shape)


def test_names_are_the_formats_own() -> None:
    numbers = {kind.value: kind.name for kind in gguf.GGMLQuantizationType}
    assert {number: name for number, name in enumerate(KIND_NAMES) if name != "-"} == numbers


@pytest.mark.parametrize("name", sorted({*KIND_NAMES} - {*KINDS}))
def test_an_unsupported_kind_is_named_with_those_that_are(name: str) -> None:
    with pytest.raises(ModelFileError, match=rf"'{name}'.*Q4_K") as caught:
        find_kind(name)
    assert "\n" not in str(caught.value)
