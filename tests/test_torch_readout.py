"""The readout in torch: the reference's tokens, its log-probabilities to 1e-12, and one copy to the host."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from nextok.core.query import Candidate, Choice, Draws, Pick, Row, Score, Top
from nextok.errors import DeadEndError, LogitsError
from nextok.models.torch import filters, noise, passes
from nextok.models.torch.readout import read
from nextok.readout import noise as reference_noise
from nextok.readout import readout
from nextok.sampling.edits import Add, Allow, Forbid, Scale
from nextok.sampling.sampler import Sampler
from nextok.sampling.transforms import (
    XTC,
    Custom,
    MinP,
    Surprise,
    Temperature,
    TopK,
    TopNSigma,
    TopP,
    TypicalP,
)
from test_native_readout import EDITS, FILTERS, ROWS, any_row, same

INF = math.inf
GREEDY = Pick(Sampler(noise=False))
COMMON = Pick(Sampler((Temperature(0.8), TopK(5), TopP(0.9), MinP(0.02))))
DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


@pytest.fixture(params=DEVICES)
def device(request):
    return request.param


def both(logits, rows, device):
    """What the reference and torch answer to float32 logits."""
    with np.errstate(all="ignore"):  # of logits that are no numbers
        return readout.read(logits, rows), read(torch.from_numpy(logits).to(device), rows)


def differences(logits, rows, device):
    """Every row that torch answers otherwise than the reference, with both answers."""
    found = zip(rows, *both(logits, rows, device), strict=True)
    return [(row, logits[row.index], one, other) for row, one, other in found if not same(one, other)]


def block(kind, dice, count, vocab):
    return np.array([ROWS[kind](dice, vocab) for _ in range(count)]).astype(np.float32)


def reading(transforms, dice, vocab, index):
    """A row that is read in any way after these transforms."""
    row = any_row(dice, vocab, index)
    return replace(row, read=row.read.after(tuple(transforms)))


@pytest.mark.parametrize("vocab", [1, 2, 98, 1000])  # 97 rising values deviate by 28 steps: on the edge
@pytest.mark.parametrize("kind", ROWS)
def test_any_row_is_read_as_by_the_reference(kind, vocab, device):
    """Passes of 1 to 40 rows, of which some are read often and some not at all, in every way and order."""
    dice = np.random.default_rng([*kind.encode(), vocab, 5])
    for count in [1, 2, int(dice.integers(3, 40)), 40]:
        logits = block(kind, dice, count, vocab)
        rows = [any_row(dice, vocab, int(dice.integers(count))) for _ in range(2 * count)]
        assert not differences(logits, rows, device)


@pytest.mark.parametrize(
    "make", [*EDITS, *FILTERS], ids=lambda make: type(make(np.random.default_rng(0), 9)).__name__
)
def test_each_transform_alone_and_before_and_after_another(make, device):
    """Each row of a block with parameters of its own: 600 rows for each transform."""
    dice = np.random.default_rng(17)
    for kind in ("normal", "ties", "infinities", "unreadable"):
        logits = block(kind, dice, 20, 97)
        for before, after in [((), ()), ((Scale((3,), 1.5),), (TopK(9),)), ((TopK(7),), (Forbid(frozenset({1})),))]:
            rows = [reading((*before, make(dice, 97), *after), dice, 97, index) for index in range(20)]
            assert not differences(logits, rows + rows[:5], device)


@pytest.mark.parametrize("kind", ["normal", "ties", "rising"])
def test_a_large_vocabulary_is_read_as_by_the_reference(kind, device):
    dice = np.random.default_rng([*kind.encode(), 2])
    rows = [any_row(dice, 50_000, int(dice.integers(2))) for _ in range(15)]
    assert not differences(block(kind, dice, 2, 50_000), rows, device)


@pytest.mark.parametrize("transforms", [(TopK(3), MinP(0.5)), (MinP(0.5),), (TopP(0.6),), (TopP(1 - 1e-9),), ()])
def test_common_samplers_draw_the_references_tokens(transforms, device):
    logits = np.random.default_rng(5).normal(0, 3, (1, 4000)).astype(np.float32)
    rows = [Row(0, Pick(Sampler((Temperature(0.7), *transforms))), seed, seed % 5) for seed in range(200)]
    expected, found = both(logits, rows, device)
    assert found == expected
    assert len({choice.token for choice in found}) > 1


@pytest.mark.parametrize("narrow", [torch.bfloat16, torch.float16])
def test_narrow_logits_are_read_as_float32(narrow, device):
    """Of few bits, so with many ties."""
    dice = np.random.default_rng(8)
    logits = torch.from_numpy(dice.normal(0, 3, (20, 500))).to(narrow)
    rows = [any_row(dice, 500, int(dice.integers(20))) for _ in range(100)]
    rows += [Row(index, GREEDY, 0, 1) for index in range(20)]
    expected, found = readout.read(logits.float().numpy(), rows), read(logits.to(device), rows)
    assert [row for row, one, other in zip(rows, expected, found, strict=True) if not same(one, other)] == []


# Ties, edges and errors by hand: what the reference does is not asked.


def tokens(found):
    return [each.token for each in found]


def test_ties_go_to_the_lowest_ids(device):
    logits = torch.tensor([[1, 3, 2, 3, 2, 2, 3, 0]], dtype=torch.float32, device=device)
    for count, kept in [(1, [1]), (2, [1, 3]), (3, [1, 3, 6]), (4, [1, 3, 6, 2]), (5, [1, 3, 6, 2, 4])]:
        by_filter, by_count = read(logits, [Row(0, Top(8, (TopK(count),)), 0, 1), Row(0, Top(count), 0, 1)])
        assert tokens(by_filter) == tokens(by_count) == kept
    [choice] = read(logits, [Row(0, GREEDY, 0, 1, logprobs=2)])
    assert choice.token == 1
    assert tokens(choice.top) == tokens(choice.processed_top) == [1, 3]
    assert read(torch.zeros(3, 70_000, device=device), [Row(2, GREEDY, 0, 1)]) == [Choice(0)]
    assert tokens(read(torch.zeros(1, 70_000, device=device), [Row(0, Top(300), 0, 1)])[0]) == list(range(300))


@pytest.mark.parametrize(
    ("transforms", "left"),
    [
        ((Allow(b""),), []),
        ((Allow(b""), Temperature(0.5), Scale((1,), 2.0)), []),
        ((Allow(b"\x06"),), [2, 1]),  # tokens 8 and 9 have no bit
        ((Allow(b"\x06\xff\xff\xff"),), [9, 2, 1]),  # bits of tokens that are not there
        ((XTC(1.0, 0.0),), [0]),
        ((XTC(0.0, 0.0), TopK(1)), [3]),
        ((TopK(3), XTC(1.0, 0.0), Temperature(0.5), TopP(0.1)), [2]),
        ((Add((2, 4), (9.0, 9.0)), TopK(2)), [2, 3]),  # token 4 was removed before
        ((Scale((3,), 1e-39), Temperature(2.0), Forbid(frozenset({3})), TopK(1)), [9]),  # what was infinite is gone
        ((Scale((3,), 1e-39), TopK(1), Forbid(frozenset({3})), TopK(2)), [9, 2]),  # TopK waited for it
        ((TopP(0.46), TopK(40)), [3]),  # of mass 0.463
        ((TopP(0.47), TopK(40)), [3, 9]),  # the crossing token is kept
        ((TypicalP(1e-12),), [9]),  # of mass 0.28, and e^-entropy is 0.27
        ((TopNSigma(0.0),), [3]),
        ((MinP(0.3),), [3, 9, 2]),  # e^-1 of the best is enough, e^-2 is not
    ],
    ids=str,
)
def test_the_edges_of_transforms(transforms, left, device):
    logits = torch.tensor([[0, 1, 2, 3, -INF, -INF, -INF, -INF, -INF, 2.5]], device=device)
    assert tokens(read(logits, [Row(0, Top(9, transforms), 0, 1)])[0]) == left


def test_next_to_a_huge_logit_ties_are_those_of_float64(device):
    logits = torch.arange(5000, dtype=torch.float32, device=device)[None].clone()
    logits[0, 0] = 1e30
    assert tokens(read(logits, [Row(0, Top(2, (Temperature(1e30), TopK(2))), 0, 1)])[0]) == [0, 1]


BAD = {"nan": [0, math.nan, INF], "inf": [INF, 1, 2], "-inf": [-INF, -INF, -INF]}


@pytest.mark.parametrize(
    "read_as", [GREEDY, COMMON, Top(2), Draws(2), Score(1), COMMON.after((Forbid({0}), TopK(2)))]
)
@pytest.mark.parametrize("logprobs", [None, 2])
def test_a_row_that_cannot_be_read_disturbs_no_other(read_as, logprobs, device):
    logits = torch.tensor([[1, 2, 3], *BAD.values(), [3, 1, 2]], dtype=torch.float32, device=device)
    rows = [Row(index, read_as, 7, 11 + index, logprobs) for index in range(5)]
    first, *failed, last = read(logits, rows)
    assert [str(error) for error in failed] == [
        str(readout.unreadable(12 + place, float(best))) for place, best in enumerate(BAD)
    ]
    assert all(isinstance(error, LogitsError) for error in failed)
    assert [first, last] == read(logits, [rows[0], rows[4]])


@pytest.mark.parametrize("after", [(), (Temperature(2.0), TopP(0.5)), (Custom(np.sin),)], ids=str)
def test_a_transform_that_makes_an_infinity_fails_its_row(after, device):
    row = Row(0, Pick(Sampler((Scale((1,), 1e-39), *after))), 0, 5)
    [error, choice] = read(torch.ones(1, 4, device=device), [row, Row(0, GREEDY, 0, 1)])
    assert str(error) == str(readout.unreadable(5, INF))
    assert choice == Choice(0)


def test_nothing_left_is_a_dead_end_for_a_pick_alone(device):
    nothing = (Forbid(frozenset(range(4))), TopK(2))
    reads = [Pick(Sampler(nothing)), Top(3, nothing), Draws(3, nothing), Score(2, nothing)]
    dead, top, drawn, scored = read(torch.zeros(1, 4, device=device), [Row(0, each, 0, 6, 2) for each in reads])
    assert isinstance(dead, DeadEndError)
    assert str(dead) == str(readout.dead_end(6))
    assert top == drawn == []
    assert scored.processed == -INF
    assert scored.processed_top == ()
    assert scored.logprob == scored.top[1].logprob == pytest.approx(-math.log(4))


def test_what_the_reference_alone_knows_is_read_by_it_in_between(device):
    def refuse(row):
        raise RuntimeError("not today")

    logits = torch.tensor([[0, 1, 2], [5, 1, 0]], dtype=torch.float32, device=device)
    rows = [
        Row(0, Pick(Sampler((Custom(lambda row: -row),), noise=False)), 0, 1),
        Row(1, GREEDY, 0, 1),
        Row(1, Pick(Sampler((TopK(1), Surprise(2, 5.0, 0.1, 10.0)))), 0, 1),
        Row(0, Pick(Sampler((Custom(refuse),))), 0, 1),
        Row(1, Top(1, (TopK(2),)), 0, 1),
    ]
    first, second, third, fourth, fifth = read(logits, rows)
    assert (first, second, third) == (Choice(0), Choice(0), Choice(0, surprise=0.0))
    assert str(fourth) == "not today"
    assert fifth == [Candidate(0, pytest.approx(-math.log(1 + math.exp(-4))))]


def bits_of_each(answer):
    """The tokens that an answer tells of, with their surprise in bits."""
    if isinstance(answer, Choice):
        return {answer.token: answer.surprise}
    return {each.token: -each.logprob / math.log(2) for each in answer}


def chain_of_mirostat(dice, count, vocab, custom):
    """Rows of a draft of `count` tokens, each after the one before; most guesses are what is drawn there."""
    own = (Custom(lambda row: row * 1.1),) if custom else ()
    transforms = (Temperature(1.2), *own, Surprise(int(dice.integers(1, 3)), 2.0, 0.7, 4.0))
    logits = dice.normal(0, 2, (count, vocab)).astype(np.float32)
    reads = [Pick(Sampler(transforms)), Top(4, transforms), Draws(4, transforms)]
    rows = [Row(0, reads[0], 7, 1)]
    for index in range(1, count):
        drawn = list(bits_of_each(readout.read(logits, rows)[-1]))
        guess = int(dice.choice(drawn) if dice.random() < 0.7 else dice.integers(vocab))
        rows.append(Row(index, reads[dice.integers(3)], 7, 1 + index, after=(index - 1, guess)))
    return logits, rows


@pytest.mark.parametrize("custom", [False, True])
def test_mirostat_learns_within_a_pass_as_in_passes_of_one_row(custom, device):
    """Mu of a row is that which the answers before it leave; 2 tau where the guess was another token."""
    dice, differ = np.random.default_rng(3), 0
    for _ in range(60):
        logits, rows = chain_of_mirostat(dice, 6, 40, custom)
        expected, found = both(logits, rows, device)
        assert all(map(same, expected, found))
        mu, one_by_one = 4.0, []
        for row in rows:
            if row.after:
                bits = bits_of_each(one_by_one[-1]).get(row.after[1])
                mu = 4.0 if bits is None else mu - 0.7 * (bits - 2.0)
            with_mu = [replace(each, mu=mu) if isinstance(each, Surprise) else each for each in row.read.transforms]
            one_by_one += readout.read(logits, [replace(row, read=row.read.after(tuple(with_mu)), after=None)])
        assert all(map(same, one_by_one, found))
        unaware = readout.read(logits, [replace(row, after=None) for row in rows])
        differ += not all(map(same, unaware, found))
    assert differ > 30  # the control: without what the rows before have chosen, the answers are others


@pytest.mark.parametrize("index", [-1, 2, 10**30])
def test_a_row_beyond_the_pass_is_refused(index, device):
    with pytest.raises(ValueError, match="counts the 2 rows"):
        read(torch.zeros(2, 9, device=device), [Row(0, GREEDY, 0, 0), Row(index, GREEDY, 0, 0)])


@pytest.mark.parametrize("token", [-1, 9])
def test_a_token_beyond_the_vocabulary_is_refused(token, device):
    edits = Forbid(frozenset({3, token})), Add((token,), (1.0,)), Scale((2, token), 2.0)
    for read_as in [Score(token), *(Top(1, (edit,)) for edit in edits)]:
        with pytest.raises(ValueError, match=f"token {token} is none"):
            read(torch.zeros(2, 9, device=device), [Row(0, read_as, 0, 0)])


def test_no_rows_have_no_answers(device):
    assert read(torch.zeros(0, 9, device=device), []) == []


def test_the_logits_stay_as_they_are_and_may_come_from_training_or_from_a_wider_row(device):
    dice = np.random.default_rng(3)
    wide = torch.from_numpy(dice.normal(0, 3, (4, 120)).astype(np.float32)).to(device).requires_grad_()
    logits, rows = wide[:, :97], [any_row(dice, 97, int(dice.integers(4))) for _ in range(80)]
    before = logits.detach().clone()
    expected = readout.read(before.cpu().numpy(), rows)
    assert all(map(same, expected, read(logits, rows)))
    assert torch.equal(logits.detach(), before)


def test_the_noise_is_the_references_bit_for_bit(device):
    seeds, ids = [0, 1, 7, 2**63, 2**64 - 1, 3**50], np.arange(-1, 5000)
    keys = np.array([reference_noise.key(seed, 12) for seed in seeds], np.uint64).view(np.int64)
    found = noise.draw_uniform(torch.from_numpy(keys).to(device)[:, None], torch.from_numpy(ids).to(device))
    assert np.array_equal(found.cpu().numpy(), [reference_noise.uniform(seed, 12, ids) for seed in seeds])


# What the device is asked to do, on a pretended GPU where there is none: its tensors have shapes and no values.


class Watched(TorchDispatchMode):
    """Counts the copies between devices, and notes whatever makes the host wait for a value.

    Also what is sent without waiting from memory that may be in other use before the copy is made: not pinned.
    """

    def __init__(self):
        super().__init__()
        self.copies, self.waits, self.pinned, self.hasty = Counter(), [], [], 0

    def __enter__(self):
        self._pin_memory = torch.Tensor.pin_memory
        torch.Tensor.pin_memory = lambda tensor: self.pinned.append(tensor) or tensor  # there is no driver to do it
        return super().__enter__()

    def __exit__(self, *found):
        torch.Tensor.pin_memory = self._pin_memory
        return super().__exit__(*found)

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        answer = operation(*arguments, **(options or {}))
        name = operation.overloadpacket.__name__
        if name in ("_to_copy", "copy_"):
            to, source = (answer, arguments[0]) if name == "_to_copy" else arguments[:2]
            if to.device.type != source.device.type:
                free = bool((options or {}).get("non_blocking"))
                self.copies[source.device.type, to.device.type, free] += 1
                self.hasty += free and source.device.type == "cpu" and not any(source is each for each in self.pinned)
        if name in (
            "_local_scalar_dense",
            "nonzero",
            "masked_select",
            "equal",
            "is_nonzero",
            "unique_dim",
            "_unique2",
        ):
            self.waits.append(name)
        return answer


def watched(rows, monkeypatch, count=8, vocab=500):
    """What `read` does for rows on a GPU, as (copies from there, copies to there that are waited for, waits)."""
    with monkeypatch.context() as patch, FakeTensorMode(allow_non_fake_inputs=True), Watched() as device:
        patch.setattr(torch.Tensor, "numpy", lambda tensor: np.zeros(tensor.shape, np.int64))
        answers = read(torch.empty(count, vocab, device="cuda"), rows)
    assert len(answers) == len(rows)
    assert not device.hasty
    waited = sum(times for (source, _, free), times in device.copies.items() if source == "cpu" and not free)
    return sum(times for (source, _, _), times in device.copies.items() if source == "cuda"), waited, device.waits


SAMPLERS = (), (TopK(5),), (TopP(0.9),), (MinP(0.1),), COMMON.transforms, (Forbid({3}), Add((1,), (2.0,)), TopK(5))
READS = [make(chain) for chain in SAMPLERS for make in (lambda chain: Top(4, chain), lambda chain: Draws(4, chain))]
READS += [Pick(Sampler(chain, noisy)) for chain in SAMPLERS for noisy in (False, True)] + [
    Score(3, COMMON.transforms)
]


def test_what_is_sent_without_waiting_lies_in_pinned_memory(monkeypatch):
    """Negative control: the copies of the readout, from where numpy put the numbers."""
    monkeypatch.setattr(passes, "pin_memory", lambda numbers, device: numbers)
    with pytest.raises(AssertionError, match="hasty"):
        watched([Row(0, Top(4, (TopK(5),)), 0, 1)], monkeypatch)


@pytest.mark.parametrize("logprobs", [None, 3])
@pytest.mark.parametrize("read_as", READS, ids=str)
def test_a_pass_comes_home_in_one_copy_and_waits_for_nothing(read_as, logprobs, monkeypatch):
    rows = [Row(index, read_as, index, 1, logprobs) for index in range(8)]
    assert watched(rows, monkeypatch) == (1, 0, [])


def test_a_pass_of_all_kinds_comes_home_in_one_copy(monkeypatch):
    dice = np.random.default_rng(4)
    rows = [any_row(dice, 500, int(dice.integers(8))) for _ in range(300)]
    rows.append(Row(3, Pick(Sampler((Custom(np.sin),))), 0, 1))
    assert {type(each).__name__ for row in rows for each in row.read.transforms} >= {
        *(type(make(dice, 500)).__name__ for make in [*EDITS, *FILTERS]),
        "Custom",
    }
    assert watched(rows, monkeypatch) == (1, 0, [])


@pytest.mark.parametrize("rows", [1, 8])
def test_the_greedy_path_is_short(rows, monkeypatch):
    """The largest score of each row, once over the logits; then what is as small as the answer."""
    operations = []

    class Sized(TorchDispatchMode):
        def __torch_dispatch__(self, operation, types, arguments=(), options=None):
            tensors = [each for each in arguments if isinstance(each, torch.Tensor)]
            operations.append(max((each.numel() for each in tensors), default=0))
            return operation(*arguments, **(options or {}))

    with Sized():
        read(torch.zeros(rows, 500), [Row(index, GREEDY, 0, 1) for index in range(rows)])
    assert sum(size >= rows * 500 for size in operations) <= 3  # made, detached, and read
    assert len(operations) < 15


# Negative controls: what the tests above must see.


def test_the_watch_sees_a_second_copy_and_a_wait(monkeypatch):
    rows = [Row(0, Top(2, (MinP(0.2),)), 0, 1)]
    assert watched(rows, monkeypatch) == (1, 0, [])
    slow = {
        "a second copy": lambda values, p: values + 0 * p.cpu().pin_memory().to(p.device, non_blocking=True),
        "a copy that is waited for": lambda values, p: values + torch.tensor([1.0]).to(p.device),
    }
    found = {}
    for name, each in slow.items():
        monkeypatch.setitem(filters.FILTERS, MinP, each)
        found[name] = watched(rows, monkeypatch)
    assert found == {"a second copy": (2, 0, []), "a copy that is waited for": (1, 1, [])}


@pytest.mark.parametrize(
    "peek",
    [
        lambda values, p: values * p.amax().item(),
        lambda values, p: values if p.amax() > 0 else -values,
        lambda values, p: values.index_fill(-1, torch.ops.aten.nonzero(p.view(-1)).view(-1), 0.0),
        lambda values, p: values.masked_select(values > 0),
    ],
    ids=["item", "bool", "nonzero", "masked_select"],
)
def test_a_filter_that_looks_at_values_is_refused(peek, monkeypatch):
    monkeypatch.setitem(filters.FILTERS, MinP, peek)
    with pytest.raises((DataDependentOutputException, DynamicOutputShapeException)):
        watched([Row(0, Top(2, (MinP(0.2),)), 0, 1)], monkeypatch)


def _last_first(values, descending, count):
    """As `filters._first`, but of equal ones the last are kept."""
    threshold = descending.gather(-1, count - 1)
    level = (values == threshold).flip(-1)
    room = count - (values > threshold).sum(-1, keepdim=True)
    return (values > threshold) | (level & (level.cumsum(-1) <= room)).flip(-1)


@pytest.mark.parametrize(
    ("module", "name", "wrong"),
    [
        (filters, "_first", _last_first),
        (filters, "_first", lambda values, descending, count: values >= descending.gather(-1, count - 1)),
        (filters, "_entropy", lambda logprobs: -logprobs.exp().mul(logprobs).nansum(-1, keepdim=True) + 1e-3),
        (filters, "log_softmax", lambda values: values.float().log_softmax(-1).double()),
        (noise, "_shift_right", lambda x, by: x >> by),
    ],
    ids=["the last of ties", "more than k", "another entropy", "float32", "a shift with the sign"],
)
def test_a_wrong_readout_is_seen(module, name, wrong, monkeypatch):
    monkeypatch.setattr(module, name, wrong)
    dice = np.random.default_rng(1)
    logits = block("ties", dice, 40, 97)
    rows = [any_row(dice, 97, int(dice.integers(40))) for _ in range(300)]
    assert differences(logits, rows, "cpu")


def test_the_cases_are_of_every_kind():
    """The rows that the laws above are tried on have each transform, read and error often."""
    dice = np.random.default_rng(0)
    rows = [any_row(dice, 97, 0) for _ in range(2000)]
    seen = Counter(type(each) for row in rows for each in row.read.transforms) + Counter(
        type(row.read) for row in rows
    )
    assert len(seen) == len(EDITS) + len(FILTERS) - 1 + 4  # two make a TopK; and 4 reads
    assert min(seen.values()) > 40
    assert ROWS.keys() >= {"ties", "equal", "infinities", "unreadable"}
