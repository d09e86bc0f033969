"""The readout of the native core: the reference's tokens, and its log-probabilities to 1e-12."""

import math
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from nextok import _native
from nextok.errors import LogitsError
from nextok.query import Candidate, Choice, Pick, Row, Score, Top
from nextok.sampling import readout
from nextok.sampling.sampler import Sampler
from nextok.sampling.transforms import MinP, Temperature, TopK, TopP

INF = math.inf
ROWS = {
    "normal": lambda dice, vocab: dice.normal(0, 4, vocab),
    "ties": lambda dice, vocab: dice.integers(-3, 3, vocab),
    "equal": lambda dice, vocab: np.full(vocab, dice.normal()),
    "signed zeros": lambda dice, vocab: dice.choice([0.0, -0.0], vocab),
    "infinities": lambda dice, vocab: np.where(dice.random(vocab) < 0.7, -INF, dice.normal(0, 4, vocab)),
    "one survivor": lambda dice, vocab: np.where(np.arange(vocab) == dice.integers(vocab), dice.normal(), -INF),
    "huge": lambda dice, vocab: dice.normal(0, 1, vocab).clip(-3, 3) * 1e38,
    "tiny": lambda dice, vocab: dice.normal(0, 1, vocab) * 1e-42,
    "all sizes": lambda dice, vocab: dice.choice([-1, 1], vocab) * 10.0 ** dice.uniform(-44, 38, vocab),
    "one above": lambda dice, vocab: np.where(
        np.arange(vocab) == dice.integers(vocab), 1e30, dice.normal(0, 4, vocab)
    ),
    "neighbours": lambda dice, vocab: (
        (np.float32(9).view(np.int32) + dice.integers(0, 9, vocab)).astype(np.int32).view("f4")
    ),
    "rising": lambda dice, vocab: np.linspace(-9, 9, vocab),
    "unreadable": lambda dice, vocab: dice.choice([math.nan, INF, -INF, 1.0], vocab, p=[0.02, 0.02, 0.9, 0.06]),
}


def any_transform(dice, vocab):
    return [
        lambda: Temperature(float(dice.choice([1.0, 0.3, 2.0, 1e-3, 1e3, 1e-300, 1e300, dice.uniform(0.1, 3)]))),
        lambda: TopK(int(dice.choice([1, 2, 5, 40, 300, max(1, vocab - 1), vocab, vocab + 1]))),
        lambda: TopK(10**30),
        lambda: TopP(float(dice.choice([1e-12, 0.3, 0.9, 1 - 1e-9, 1.0, dice.uniform(0.01, 1)]))),
        lambda: MinP(float(dice.choice([0.0, 1e-300, 0.05, 1.0, dice.random()]))),
    ][dice.choice(5, p=[0.3, 0.25, 0.05, 0.2, 0.2])]()


def any_transforms(dice, vocab):
    return tuple(any_transform(dice, vocab) for _ in range(dice.choice([0, 1, 1, 2, 3, 6])))


def any_row(dice, vocab, index):
    what = dice.choice(["greedy", "draw", "draw", "top", "score"])
    read = {
        "greedy": lambda: Pick(Sampler(any_transforms(dice, vocab), noise=False)),
        "draw": lambda: Pick(Sampler(any_transforms(dice, vocab))),
        "top": lambda: Top(int(dice.choice([0, 1, 4, 70, vocab, vocab + 3])), any_transforms(dice, vocab)),
        "score": lambda: Score(int(dice.integers(vocab))),
    }[what]()
    seed = int(dice.choice([0, -1, 7, 2**63 - 1])) + int(dice.choice([0, 2**64, 3**50]))
    many = int(dice.choice([0, 0, 0, 1, vocab // 2, vocab - 1]))
    forbidden = frozenset(dice.permutation(vocab)[:many].tolist() if dice.random() < 0.97 else range(vocab))
    logprobs = [None, None, 0, 1, 5, vocab, 10**30][dice.integers(7)]
    return Row(index, read, seed, int(dice.integers(1 << 40)), forbidden, logprobs)


def both(logits, rows):
    with np.errstate(all="ignore"):  # of logits that are no numbers
        return readout.read(logits, rows), _native.read(logits, rows)


def close(expected, found):
    return len(expected) == len(found) and np.allclose(expected, found, rtol=1e-12, atol=1e-12, equal_nan=True)


def same(expected, found):
    """Whether two answers are of one kind, with the same tokens and, to 1e-12, the same log-probabilities."""
    if isinstance(expected, LogitsError):
        return type(found) is LogitsError and str(found) == str(expected)
    if isinstance(expected, list):
        tokens = [token for token, _ in found] == [token for token, _ in expected]
        kinds = type(found) is list and all(type(each) is Candidate for each in found)
        return kinds and tokens and close([logprob for _, logprob in expected], [logprob for _, logprob in found])
    known = (expected.logprob is None) == (found.logprob is None)
    likely = expected.logprob is None or (known and close([expected.logprob], [found.logprob]))
    return type(found) is Choice and found.token == expected.token and likely and same([*expected.top], [*found.top])


def test_the_comparison_tells_answers_apart():
    logits = np.array([[1, 4, 4, 0]], np.float32)
    [choice], [candidates] = (
        readout.read(logits, [row]) for row in (Row(0, Score(1), 0, 1, logprobs=3), Row(0, Top(3), 0, 1))
    )
    assert same(choice, choice)
    assert same(candidates, candidates)
    assert not same(choice, Choice(2, choice.logprob, choice.top))
    assert not same(choice, Choice(1, choice.logprob + 1e-10, choice.top))
    assert not same(choice, Choice(1, None, choice.top))
    assert not same(choice, Choice(1, choice.logprob, choice.top[:2]))
    assert not same(candidates, [candidates[1], candidates[0], candidates[2]])  # the wrong one of a tie
    assert not same(candidates, [tuple(each) for each in candidates])
    assert not same(LogitsError("nan"), LogitsError("inf"))


@pytest.mark.parametrize("vocab", [1, 2, 3, 17, 70, 1500])
@pytest.mark.parametrize("kind", ROWS)
def test_any_row_is_read_as_by_the_reference(kind, vocab):
    dice = np.random.default_rng([*kind.encode(), vocab])
    logits = np.array([ROWS[kind](dice, vocab) for _ in range(40)]).astype(np.float32)
    rows = [any_row(dice, vocab, int(dice.integers(len(logits)))) for _ in range(200)]
    for row, expected, found in zip(rows, *both(logits, rows)):
        assert same(expected, found), (row, logits[row.index], expected, found)


@pytest.mark.parametrize("kind", ROWS)
def test_a_large_vocabulary_is_read_as_by_the_reference(kind):
    dice = np.random.default_rng([*kind.encode(), 1])
    logits = np.array([ROWS[kind](dice, 50_000) for _ in range(2)]).astype(np.float32)
    rows = [any_row(dice, 50_000, int(dice.integers(len(logits)))) for _ in range(15)]
    for row, expected, found in zip(rows, *both(logits, rows)):
        assert same(expected, found), row


@pytest.mark.parametrize("transforms", [(TopK(3), MinP(0.5)), (MinP(0.5),), (TopP(0.6),), (TopP(1 - 1e-9),), ()])
@pytest.mark.parametrize("temperature", [None, 0.7])
def test_common_samplers_draw_the_references_tokens(temperature, transforms):
    dice = np.random.default_rng(5)
    logits = dice.normal(0, 3, (1, 4000)).astype(np.float32)
    before = () if temperature is None else (Temperature(temperature),)
    rows = [Row(0, Pick(Sampler((*before, *transforms))), seed, seed % 5) for seed in range(300)]
    expected, found = both(logits, rows)
    assert found == expected
    assert len({choice.token for choice in found}) > 1


@pytest.mark.parametrize("where", [0, 5, 31, 32, 2047, 2048, 4999])
@pytest.mark.parametrize("value", [math.nan, INF, 7.0])
def test_the_first_of_the_best_or_the_first_nan_is_found_anywhere(where, value):
    logits = np.zeros((1, 5000), np.float32)
    logits[0, where:] = value
    row = Row(0, Pick(Sampler(noise=False)), 0, 3)
    assert same(*[replies[0] for replies in both(logits, [row])])
    assert math.isfinite(value) == (_native.read(logits, [row]) == [Choice(where)])


@pytest.mark.parametrize("vocab", [3, 5000])
def test_ties_are_those_of_float64_after_the_transforms(vocab):
    """Next to 1e30 all small logits are one value, so the lowest ids are kept, not the largest logits."""
    logits = np.arange(vocab, dtype=np.float32)[None]
    logits[0, 0] = 1e30
    row = Row(0, Top(2, (Temperature(1e30), TopK(2))), 0, 1)
    expected, found = both(logits, [row])
    assert same(expected[0], found[0])
    assert [token for token, _ in found[0]] == [0, 1] != np.argsort(-logits[0])[:2].tolist()


def test_many_threads_read_at_once():
    dice = np.random.default_rng(11)
    logits = dice.normal(0, 3, (4, 20_000)).astype(np.float32)
    rows = [Row(seed % 4, Pick(Sampler((Temperature(0.9), TopP(0.8)))), seed, 1, logprobs=2) for seed in range(12)]
    with ThreadPoolExecutor(4) as pool:
        for replies in pool.map(lambda _: _native.read(logits, rows), range(8)):
            assert replies == _native.read(logits, rows)


def forged(transform, **wrong):
    """A transform with parameters that its constructor would refuse."""
    for name, value in wrong.items():
        object.__setattr__(transform, name, value)
    return transform


GREEDY = Pick(Sampler(noise=False))


@pytest.mark.parametrize(
    "row",
    [
        Row(-1, GREEDY, 0, 0),
        Row(2, GREEDY, 0, 0),
        Row(10**30, GREEDY, 0, 0),
        Row(0, Score(-1), 0, 0),
        Row(0, Score(9), 0, 0),
        Row(0, Score(-(10**30)), 0, 0),
        Row(0, Top(-1), 0, 0),
        Row(0, GREEDY, 0, 0, logprobs=-1),
        Row(0, GREEDY, 0, 0, frozenset({3, 9})),
        Row(0, GREEDY, 0, 0, frozenset({-1})),
        Row(0, "greedy", 0, 0),
        Row(0, Top(1, ("flat",)), 0, 0),
        Row(0, Top(1, (forged(TopK(1), k=0),)), 0, 0),
        Row(0, Top(1, (forged(TopP(1), p=1.5),)), 0, 0),
        Row(0, Top(1, (forged(MinP(1), p=math.nan),)), 0, 0),
        Row(0, Top(1, (forged(Temperature(1), value=0.0),)), 0, 0),
        Row(0, Top(1, (forged(Temperature(1), value=INF),)), 0, 0),
    ],
    ids=str,
)
def test_what_is_out_of_range_is_refused(row):
    logits = np.zeros((2, 9), np.float32)
    with pytest.raises(ValueError):
        _native.read(logits, [Row(0, GREEDY, 0, 0), row])


@pytest.mark.parametrize("shape", [(), (9,), (1, 1, 9), (1, 0), (0, 9)])
def test_logits_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError):
        _native.read(np.zeros(shape, np.float32), [Row(0, GREEDY, 0, 0)])


@pytest.mark.parametrize(
    "row", [None, 7, Row(0, Score(1.5), 0, 0), Row(0, GREEDY, "seed", 0), SimpleNamespace(index=0)]
)
def test_what_is_no_row_is_refused(row):
    with pytest.raises((TypeError, AttributeError)):
        _native.read(np.zeros((1, 9), np.float32), [row])


def test_no_rows_have_no_answers():
    assert _native.read(np.zeros((0, 9), np.float32), []) == []
