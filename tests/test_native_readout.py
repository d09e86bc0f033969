"""The readout of the native core: the reference's tokens, and its log-probabilities to 1e-12."""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from nextok import _native
from nextok.core.query import Candidate, Choice, Draws, Pick, Row, Score, Top
from nextok.errors import DeadEndError, LogitsError
from nextok.readout import readout
from nextok.sampling.edits import Add, Allow, Forbid, Scale
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


def some_tokens(dice, vocab):
    many = int(dice.choice([0, 1, vocab // 2, vocab - 1, vocab], p=[0.1, 0.4, 0.3, 0.15, 0.05]))
    return dice.permutation(vocab)[:many].tolist()


def some_bits(dice, vocab):
    """A mask that is dense, sparse, too short or too long."""
    bits = dice.random(int(dice.choice([vocab, vocab // 2, vocab + 20]))) < dice.choice([0.02, 0.5, 0.99])
    return np.packbits(bits, bitorder="little").tobytes()


def adding(dice, vocab):
    tokens = some_tokens(dice, vocab)
    size = dice.choice([1.0, 100.0, 1e30, 3e38], p=[0.6, 0.3, 0.05, 0.05])
    return Add(tuple(tokens), tuple((dice.uniform(-1, 1, len(tokens)) * size).tolist()))


def probability(dice, *others):
    """Any, but none that is a round share of equal tokens: where the crossing token is a matter of the last bit."""
    return float(dice.choice([1e-12, 0.3003, 0.9007, 1 - 1e-9, 1.0, dice.uniform(0.01, 1), *others]))


EDITS = [
    lambda dice, vocab: Allow(some_bits(dice, vocab)),
    lambda dice, vocab: Forbid(frozenset(some_tokens(dice, vocab))),
    adding,
    lambda dice, vocab: Scale(tuple(some_tokens(dice, vocab)), float(dice.choice([1.0, 1.3, 0.5, 1e-3, 1e6]))),
]
FILTERS = [
    lambda dice, vocab: Temperature(
        float(dice.choice([1.0, 0.3, 2.0, 1e-3, 1e3, 1e-300, 1e300, dice.uniform(0.1, 3)]))
    ),
    lambda dice, vocab: TopK(int(dice.choice([1, 2, 5, 40, 300, max(1, vocab - 1), vocab, vocab + 1]))),
    lambda dice, vocab: TopK(10**30),
    lambda dice, vocab: TopP(probability(dice)),
    lambda dice, vocab: MinP(float(dice.choice([0.0, 1e-300, 0.05, 1.0, dice.random()]))),
    lambda dice, vocab: DynamicTemperature(
        float(dice.uniform(0.1, 1)), float(dice.uniform(1, 3)), float(dice.choice([0, 1, 2]))
    ),
    lambda dice, vocab: TypicalP(probability(dice)),
    lambda dice, vocab: EpsilonCutoff(probability(dice, 0.0, 3e-4, 1.5e-3)),
    lambda dice, vocab: EtaCutoff(0.999 * probability(dice, 0.0, 3e-4, 1.5e-3)),  # at 1 equal tokens are on the edge
    lambda dice, vocab: TopNSigma(float(dice.choice([0.0, 1.0, 2.5, 1e9, dice.uniform(0, 4)]))),
    lambda dice, vocab: XTC(float(dice.choice([0.0, 0.5, 1.0])), float(dice.choice([0.0, 0.0101, 0.1003, 0.4003]))),
    lambda dice, vocab: Surprise(
        int(dice.integers(1, 3)), float(dice.uniform(0, 6)), 0.1, float(dice.integers(9)) - 0.3
    ),
]


def any_transforms(dice, vocab):
    """In any order: what works on float32 may stand anywhere."""
    count = dice.choice([0, 1, 1, 2, 3, 6])
    kinds = [EDITS if dice.random() < 0.25 else FILTERS for _ in range(count)]
    return tuple(kind[dice.integers(len(kind))](dice, vocab) for kind in kinds)


def any_row(dice, vocab, index):
    transforms = any_transforms(dice, vocab)
    count = int(dice.choice([0, 1, 4, 70, vocab, vocab + 3], p=[0.1, 0.3, 0.3, 0.2, 0.05, 0.05]))
    what = dice.choice(["best", "draw", "draw", "top", "draws", "score"])
    read = {
        "best": lambda: Pick(Sampler(transforms, noise=False)),
        "draw": lambda: Pick(Sampler(transforms)),
        "top": lambda: Top(count, transforms),
        "draws": lambda: Draws(count, transforms),
        "score": lambda: Score(int(dice.integers(vocab)), transforms),
    }[what]()
    seed = int(dice.choice([0, -1, 7, 2**63 - 1])) + int(dice.choice([0, 2**64, 3**50]))
    logprobs = [None, 0, 1, 5, vocab, 10**30][dice.choice(6, p=[0.4, 0.1, 0.2, 0.2, 0.05, 0.05])]
    return Row(index, read, seed, int(dice.integers(1 << 40)), logprobs)


def both(logits, rows):
    """What the reference and the core answer."""
    with np.errstate(all="ignore"):  # of logits that are no numbers
        return readout.read(logits, rows), _native.read(logits, rows)


def near(expected, found):
    if expected is None or found is None:
        return expected is found
    return expected == found or abs(expected - found) <= 1e-12 * (1 + abs(expected))


def close(expected, found):
    return len(expected) == len(found) and all(map(near, expected, found))


NUMBERS = ("logprob", "processed", "surprise")
"""What a Choice says of its token."""


def same(expected, found):
    """Whether two answers are of one kind, with the same tokens and, to 1e-12, the same log-probabilities."""
    if type(expected) is not type(found):
        return False
    if isinstance(expected, Exception):
        return str(found) == str(expected)
    if isinstance(expected, list | tuple):
        kinds = [type(each) for each in expected] == [type(each) for each in found]
        tokens = [each[0] for each in expected] == [each[0] for each in found]
        return kinds and tokens and all(close(one[1:], other[1:]) for one, other in zip(expected, found))
    likely = all(near(getattr(expected, name), getattr(found, name)) for name in NUMBERS)
    tops = same(expected.top, found.top) and same(expected.processed_top, found.processed_top)
    return found.token == expected.token and likely and tops


def test_the_comparison_tells_answers_apart():
    logits = np.array([[1, 4, 4, 0]], np.float32)
    reads = Score(1, (Temperature(2.0), Surprise(2, 5.0, 0.1, 9.0))), Top(3), Draws(3)
    choice, candidates, drawn = readout.read(logits, [Row(0, read, 0, 1, logprobs=3) for read in reads])
    assert same(choice, replace(choice))
    assert same(candidates, list(candidates))
    assert same(drawn, list(drawn))
    assert not same(choice, replace(choice, token=2))
    for name in NUMBERS:
        assert not same(choice, replace(choice, **{name: getattr(choice, name) + 1e-10}))
        assert not same(choice, replace(choice, **{name: None}))
    assert not same(choice, replace(choice, top=choice.top[:2]))
    assert not same(choice, replace(choice, processed_top=choice.top))
    assert not same(drawn, [each._replace(perturbed=each.perturbed + 1e-10) for each in drawn])
    assert not same(drawn, [Candidate(*each[:2]) for each in drawn])
    assert not same(candidates, [candidates[1], candidates[0], candidates[2]])  # the wrong one of a tie
    assert not same(candidates, [tuple(each) for each in candidates])
    assert not same(candidates, candidates[:2])
    assert not same(LogitsError("nan"), LogitsError("inf"))
    assert not same(LogitsError("nan"), DeadEndError("nan"))


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


@pytest.mark.parametrize(
    ("transforms", "left"),
    [
        ((Allow(b""),), []),
        ((Allow(b""), Temperature(0.5), Scale((1,), 2.0)), []),
        ((Allow(b"\x06"),), [2, 1]),  # tokens 8 and 9 have no bit
        ((XTC(1.0, 0.0),), [0]),
        ((TopK(3), XTC(1.0, 0.0), Temperature(0.5), TopP(0.1)), [2]),
        ((Add((2, 4), (9.0, 9.0)), TopK(2)), [2, 3]),  # token 4 was removed before
        ((Scale((3,), 1e-39), Temperature(2.0), Forbid(frozenset({3})), TopK(1)), [9]),  # what was infinite is gone
        (
            (TypicalP(1e-12), EpsilonCutoff(1.0), EtaCutoff(1.0), TopNSigma(0.0)),
            [9],
        ),  # of mass 0.28, and e^-entropy is 0.27
    ],
    ids=str,
)
def test_the_edges_of_transforms(transforms, left):
    logits = np.array([[0, 1, 2, 3, -INF, -INF, -INF, -INF, -INF, 2.5]], np.float32)
    for found in both(logits, [Row(0, Top(9, transforms), 0, 1)]):
        assert [token for token, _ in found[0]] == left


@pytest.mark.parametrize("after", [(), (Temperature(2.0), TopP(0.5)), (Custom(np.sin),)], ids=str)
def test_a_transform_that_makes_an_infinity_fails_its_row(after):
    logits = np.ones((1, 4), np.float32)
    row = Row(0, Pick(Sampler((Scale((1,), 1e-39), *after))), 0, 5)
    with np.errstate(all="ignore"):
        [expected] = readout.read(logits, [row])
    assert str(expected) == str(readout.unreadable(5, INF))
    if not any(isinstance(each, Custom) for each in after):
        assert same(expected, _native.read(logits, [row])[0])


@pytest.mark.parametrize("each", [TopP(0.3), TopP(0.97), TypicalP(0.3), TypicalP(0.97)], ids=str)
@pytest.mark.parametrize("width", [0.01, 1.0, 3.0])
def test_a_set_of_many_tokens_is_the_references(width, each):
    """Too many for a sort, so that the core sums up parts first; twice in a row, and among few that are left."""
    dice = np.random.default_rng(13)
    logits = dice.normal(0, width, (1, 20_000)).astype(np.float32)
    for before in ((), (Temperature(1.5),), (TopK(9000), Temperature(2.0)), (TypicalP(0.9), TopP(0.9))):
        [expected], [found] = both(logits, [Row(0, Top(20_000, (*before, each)), 0, 1)])
        assert same(expected, found)
        assert len(found) > (200 if width < 3 else 0)


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
        Row(0, "greedy", 0, 0),
        Row(2, GREEDY, 0, 0),
        Row(10**30, GREEDY, 0, 0),
        Row(0, Score(-1), 0, 0),
        Row(0, Score(9), 0, 0),
        Row(0, Score(-(10**30)), 0, 0),
        Row(0, Top(-1), 0, 0),
        Row(0, GREEDY, 0, 0, logprobs=-1),
        Row(0, Draws(-1), 0, 0),
        Row(0, Score(9, (Temperature(2.0),)), 0, 0),
        *(
            Row(0, Top(1, (transform,)), 0, 0)
            for transform in [
                "flat",
                Forbid(frozenset({3, 9})),
                Forbid(frozenset({-1})),
                Add((9,), (1.0,)),
                Add((-1,), (1.0,)),
                Add((1, 2), (1.0,)),
                Add((1,), (1.0, 2.0)),
                Scale((9,), 2.0),
                Scale((-1,), 2.0),
                Custom(lambda row: row),
                forged(DynamicTemperature(1, 2), low=0.0),
                forged(DynamicTemperature(1, 2), high=0.5),
                forged(DynamicTemperature(1, 2), exponent=math.nan),
                forged(TypicalP(1), p=0.0),
                forged(EpsilonCutoff(1), epsilon=1.5),
                forged(EtaCutoff(1), epsilon=-0.5),
                forged(TopNSigma(1), n=-1.0),
                forged(XTC(1), probability=1.5),
                forged(XTC(1), threshold=math.nan),
                Surprise(3, 5.0, 0.1, 10.0),
            ]
        ),
        Row(1, GREEDY, 0, 0, after=(0, 0)),
        Row(0, Top(1, (forged(TopK(1), k=0),)), 0, 0),
        Row(0, Top(1, (forged(TopP(1), p=1.5),)), 0, 0),
        Row(0, Top(1, (forged(TopP(1), p=0.0),)), 0, 0),
        Row(0, Top(1, (forged(MinP(1), p=math.nan),)), 0, 0),
        Row(0, Top(1, (forged(Temperature(1), value=0.0),)), 0, 0),
        Row(0, Top(1, (forged(Temperature(1), value=INF),)), 0, 0),
    ],
    ids=lambda row: f"{row.read}".split(" at 0x")[0][:70],  # an address would give each process its own names
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
