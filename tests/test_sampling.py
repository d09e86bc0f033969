"""Readout: filters, ties, noise and what is reported, row by row."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextok.core.query import Candidate, Choice, Pick, Row, Score, Top
from nextok.errors import LogitsError
from nextok.readout.filters import largest, log_softmax
from nextok.readout.filters import transform as transformed
from nextok.readout.noise import gumbel
from nextok.readout.readout import read
from nextok.sampling.edits import Forbid
from nextok.sampling.sampler import Sampler
from nextok.sampling.seeds import stream
from nextok.sampling.transforms import MinP, Temperature, TopK, TopP
from nextok.strategies.sample import Greedy, Sample

GREEDY = Greedy().sampler
NOT_1 = Forbid(frozenset({1}))
LOGITS = st.lists(
    st.one_of(st.sampled_from([0.0, 1.0, -1.0, 2.0]), st.floats(-30, 30, width=32), st.just(-math.inf)),
    min_size=1,
    max_size=40,
).filter(lambda row: max(row) > -math.inf)


def transform(logits, transforms):
    return transformed(logits, transforms, Row(0, Top(1), 0, 0))


def kept(logits, *transforms):
    return np.flatnonzero(transform(np.array(logits, np.float32), transforms) > -np.inf).tolist()


def answer(logits, what, **row):
    block = np.array([logits], np.float32)
    return read(block, [Row(0, what, row.pop("seed", 0), row.pop("position", 1), **row)])[0]


def test_top_k_keeps_exactly_k_and_ties_go_to_the_lowest_id():
    assert kept([1, 3, 3, 3, 2], TopK(2)) == [1, 2]
    assert kept([5, 5, 5, 5], TopK(1)) == [0]
    assert kept([1, 2], TopK(9)) == [0, 1]


@given(LOGITS, st.integers(1, 45))
def test_largest_agrees_with_sorting(logits, k):
    by_definition = sorted(range(len(logits)), key=lambda token: (-logits[token], token))[:k]
    assert largest(np.array(logits), k).tolist() == by_definition


def test_top_p_keeps_the_crossing_token():
    p = np.log([0.5, 0.3, 0.15, 0.05])
    assert kept(p, TopP(0.49)) == [0]
    assert kept(p, TopP(0.51)) == [0, 1]
    assert kept(p, TopP(0.79)) == [0, 1]
    assert kept(p, TopP(0.96)) == [0, 1, 2, 3]
    assert kept(p, TopP(1)) == [0, 1, 2, 3]


def test_min_p_is_relative_to_the_best():
    assert kept(np.log([0.5, 0.3, 0.15, 0.05]), MinP(0.2)) == [0, 1, 2]
    assert kept(np.log([0.5, 0.3, 0.15, 0.05]), MinP(0.0)) == [0, 1, 2, 3]
    assert kept([1.0, 1.0, 0.0], MinP(1.0)) == [0, 1]


@settings(max_examples=300, deadline=None)
@given(LOGITS, st.floats(0.01, 1), st.floats(0, 1), st.integers(1, 40), st.floats(0.05, 5))
def test_filters_agree_with_their_definitions(logits, top_p, min_p, top_k, temperature):
    values = transform(
        np.array(logits, np.float32), (Temperature(temperature), TopK(top_k), TopP(top_p), MinP(min_p))
    )
    scaled = [(logit - max(logits)) / temperature for logit in logits]  # floats of 32 bits, worked on in 64
    ranked = sorted((t for t in range(len(scaled)) if scaled[t] > -math.inf), key=lambda t: (-scaled[t], t))[:top_k]
    mass = [math.exp(scaled[token] - scaled[ranked[0]]) for token in ranked]
    total = math.fsum(mass)
    size = next(n for n in range(1, len(mass) + 1) if sum(mass[:n]) >= top_p * total or n == len(mass))
    expected = [token for token, weight in zip(ranked[:size], mass) if weight >= min_p]
    found = np.flatnonzero(values > -np.inf).tolist()
    border = any(abs(sum(mass[:n]) - top_p * total) < 1e-9 * total for n in range(len(mass) + 1)) or any(
        abs(weight - min_p) < 1e-12 for weight in mass
    )
    assert len(found) >= 1
    if not border:  # exactly on a border, rounding decides
        assert found == sorted(expected)
        assert all(values[token] == scaled[token] for token in found)


def test_the_callers_logits_are_untouched():
    logits = np.array([1.0, 2.0, 3.0], np.float32)
    before = logits.copy()
    read(logits[None], [Row(0, Pick(Sampler((NOT_1, Temperature(0.5), TopK(1)))), 0, 0, 3)])
    assert (logits == before).all()


def test_greedy_takes_the_lowest_of_equals():
    assert answer([1, 4, 4, 0], Pick(GREEDY)) == Choice(1)
    assert answer([1, 4, 4, 0], Pick(Sample(temperature=0).sampler)) == Choice(1)
    assert answer([1, 4, 4, 0], Pick(Sample(top_k=1, temperature=9.0).sampler)) == Choice(1)


def test_order_of_transforms_is_the_samplers():
    logits = np.log([0.4, 0.3, 0.2, 0.1])
    assert kept(logits, TopP(0.65), Temperature(5)) == [0, 1]
    assert kept(logits, Temperature(5), TopP(0.65)) == [0, 1, 2]


def test_forbidden_tokens_are_never_chosen_nor_listed():
    assert answer([1, 9, 5], Pick(Sampler((NOT_1,), noise=False))) == Choice(2)
    assert [token for token, _ in answer([1, 9, 5], Top(3, (NOT_1,)))] == [2, 0]
    for seed in range(200):
        assert answer([0, 9, 0], Pick(Sampler((NOT_1,))), seed=seed).token != 1


def test_logprobs_are_the_models_own():
    logits = [0.5, 2.0, -1.0]
    raw = log_softmax(np.array(logits))
    choice = answer(logits, Pick(Sample(temperature=3, top_k=1).sampler), logprobs=2)
    assert choice.token == 1
    assert choice.logprob == pytest.approx(raw[1])
    assert choice.top == (Candidate(1, pytest.approx(raw[1])), Candidate(0, pytest.approx(raw[0])))
    assert answer(logits, Score(2)).logprob == pytest.approx(raw[2])


def test_top_reports_the_distribution_after_its_transforms():
    found = answer([0.0, 1.0, 2.0], Top(3, (Temperature(0.5), TopK(2))))
    expected = log_softmax(np.array([2.0, 4.0]))
    assert found == [Candidate(2, pytest.approx(expected[1])), Candidate(1, pytest.approx(expected[0]))]


@pytest.mark.parametrize("row", [[math.nan, 1.0], [1.0, math.nan], [-math.inf, -math.inf], [math.inf, 0.0]])
@pytest.mark.parametrize("what", [Pick(GREEDY), Pick(Sampler()), Top(2), Score(0)])
def test_a_row_that_cannot_be_read_is_its_own_error(row, what):
    good, bad = Row(0, what, 0, 0), Row(1, what, 0, 0)
    replies = read(np.array([[1.0, 2.0], row], np.float32), [bad, good])
    assert isinstance(replies[0], LogitsError)
    assert "position 0" in str(replies[0])
    assert not isinstance(replies[1], Exception)


def test_noise_is_a_pure_function_of_seed_position_and_token():
    tokens = np.arange(1000)
    noise = gumbel(7, 3, tokens)
    assert (gumbel(7, 3, tokens[::-1]) == noise[::-1]).all()
    assert gumbel(7, 3, np.array([500]))[0] == noise[500]
    assert not np.intersect1d(noise, gumbel(7, 4, tokens)).size
    assert not np.intersect1d(noise, gumbel(8, 3, tokens)).size


def test_noise_is_pinned():
    """These numbers are part of the contract: other backends and later versions must draw the same."""
    assert gumbel(0, 0, np.array([0, 1, 49151])).tolist() == pytest.approx(PINNED, rel=1e-14)


PINNED = [0.8509171899612384, 1.0357928357330763, 0.3789240971307174]


def test_noise_has_the_moments_of_gumbel():
    noise = np.concatenate([gumbel(seed, seed % 7, np.arange(5000)) for seed in range(100)])
    assert noise.mean() == pytest.approx(0.5772156649, abs=0.01)
    assert noise.var() == pytest.approx(math.pi**2 / 6, abs=0.02)
    assert np.isfinite(noise).all()


def test_streams_of_one_seed_are_distinct_and_begin_with_itself():
    seeds = {stream(seed, index) for seed in range(50) for index in range(50)}
    assert stream(9, 0) == 9
    assert len(seeds) == 2500


@pytest.mark.parametrize("seed", [-1, -(2**63), 2**64 - 1, 2**80])
def test_any_whole_number_is_a_seed(seed):
    assert np.isfinite(gumbel(seed, 0, np.arange(10))).all()


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: Sample(temperature=-0.1), "temperature"),
        (lambda: Sample(temperature=math.nan), "temperature"),
        (lambda: Sample(temperature=math.inf), "temperature"),
        (lambda: Sample(top_k=0), "top_k"),
        (lambda: Sample(top_k=2.5), "top_k"),
        (lambda: Sample(top_k=True), "top_k"),
        (lambda: Sample(top_p=0), "top_p"),
        (lambda: Sample(top_p=1.01), "top_p"),
        (lambda: Sample(top_p=math.nan), "top_p"),
        (lambda: Sample(min_p=-0.01), "min_p"),
        (lambda: Sample(min_p=1.5), "min_p"),
        (lambda: Sample(temperature=0, top_k=0), "top_k"),
    ],
)
def test_parameters_out_of_range_name_themselves_and_the_rule(build, says):
    with pytest.raises(ValueError, match=rf"{says} must be .*got"):
        build()
