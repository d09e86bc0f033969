"""Many requests in one engine: some fail, come late or leave early; and what the engine keeps."""

import gc
import math

import pytest

from nextok.core.events import Finished, Token
from nextok.core.query import Query, pick
from nextok.core.tree import Tree
from nextok.engine.engine import Engine
from nextok.errors import LogitsError, NextokError
from nextok.models.toy import ToyModel, make_scores
from nextok.strategies.beam.beam import Beam
from nextok.strategies.sample import Greedy, Sample
from toys import STRATEGIES, TARGET, VOCAB, asked, by_reference, outcome

BROKEN = 6


def fails_on_broken(path):
    """Scores that cannot be computed once BROKEN has been read; the whole pass breaks."""
    if BROKEN in path:
        raise MemoryError("out of memory")
    return make_scores(VOCAB, 1)(path)


def nan_on_broken(path):
    """Scores that are not numbers once BROKEN has been read; the pass goes on."""
    return [math.nan] * VOCAB if BROKEN in path else make_scores(VOCAB, 1)(path)


@pytest.mark.parametrize(("scores", "error"), [(fails_on_broken, MemoryError), (nan_on_broken, LogitsError)])
@pytest.mark.parametrize("shared", [False, True])
def test_a_failing_request_harms_no_other(scores, error, shared):
    model, tree = ToyModel(VOCAB, scores), Tree() if shared else None
    without_broken = {"stop_ids": frozenset({0, BROKEN})}
    engine = Engine(model, budget=16)
    healthy = [asked([1, 2], seed=seed, tree=tree, **without_broken) for seed in range(6)]
    failing = [asked([1, BROKEN], seed=seed, tree=tree) for seed in range(2)]
    names = ["plain", "greedy", "warm", "filtered", "plain", "warm"]
    for request, name in zip(healthy, names):
        engine.submit(request, STRATEGIES[name], lambda event: None)
    told = []
    for request in failing:
        engine.submit(request, Sample(), told.append)
    engine.run()
    for seed, (request, name) in enumerate(zip(healthy, names)):
        alone = asked([1, 2], seed=seed, **without_broken)
        by_reference(STRATEGIES[name], alone, model)
        assert outcome(request) == outcome(alone)
    for request in failing:
        assert request.finish_reason == "error"
        assert isinstance(request.error, error)
    assert [event.reason for event in told if isinstance(event, Finished)] == ["error", "error"]


class Stumbles(Greedy):
    """A strategy with a bug."""

    def decode(self, request):
        yield from request.commit((yield from pick([request.tip], self.sampler)).values())
        raise KeyError("bug")


class GivesUp(Greedy):
    """A strategy that stops too soon."""

    def decode(self, request):
        yield from pick([request.tip], self.sampler)


class AsksOnlyDrafts(Greedy):
    """A strategy that never comes to the point."""

    def decode(self, request):
        while True:
            yield from pick([request.tip], self.sampler, model=TARGET_COPY)


class AsksNothing(Greedy):
    """A question without nodes has no answer."""

    def decode(self, request):
        yield Query((), ())


TARGET_COPY = ToyModel(VOCAB, make_scores(VOCAB, 1))


@pytest.mark.parametrize(
    ("strategy", "error"),
    [(Stumbles(), KeyError), (GivesUp(), NextokError), (AsksOnlyDrafts(), NextokError), (AsksNothing(), ValueError)],
)
def test_a_broken_strategy_ends_alone(strategy, error):
    engine = Engine(TARGET)
    broken, fine, alone = asked([1]), asked([1]), asked([1])
    engine.submit(broken, strategy, lambda event: None)
    engine.submit(fine, Greedy(), lambda event: None)
    engine.run()
    by_reference(Greedy(), alone)
    assert broken.finish_reason == "error"
    assert isinstance(broken.error, error)
    assert outcome(fine) == outcome(alone)


def test_a_receiver_that_raises_ends_its_own_request():
    def receiver(event):
        raise BrokenPipeError("gone")

    engine = Engine(TARGET)
    broken, fine = asked([1]), asked([1])
    engine.submit(broken, Greedy(), receiver)
    engine.submit(fine, Greedy(), lambda event: None)
    engine.run()
    assert broken.finish_reason == "error"
    assert isinstance(broken.error, BrokenPipeError)
    assert fine.finish_reason in ("stop", "length")


def test_cancelling_keeps_what_exists_and_says_so():
    engine, told = Engine(TARGET), []
    request = asked([1], max_tokens=100, stop_ids=frozenset())
    job = engine.submit(request, Sample(), told.append)
    for _ in range(5):
        engine.step()
    engine.cancel(job)
    assert len(request.tokens) == 5
    assert told[-1] == Finished("cancelled")
    assert engine.step() is False


@pytest.mark.parametrize("name", ["plain", "itself warm", "beam 3"])
def test_a_receiver_may_cancel_its_own_request(name):
    def receiver(event):
        told.append(event)
        if len(told) == 3:
            engine.cancel(job)

    engine, told = Engine(TARGET), []
    request, other = asked([1], max_tokens=50, stop_ids=frozenset()), asked([2])
    job = engine.submit(request, STRATEGIES[name], receiver)
    engine.submit(other, Greedy(), lambda event: None)
    engine.run()
    assert request.finish_reason == "cancelled"
    assert told[3:] == [Finished("cancelled")]
    assert other.finish_reason in ("stop", "length")


def test_cancelling_before_the_start_or_after_the_end_is_harmless():
    engine = Engine(TARGET, seats=1)
    first, second = asked([1]), asked([2])
    job = engine.submit(first, Greedy(), lambda event: None)
    waiting = engine.submit(second, Greedy(), lambda event: None)
    engine.cancel(waiting)
    engine.run()
    engine.cancel(job)
    assert second.finish_reason == "cancelled"
    assert first.finish_reason in ("stop", "length")


class Interrupted(ToyModel):
    """Ctrl-C comes in the middle of a pass, after the cache was half written."""

    def answer(self, feeds, rows):
        if self.interrupt:
            feeds[0].cache.slots[feeds[0].slots[0]] = (99, 99)
            raise KeyboardInterrupt
        return super().answer(feeds, rows)


def test_an_interrupted_pass_leaves_no_trace_in_the_caches():
    model = Interrupted(VOCAB, make_scores(VOCAB, 1))
    model.interrupt = False
    engine, request, alone = Engine(model), asked([1, 2, 3]), asked([1, 2, 3])
    engine.submit(request, Greedy(), lambda event: None)
    engine.step()
    model.interrupt = True
    with pytest.raises(KeyboardInterrupt):
        engine.step()
    model.interrupt = False
    engine.run()
    by_reference(Greedy(), alone)
    assert outcome(request) == outcome(alone)


class Counting(ToyModel):
    """Counts what it reads."""

    tokens = 0
    largest = 0
    caches = 0

    def answer(self, feeds, rows):
        size = sum(len(feed.tokens) for feed in feeds)
        self.tokens += size
        self.largest = max(self.largest, size)
        return super().answer(feeds, rows)

    def open(self):
        self.caches += 1
        return super().open()


def test_no_pass_is_larger_than_its_budget():
    model = Counting(VOCAB, make_scores(VOCAB, 1))
    engine = Engine(model, budget=10)
    requests = [asked([size % VOCAB] * (size + 1), seed=size) for size in range(30)]
    for request in requests:
        engine.submit(request, Beam(3), lambda event: None)
    engine.run()
    assert model.largest == 10
    assert all(request.finish_reason in ("stop", "length") for request in requests)


def test_samples_of_one_prompt_read_it_once():
    model, tree = Counting(VOCAB, make_scores(VOCAB, 1)), Tree()
    engine = Engine(model)
    for seed in range(8):
        request = asked([1] * 100, tree=tree, seed=seed, max_tokens=5)
        engine.submit(request, Sample(), lambda event: None)
    engine.run()
    assert model.caches == 1
    assert 100 <= model.tokens <= 100 + 8 * 5


def test_the_next_turn_finds_what_the_last_one_read():
    model, tree = Counting(VOCAB, make_scores(VOCAB, 1)), Tree()
    engine = Engine(model)
    first = asked([1] * 50, tree=tree, max_tokens=5, stop_ids=frozenset())
    engine.submit(first, Greedy(), lambda event: None)
    engine.run()
    read = model.tokens
    second = asked([1] * 50 + first.tokens + [3, 4], tree=tree, max_tokens=5, stop_ids=frozenset())
    engine.submit(second, Greedy(), lambda event: None)
    engine.run()
    assert model.tokens - read == 3 + 4  # the last token of the answer, the question, and all but one of the new ones
    alone = asked([1] * 50 + first.tokens + [3, 4], max_tokens=5, stop_ids=frozenset())
    by_reference(Greedy(), alone, model)
    assert outcome(second) == outcome(alone)


def test_caches_die_with_their_tree():
    engine, tree = Engine(TARGET), Tree()
    engine.submit(asked([1, 2], tree=tree), Greedy(), lambda event: None)
    engine.run()
    assert len(engine._memos) == 1
    del tree
    gc.collect()
    assert len(engine._memos) == 0


def test_decoding_goes_on_while_a_long_prompt_is_read():
    engine, heard = Engine(TARGET, budget=8), []
    quick = asked([1], max_tokens=50, stop_ids=frozenset())
    engine.submit(quick, Sample(), lambda event: heard.append(event) if isinstance(event, Token) else None)
    engine.step()
    engine.submit(asked([2] * 100, max_tokens=3), Sample(), lambda event: None)
    for step in range(10):
        engine.step()
        assert len(heard) == step + 2


def test_seats_and_budget_must_make_sense():
    with pytest.raises(ValueError, match="at least 1"):
        Engine(TARGET, budget=0)
    with pytest.raises(ValueError, match="at least 1"):
        Engine(TARGET, seats=0)


class Full(ToyModel):
    """A cache that cannot grow past a number of slots."""

    def answer(self, feeds, rows):
        if any(max(feed.slots) >= 60 for feed in feeds):
            raise MemoryError("the cache is full")
        return super().answer(feeds, rows)


@pytest.mark.parametrize("budget", [1, 7, 50])
def test_a_prompt_that_fails_in_a_later_chunk_fails_alone(budget):
    model = Full(VOCAB, make_scores(VOCAB, 1))
    engine = Engine(model, budget=budget)
    failing = [asked([1] * 70, seed=seed) for seed in range(2)]
    healthy = [asked([2] * 55, max_tokens=4), asked([3], max_tokens=40, stop_ids=frozenset())]
    for request in (*failing, *healthy):
        engine.submit(request, Greedy(), lambda event: None)
    for _ in range(3000):
        if not engine.step():
            break
    assert [type(request.error) for request in failing] == [MemoryError, MemoryError]
    for request, alone in zip(
        healthy, (asked([2] * 55, max_tokens=4), asked([3], max_tokens=40, stop_ids=frozenset()))
    ):
        by_reference(Greedy(), alone)
        assert outcome(request) == outcome(alone)


@pytest.mark.parametrize("name", ["plain", "itself warm", "beam 3"])
@pytest.mark.parametrize("at", [1, 2, 5])
def test_ctrl_c_in_a_receiver_ends_that_request_and_no_other(name, at):
    def interrupted(event):
        told.append(event)
        if len(told) == at:
            raise KeyboardInterrupt

    engine, told = Engine(TARGET), []
    struck, others = asked([1], stop_ids=frozenset()), [asked([2], seed=seed) for seed in range(3)]
    engine.submit(struck, STRATEGIES[name], interrupted)
    for request in others:
        engine.submit(request, STRATEGIES["similar warm"], lambda event: None)
    with pytest.raises(KeyboardInterrupt):
        engine.run()
    for _ in range(200):
        if not engine.step():
            break
    assert struck.finish_reason == "cancelled"
    for seed, request in enumerate(others):
        alone = asked([2], seed=seed)
        by_reference(STRATEGIES["similar warm"], alone)
        assert outcome(request) == outcome(alone)


def test_long_tails_cost_no_more_than_short_ones():
    """Samples of one prompt: the memo's books are extended, not rewritten, at each step."""
    engine, tree = Engine(TARGET), Tree()
    for seed in range(3):
        engine.submit(
            asked([1], tree=tree, seed=seed, max_tokens=1500, stop_ids=frozenset()), Sample(), lambda e: None
        )
    engine.run()  # an earlier version recursed along the tail
    (memos,) = engine._memos.values()
    assert len(memos[TARGET].branch) > 2000
    assert len(memos[TARGET]._views) <= 3
