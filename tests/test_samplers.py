"""Every transform against a definition that is not ours: transformers' processors, or the published formula."""

import math

import numpy as np
import pytest
import torch
from transformers.generation import logits_process as theirs

from nextok.core.query import Pick, Query, Row, Top
from nextok.readout.filters import transform
from nextok.readout.noise import gumbel, uniform
from nextok.sampling.penalties import Mirostat
from nextok.sampling.sampler import Sampler
from nextok.sampling.transforms import (
    XTC,
    Custom,
    DynamicTemperature,
    EpsilonCutoff,
    EtaCutoff,
    MinP,
    Surprise,
    Temperature,
    TopK,
    TopNSigma,
    TopP,
    TypicalP,
)
from nextok.strategies.sample import Sample
from toys import TARGET, asked, by_reference

VOCAB = 60
ROWS = {
    "common": lambda dice: dice.normal(0, 3, VOCAB),
    "ties": lambda dice: dice.integers(-3, 4, VOCAB),
    "mostly removed": lambda dice: np.where(dice.random(VOCAB) < 0.8, -np.inf, dice.normal(0, 3, VOCAB)),
    "one survivor": lambda dice: np.where(np.arange(VOCAB) == dice.integers(VOCAB), 1.5, -np.inf),
    "flat": lambda dice: np.full(VOCAB, dice.normal()),
    "sharp": lambda dice: dice.normal(0, 200, VOCAB),
    "huge": lambda dice: dice.normal(0, 1e30, VOCAB),
    "nearly flat": lambda dice: dice.normal(0, 1e-4, VOCAB),
}
SEED_OF = {kind: index for index, kind in enumerate(ROWS)}


def rows_of(kind, count=40):
    """Logits of one kind, float32; always the same."""
    dice = np.random.default_rng(SEED_OF[kind])
    rows = np.array([ROWS[kind](dice) for _ in range(count)], np.float32)
    rows[np.isneginf(rows).all(axis=1), 0] = 0.0
    return rows


def ours(logits, *transforms, seed=0, position=1):
    return transform(logits, transforms, Row(0, Top(1), seed, position))


def softmax(values):
    weights = np.exp(values - values.max())
    return weights / weights.sum()


def likely(values):
    """Log-probabilities; -inf for what is removed."""
    shifted = np.asarray(values, np.float64) - np.max(values)
    return shifted - np.log(np.exp(shifted).sum())


def same_distribution(found, expected):
    found, expected = likely(found), likely(expected)
    assert (np.isneginf(found) == np.isneginf(expected)).all()
    finite = np.isfinite(expected)
    assert np.allclose(found[finite], expected[finite], rtol=1e-9, atol=1e-9)


def on_a_border(quantities, border):
    """Whether rounding decides: some quantity lies within 1e-9 of the border."""
    return bool((np.abs(np.asarray(quantities) - border) < 1e-9 * max(1, abs(border))).any())


def lowest_of(logits, allowed, count):
    """Of these tokens the `count` largest, ties by lowest id."""
    return sorted(sorted(allowed, key=lambda token: (-logits[token], token))[:count])


def kept(values):
    return np.flatnonzero(values > -np.inf).tolist()


def by_transformers(processor, logits):
    """What a warper of transformers leaves of each row, in float64."""
    return processor(None, torch.tensor(logits.astype(np.float64))).numpy()


# Filters that transformers knows too.


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("value", [0.05, 0.7, 1.0, 3.3, 1e6])
def test_temperature_is_that_of_transformers(kind, value):
    rows = rows_of(kind)
    for logits, expected in zip(rows, by_transformers(theirs.TemperatureLogitsWarper(float(value)), rows)):
        same_distribution(ours(logits, Temperature(value)), expected)


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("k", [1, 3, 17, 59, 60, 1000])
def test_top_k_is_that_of_transformers_less_the_ties(kind, k):
    rows = rows_of(kind)
    for logits, expected in zip(rows, by_transformers(theirs.TopKLogitsWarper(k), rows)):
        assert kept(ours(logits, TopK(k))) == lowest_of(logits, kept(expected), k)


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("p", [1e-9, 0.1234567, 0.5000001, 0.9171, 0.999999])
def test_top_p_is_that_of_transformers_with_ties_to_the_lowest_id(kind, p):
    rows, compared = rows_of(kind), 0
    for logits, expected in zip(rows, by_transformers(theirs.TopPLogitsWarper(p), rows)):
        if on_a_border(np.cumsum(np.sort(softmax(logits.astype(np.float64)))[::-1]), p):
            continue
        compared += 1
        assert kept(ours(logits, TopP(p))) == lowest_of(logits, kept(logits), len(kept(expected)))
    assert compared > len(rows) * 0.9


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("p", [0.0, 0.0123, 0.321, 1.0])
def test_min_p_is_that_of_transformers(kind, p):
    rows = rows_of(kind)
    for logits, expected in zip(rows, by_transformers(theirs.MinPLogitsWarper(p), rows)):
        if on_a_border(softmax(logits.astype(np.float64)) / softmax(logits.astype(np.float64)).max(), p) and p < 1:
            continue
        same_distribution(ours(logits, MinP(p)), expected)


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("p", [0.0123, 0.321, 0.7171, 0.9567])
def test_typical_p_is_that_of_transformers_less_the_ties(kind, p):
    rows, compared = rows_of(kind), 0
    for logits, expected in zip(rows, by_transformers(theirs.TypicalLogitsWarper(p), rows)):
        logprobs = likely(logits)
        entropy = -sum(math.exp(each) * each for each in logprobs if each > -np.inf)
        order = sorted(range(VOCAB), key=lambda token: (round(abs(-logprobs[token] - entropy), 9), token))
        mass = np.cumsum(np.exp(logprobs[order]))
        if on_a_border(mass, p):
            continue
        compared += 1
        found = kept(ours(logits, TypicalP(p)))
        assert set(found) <= set(kept(expected))  # they keep all that are as typical as the last one
        assert sorted(np.round(np.abs(-logprobs[found] - entropy), 9)) == sorted(
            np.round(np.abs(-logprobs[order[: len(found)]] - entropy), 9)
        )
        assert mass[len(found) - 1] >= p > (mass[len(found) - 2] if len(found) > 1 else 0)
    assert compared > len(rows) * 0.9


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("epsilon", [3e-4, 0.0123, 0.321])
@pytest.mark.parametrize(
    ("make", "warper"), [(EpsilonCutoff, theirs.EpsilonLogitsWarper), (EtaCutoff, theirs.EtaLogitsWarper)]
)
def test_cutoffs_are_those_of_transformers_but_keep_one_of_the_best(kind, epsilon, make, warper):
    rows = rows_of(kind)
    for logits, expected in zip(rows, by_transformers(warper(epsilon), rows)):
        probable = softmax(logits.astype(np.float64)) >= epsilon
        single = make is EpsilonCutoff and not probable.any()  # then only the best are left: here, the first of them
        assert kept(ours(logits, make(epsilon))) == (
            lowest_of(logits, kept(expected), 1) if single else kept(expected)
        )


def test_negative_control_the_comparison_notices_one_token_more_or_less():
    logits = rows_of("common")[0]
    for wrong in (TopK(6), TopK(4), TopP(0.9)):
        with pytest.raises(AssertionError):
            same_distribution(ours(logits, wrong), ours(logits, TopK(5)))


# Filters that it does not know: the published formula, in plain Python.


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("n", [0.0, 0.5, 1.0, 2.7, 1e9])
def test_top_n_sigma_keeps_what_lies_within_n_deviations_of_the_best(kind, n):
    for logits in rows_of(kind):
        finite = [float(logit) for logit in logits if logit > -math.inf]
        mean = math.fsum(finite) / len(finite)
        sigma = math.sqrt(math.fsum((logit - mean) ** 2 for logit in finite) / len(finite))
        logits = logits.astype(np.float64)
        least = max(finite) - n * sigma
        slack = 1e-9 * max(abs(max(finite)), n * sigma)
        found = kept(ours(logits, TopNSigma(n)))
        assert {token for token in range(VOCAB) if logits[token] > least + slack} <= set(found)
        assert set(found) <= {token for token in range(VOCAB) if logits[token] >= least - slack}
        assert int(np.argmax(logits)) in found


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("threshold", [0.0, 0.01234, 0.1, 0.45])
def test_xtc_leaves_the_least_probable_of_the_top_choices(kind, threshold):
    struck = 0
    for position, logits in enumerate(rows_of(kind)):
        p = softmax(logits.astype(np.float64))
        top = sorted((t for t in kept(logits) if p[t] >= threshold), key=lambda token: (-logits[token], token))
        always = kept(ours(logits, XTC(1.0, threshold), seed=4, position=position))
        assert always == [token for token in kept(logits) if token not in top[:-1]] != []
        assert kept(ours(logits, XTC(0.0, threshold), seed=4, position=position)) == kept(logits)
        half = kept(ours(logits, XTC(0.5, threshold), seed=4, position=position))
        coin = uniform(4, position, np.array([-1]))[0] < 0.5
        assert half == (always if coin else kept(logits))
        struck += coin
    assert 8 < struck < 32


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize(
    ("low", "high", "exponent"), [(0.5, 1.5, 1.0), (0.1, 4.0, 0.3), (1.0, 1.0, 2.0), (0.5, 2, 0)]
)
def test_dynamic_temperature_follows_the_entropy(kind, low, high, exponent):
    """llama.cpp: low + (high - low) * (entropy / log(candidates)) ** exponent."""
    for logits in rows_of(kind):
        p = [weight for weight in softmax(logits.astype(np.float64)) if weight > 0]
        count = len(kept(logits))
        if count == 1:
            assert (ours(logits, DynamicTemperature(low, high, exponent)) == logits).all()
            continue
        entropy = -math.fsum(each * math.log(each) for each in p)
        temperature = low + (high - low) * min(1, max(0, entropy / math.log(count))) ** exponent
        same_distribution(ours(logits, DynamicTemperature(low, high, exponent)), logits / np.float64(temperature))


def zipf_k(logits, mu):
    """llama.cpp's estimate in mirostat 1, from the 100 most probable tokens; None where it is not a number."""
    p = sorted(softmax(logits.astype(np.float64)), reverse=True)
    p = [each for each in p if each > 0][:100]
    above = below = 0.0
    for i in range(len(p) - 1):
        t = math.log((i + 2) / (i + 1))
        above += t * math.log(p[i] / p[i + 1])
        below += t * t
    s = above / below if below else 0.0
    if s == 0:
        return None
    epsilon = s - 1
    try:
        k = (epsilon * 2**mu / (1 - len(logits) ** -epsilon)) ** (1 / s)
    except OverflowError:
        return len(logits)
    return max(int(min(k, len(logits))), 1)


def surprise(version, mu):
    """Mirostat where mu has this value."""
    return Surprise(version, tau=5.0, eta=0.1, mu=mu)


@pytest.mark.parametrize("kind", ["common", "ties", "mostly removed", "nearly flat"])
@pytest.mark.parametrize("mu", [0.5, 3.0, 5.5, 10.0])
def test_mirostat_1_keeps_the_k_best_of_zipfs_law(kind, mu):
    compared = 0
    for logits in rows_of(kind):
        k = zipf_k(logits, mu)
        near = {zipf_k(logits, mu - 1e-9), k, zipf_k(logits, mu + 1e-9)}
        if k is None or len(near) > 1:
            continue
        compared += 1
        assert kept(ours(logits, surprise(1, mu))) == lowest_of(logits, kept(logits), k)
    assert compared > 30


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("mu", [-3.0, 0.5, 3.0, 5.90689, 10.0, 1e9])
def test_mirostat_2_removes_what_carries_more_than_mu_bits(kind, mu):
    for logits in rows_of(kind):
        bits = -likely(logits) / math.log(2)
        if on_a_border(bits, mu):
            continue
        expected = [token for token in range(VOCAB) if bits[token] <= mu] or lowest_of(logits, kept(logits), 1)
        assert kept(ours(logits, surprise(2, mu))) == expected


@pytest.mark.parametrize("kind", ROWS)
def test_every_order_of_filters_is_their_composition_and_leaves_a_token(kind):
    dice = np.random.default_rng(3)
    filters = [
        Temperature(0.8),
        DynamicTemperature(0.5, 2.0),
        TopK(20),
        TopP(0.9),
        MinP(0.02),
        TypicalP(0.9),
        EpsilonCutoff(0.001),
        EtaCutoff(0.01),
        TopNSigma(1.5),
        XTC(0.5, 0.05),
        surprise(1, 6.0),
        surprise(2, 5.0),
        Custom(lambda row: row / 2),
    ]
    for position, logits in enumerate(rows_of(kind)):
        before = logits.copy()
        order = [filters[i] for i in dice.permutation(len(filters))]
        values = logits.astype(np.float64)
        for each in order:
            values = ours(values, each, position=position)
            assert kept(values)
        together = ours(logits, *order, position=position)
        assert kept(together) == kept(values)
        assert np.array_equal(together, values)
        assert np.array_equal(logits, before)


def test_a_custom_transform_sees_the_row_and_if_it_asks_the_tokens_so_far():
    seen = []

    def of_row(row):
        seen.append(row.dtype)
        row[:] = 0  # its own copy
        return [1.0] * len(row)

    def of_both(row, tokens):
        seen.append([*tokens])
        tokens.append(99)  # its own as well
        return row

    request = asked([4, 2])
    list(request.commit([3, 5]))
    guess = request.tree.add(request.tip, 6)
    for function in (of_row, of_both, of_both):
        [custom] = found_at(request, Custom(function), node=guess)
        logits = np.arange(7, dtype=np.float32)
        ours(logits, custom)
        assert (logits == np.arange(7)).all()
    assert seen == [np.float64, [4, 2, 3, 5, 6], [4, 2, 3, 5, 6]]


def found_at(request, *transforms, node=None):
    """What the transforms mean after the text that ends in `node`."""
    node = request.tip if node is None else node
    return request.row(0, node, Query((node,), (Pick(Sampler(transforms)),)), 0).read.transforms


def test_mirostat_tells_how_surprised_it_was():
    """A whole text by the published loop: keep what carries at most mu bits, draw, move mu by eta times the error."""
    for seed in range(20):
        request = asked([1, 2], seed=seed, max_tokens=30, stop_ids=frozenset())
        by_reference(Sample(mirostat=Mirostat(2, tau=1.3, eta=0.7)), request)
        mu, tokens = 2.6, [1, 2]
        for _ in range(30):
            logprobs = likely(np.array(TARGET._scores(tuple(tokens)), np.float32))
            left = [t for t in range(7) if -logprobs[t] / math.log(2) <= mu] or [int(np.argmax(logprobs))]
            noise = gumbel(seed, len(tokens), np.arange(7))
            token = max(left, key=lambda t: logprobs[t] + noise[t])
            surprised = -math.log2(math.exp(logprobs[token]) / sum(math.exp(logprobs[t]) for t in left))
            mu -= 0.7 * (surprised - 1.3)
            tokens.append(token)
        assert request.tokens == tokens[2:]
