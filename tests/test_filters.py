"""A filter is said once: every list that must know it does, and one that a user adds works on every backend."""

import inspect
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

import nextok as nt
from nextok import _native
from nextok.cli.strategy import StrategyFlags
from nextok.core.query import Pick, Row, Top, pick
from nextok.engine.engine import Engine
from nextok.models.base import Feed
from nextok.models.llama_numpy import LlamaNumpy
from nextok.models.native import NativeModel
from nextok.models.torch import filters as torch_filters
from nextok.models.torch.devices import load_torch
from nextok.models.torch.readout import read as torch_read
from nextok.readout.filters import apply_filter, log_softmax
from nextok.readout.readout import read
from nextok.sampling import edits, transforms
from nextok.sampling.edits import Add, Allow, Edit, Forbid, Scale
from nextok.sampling.sampler import Sampler
from nextok.sampling.transforms import (
    XTC,
    Custom,
    DynamicTemperature,
    EpsilonCutoff,
    EtaCutoff,
    Filter,
    MinP,
    Surprise,
    Temperature,
    TopK,
    TopNSigma,
    TopP,
    TypicalP,
)
from nextok.strategies.settings import settings_of
from test_native import LONG, VOCAB, checkpoint, straight
from toys import asked, by_engine, outcome

DOCS = Path(__file__).parents[1] / "docs"
P = np.array([0.4, 0.3, 0.15, 0.1, 0.05])
LOGITS = np.log(P).astype(np.float32)[None]

EXAMPLES = [  # each filter, and which of the probabilities P it keeps
    (Temperature(0.5), [0, 1, 2, 3, 4]),
    (DynamicTemperature(0.5, 2.0), [0, 1, 2, 3, 4]),
    (TopK(2), [0, 1]),
    (TopP(0.6), [0, 1]),
    (MinP(0.3), [0, 1, 2]),
    (TypicalP(0.3), [1]),  # entropy 1.39 nats, and -log 0.3 is 1.20
    (EpsilonCutoff(0.12), [0, 1, 2]),
    (EtaCutoff(0.12), [0, 1, 2, 3]),  # from sqrt(0.12) * e^-1.39 = 0.086
    (TopNSigma(1.0), [0, 1]),  # 0.73 wide
    (XTC(1.0, 0.2), [1, 2, 3, 4]),
    (Custom(lambda row: np.where(np.arange(5) == 3, row, -np.inf)), [3]),
    (Surprise(2, 5.0, 0.1, 2.0), [0, 1]),  # 1.3 and 1.7 bits
]
LEFT_TO_NUMPY = {"native": {Custom}, "torch": {Custom, Surprise}}
"""The filters that a backend leaves to the reference."""
EDITS = {Allow: Allow(b"\x05"), Forbid: Forbid(frozenset({0})), Add: Add((4,), (9.0,)), Scale: Scale((0,), 5.0)}


def records(module, kind):
    """The transforms that a module defines."""
    classes = [each for each in vars(module).values() if inspect.isclass(each) and each.__module__ == module.__name__]
    return {each for each in classes if issubclass(each, kind) and each is not kind}


FILTERS = records(transforms, Filter)


def test_the_tables_have_every_transform():
    assert {type(each) for each, _ in EXAMPLES} == FILTERS
    assert EDITS.keys() == records(edits, Edit)


@pytest.mark.parametrize(("each", "kept"), EXAMPLES, ids=lambda each: type(each).__name__)
def test_every_filter_keeps_what_it_says(each, kept):
    [found] = read(LOGITS, [Row(0, Top(5, (each,)), 7, 1)])
    assert sorted(token for token, _ in found) == kept


def test_every_filter_has_its_function_in_numpy():
    assert apply_filter.registry.keys() >= FILTERS


def test_every_filter_is_a_setting_with_its_option_and_its_place_in_the_documentation():
    strategies, cli = (DOCS / "strategies.md").read_text(), (DOCS / "cli.md").read_text()
    options = {each.name for each in StrategyFlags.__dataclass_fields__.values()}
    made = {how.record for _, how in settings_of(nt.Sample)}
    assert made >= FILTERS - {Surprise}  # which Mirostat means
    assert nt.Mirostat in made
    for each, how in settings_of(nt.Sample):
        assert f"| `{each.name}=" in strategies
        assert getattr(nt, how.record.__name__) is how.record
        assert (how.option or each.name) in options or each.name == "custom"
        assert f"`--{(how.option or each.name).replace('_', '-')} " in cli or each.name == "custom"


def test_what_the_other_backends_leave_to_the_reference():
    assert {each for each in FILTERS if not _native.knows(each)} == LEFT_TO_NUMPY["native"]
    assert {each for each in FILTERS if each not in torch_filters.KNOWN} == LEFT_TO_NUMPY["torch"]
    assert all(map(_native.knows, EDITS))
    assert EDITS.keys() <= torch_filters.KNOWN


@pytest.mark.parametrize(
    "each", [*(each for each, _ in EXAMPLES), *EDITS.values()], ids=lambda each: type(each).__name__
)
def test_every_backend_gives_the_references_token(each):
    """Those that a backend leaves to the reference, too."""
    if isinstance(each, Custom):
        each = Custom(lambda row: row[::-1])
    rows = [Row(0, Pick(Sampler((Temperature(1.5), each))), seed, 1) for seed in range(40)]
    model = NativeModel(checkpoint("F32"), exact=True)
    scores = model.logits([last_of(model)])
    expected = [choice.token for choice in read(scores, rows)]
    assert [choice.token for choice in model.answer([last_of(model)], rows)] == expected
    assert [choice.token for choice in torch_read(torch.from_numpy(scores), rows)] == expected
    assert len(set(expected)) > 1 or isinstance(each, Surprise | Allow | Add)


def last_of(model):
    """The scores after the last of nine tokens."""
    return Feed.from_run(model.open(), LONG[:9], rows=[8])


# A filter of a user: a record, a line of numpy, and nothing in nextok.


@dataclass(frozen=True, slots=True)
class OwnTopA(Filter):
    """Keeps the tokens at least `a` times as probable as the square of the largest probability."""

    a: float


@apply_filter.register
def keep_top_a(each: OwnTopA, values, row):
    p = np.exp(log_softmax(values))
    return np.where(p >= each.a * p.max() ** 2, values, -np.inf)


class OwnTopAOfLong:
    """A plain object that looks back: the filter above, once the text is long enough."""

    def at(self, past):
        return OwnTopA(0.9) if len(past) > 45 else None


class NarrowTopK(TopK):
    """A record that is a TopK for numpy, which gives it one token less."""

    __slots__ = ()


@apply_filter.register
def keep_one_less(each: NarrowTopK, values, row):
    return apply_filter.dispatch(TopK)(TopK(each.k - 1), values, row)


def by_definition(p, a):
    return [token for token in range(len(p)) if p[token] >= a * max(p) ** 2]


def test_a_filter_of_ones_own_keeps_what_its_definition_says():
    dice = np.random.default_rng(2)
    for _ in range(200):
        logits, a = dice.normal(0, 2, (1, 30)).astype(np.float32), float(dice.uniform(0.01, 1))
        p = np.exp(log_softmax(logits[0].astype(np.float64)))
        [found] = read(logits, [Row(0, Top(30, (OwnTopA(a),)), 0, 1)])
        assert sorted(token for token, _ in found) == by_definition(p.tolist(), a)


@pytest.fixture(scope="module")
def models():
    """The same weights on three backends, in float32."""
    weights = checkpoint("F32")
    return {
        "numpy": LlamaNumpy(weights),
        "native": NativeModel(weights, exact=True),
        "torch": load_torch(weights, "cpu", exact=True, threads=None),
    }


@pytest.mark.parametrize(
    "chain",
    [
        (nt.Temperature(1.3), OwnTopA(0.5)),
        (OwnTopA(0.3), nt.TopK(20), nt.RepetitionPenalty(1.2)),
        (nt.Temperature(1.3), OwnTopAOfLong(), nt.MinP(0.01)),
        (nt.Temperature(1.3), NarrowTopK(3), nt.Mirostat(2, 3.0)),
    ],
    ids=lambda chain: "-".join(type(each).__name__ for each in chain),
)
def test_a_filter_of_ones_own_gives_the_same_text_on_every_backend(models, chain):
    texts = {}
    for name, model in models.items():
        request = asked(LONG[:40], seed=5, max_tokens=30, stop_ids=frozenset())
        by_engine(nt.Chain(chain), request, model)
        guessed = asked(LONG[:40], seed=5, max_tokens=30, stop_ids=frozenset())
        by_engine(nt.Speculate(nt.PromptLookup(shortest=1), nt.Chain(chain)), guessed, model)
        assert outcome(guessed) == outcome(request)
        texts[name] = request.tokens
    assert texts["numpy"] == texts["native"] == texts["torch"]
    plain = asked(LONG[:40], seed=5, max_tokens=30, stop_ids=frozenset())
    by_engine(nt.Chain((nt.Temperature(1.3),)), plain, models["native"])
    assert plain.tokens != texts["native"]  # the filter does something


def test_a_subclass_is_read_by_its_own_function(models):
    """Also where a backend knows the class above it."""
    row = Row(8, Top(VOCAB, (NarrowTopK(3),)), 0, 9)
    [found] = models["native"].answer([straight(models["native"], LONG[:9])], [row])
    assert len(found) == 2
    assert len(torch_read(torch.from_numpy(LOGITS), [Row(0, Top(5, (NarrowTopK(3),)), 0, 9)])[0]) == 2


@dataclass(frozen=True)
class Careless:
    """A strategy that hands on what is no transform."""

    transform: object

    def decode(self, request):
        while not request.finish_reason:
            picked = yield from pick([request.tip], Sampler((TopK(5), self.transform)))
            yield from request.commit(picked.values())


class MeansNothing:
    """Looks back, and finds what is no transform."""

    def at(self, past):
        return 0.7


class Unregistered(Filter):
    """A record without a function."""

    __slots__ = ()


def refuse(row):
    raise ValueError("not today")


@pytest.mark.parametrize(
    ("transform", "says"),
    [
        (
            "flat",
            "'flat' is not a transform: a transform is a record of nextok.sampling.transforms or has `at(past)`",
        ),
        (TopK, "<class 'nextok.sampling.transforms.TopK'> is not a transform: a transform is a record"),
        (MeansNothing(), "0.7 is not a transform: a transform is a record"),
        (Unregistered(), "has no function in numpy: register one with nextok.readout.filters.apply_filter.register"),
        (Custom(refuse), "not today"),
    ],
    ids=["a text", "a class", "a number in the end", "no function", "a function that fails"],
)
@pytest.mark.parametrize("backend", ["numpy", "native", "torch"])
def test_what_is_no_transform_is_named_and_ends_its_own_request_alone(models, backend, transform, says):
    engine, target = Engine(models[backend]), models[backend]
    requests = [asked(LONG[:10], seed=seed, max_tokens=6, stop_ids=frozenset()) for seed in range(3)]
    for request, strategy in zip(requests, (nt.Sample(), Careless(transform), nt.Greedy())):
        engine.submit(request, strategy, lambda event: None)
    engine.run()
    assert [request.finish_reason for request in requests] == ["length", "error", "length"]
    assert isinstance(requests[1].error, ValueError)
    assert says in str(requests[1].error)
    assert engine.passes == 6  # no pass was made twice
    alone = asked(LONG[:10], seed=0, max_tokens=6, stop_ids=frozenset())
    by_engine(nt.Sample(), alone, target)
    assert alone.tokens == requests[0].tokens


def test_public_names_stand_in_one_place():
    """What type checkers read is what the module gives."""
    lines = Path(nt.__file__).read_text().splitlines()
    named = {line.split()[-1] for line in lines if line.startswith("    from nextok.") and " as " in line}
    records = {each.__name__ for each in FILTERS}  # a new one works without a line for type checkers
    assert set(nt.__all__) - records <= named <= set(nt.__all__)
