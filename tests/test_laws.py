"""The laws that everything else may rely on, on models small enough to know exactly."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextok.core.events import Beams, Finished, Token, Verified
from nextok.core.tree import Tree
from nextok.engine import prefix
from nextok.engine.engine import Engine
from nextok.strategies.beam.beam import Beam
from nextok.strategies.sample import Greedy, Sample
from nextok.strategies.speculate import Speculate
from toys import BEAMS, DRAFTS, SAMPLINGS, STOP, STRATEGIES, TARGET, VOCAB, asked, by_engine, by_reference, outcome

PROMPTS = st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=10)
REQUESTS = st.fixed_dictionaries(
    {
        "strategy": st.sampled_from(sorted(STRATEGIES)),
        "prompt": PROMPTS,
        "seed": st.integers(0, 3),
        "max_tokens": st.integers(1, 14),
        "shares_tree": st.booleans(),
        "arrives": st.integers(0, 6),  # steps that the engine makes before this request comes
        "leaves": st.none() | st.integers(0, 6),  # steps after which it is cancelled
        "min_tokens": st.integers(0, 1),
        "context": st.none() | st.integers(12, 20),
    }
)


def one(spec, tree=None):
    """The request that a spec describes."""
    return asked(
        spec["prompt"],
        seed=spec["seed"],
        tree=tree,
        max_tokens=spec["max_tokens"],
        min_tokens=spec["min_tokens"],
        context=spec["context"],
    )


@settings(max_examples=400, deadline=None)
@given(
    specs=st.lists(REQUESTS, min_size=1, max_size=8),
    budget=st.sampled_from([1, 2, 5, 17, 512]),
    seats=st.sampled_from([1, 3, 32]),
    worthwhile=st.sampled_from([1, 2, 64]),
)
def test_the_engine_equals_the_reference_in_any_batch(specs, budget, seats, worthwhile):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefix, "WORTHWHILE", worthwhile)  # so that short prompts share their beginnings too
        the_batch_equals_the_reference(specs, Engine(TARGET, budget=budget, seats=seats))


def the_batch_equals_the_reference(specs, engine, definition=TARGET):
    running, shared = [], Tree()
    for spec in specs:
        for _ in range(spec["arrives"]):
            engine.step()
        request = one(spec, shared if spec["shares_tree"] else None)
        job = engine.submit(request, STRATEGIES[spec["strategy"]], lambda event: None)
        if spec["leaves"] is not None:
            for _ in range(spec["leaves"]):
                engine.step()
            engine.cancel(job)
        running.append((spec, request))
    engine.run()
    for spec, request in running:
        alone = one(spec)
        by_reference(STRATEGIES[spec["strategy"]], alone, definition)
        if request.finish_reason == "cancelled":
            assert request.tokens == alone.tokens[: len(request.tokens)]
        else:
            assert outcome(request) == outcome(alone), request.error


@pytest.mark.parametrize("name", STRATEGIES)
def test_cached_and_chunked_equal_the_reference_event_by_event(name):
    prompt = [3, 1, 4, 1, 5, 2, 6, 5, 3, 5]
    told = by_reference(STRATEGIES[name], asked(prompt, seed=5))
    for budget in (1, 2, 5, 512):
        assert by_engine(STRATEGIES[name], asked(prompt, seed=5), budget=budget) == told


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("draft", DRAFTS)
def test_speculation_never_changes_the_text(draft, sampling):
    for seed in range(25):
        prompt = [(seed * k) % VOCAB for k in range(1, 5)]
        plain, speculative = asked(prompt, seed=seed), asked(prompt, seed=seed)
        by_reference(SAMPLINGS[sampling], plain)
        by_engine(Speculate(DRAFTS[draft], SAMPLINGS[sampling]), speculative)
        assert outcome(speculative) == outcome(plain)


def verifications(strategy, request):
    """Each check of a draft with the number of tokens that it committed."""
    checks = []
    for event in by_engine(strategy, request):
        if isinstance(event, Verified):
            checks.append([event, 0])
        elif isinstance(event, Token):
            checks[-1][1] += 1
    return checks


def test_every_check_yields_what_was_accepted_and_one_token_more():
    for draft in DRAFTS.values():
        for event, tokens in verifications(
            Speculate(draft, Sample()), asked([1, 2], max_tokens=40, stop_ids=frozenset())
        ):
            assert tokens == event.accepted + 1


def test_a_draft_that_knows_the_target_is_accepted_whole():
    checks = verifications(Speculate(DRAFTS["itself"], Sample()), asked([1, 2], max_tokens=40, stop_ids=frozenset()))
    assert len(checks) == 8  # 40 tokens, five a pass
    assert all(event.accepted == event.drafted == 4 for event, _ in checks)


def test_negative_control_a_missing_bonus_token_is_noticed(monkeypatch):
    original = Speculate.decode

    def stingy(self, request):
        steps, reply = original(self, request), None
        while True:
            try:
                item = steps.send(reply)
            except StopIteration:
                return
            reply = yield item
            if isinstance(reply, dict) and len(reply) > 1:  # forget what follows the last guess
                reply = dict(list(reply.items())[:-1])

    monkeypatch.setattr(Speculate, "decode", stingy)
    checks = verifications(Speculate(DRAFTS["itself"], Sample()), asked([1, 2], max_tokens=40, stop_ids=frozenset()))
    assert len(checks) > 8


@pytest.mark.parametrize("seed", range(20))
def test_beam_of_one_is_greedy(seed):
    prompt = [seed % VOCAB, 3]
    beam, greedy = asked(prompt, max_tokens=15), asked(prompt, max_tokens=15)
    by_engine(Beam(1), beam)
    by_reference(Greedy(), greedy)
    assert outcome(beam) == outcome(greedy)


def every_text(prompt, length, penalty):
    """All finished texts of at most `length` tokens with their scores, from the model's own definition."""
    texts = []
    for size in range(1, length + 1):
        for body in itertools.product(range(VOCAB), repeat=size):
            if STOP in body[:-1] or (size < length and body[-1] != STOP):
                continue
            total = 0.0
            for i in range(size):
                logits = TARGET._scores((*prompt, *body[:i]))
                total += logits[body[i]] - math.log(sum(map(math.exp, logits)))
            texts.append((total / size**penalty, list(body)))
    return sorted(texts, reverse=True)


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("prompt", [(1,), (2, 5), (6, 6, 1)])
def test_a_beam_wide_enough_finds_the_best_text_there_is(prompt, penalty):
    length = 3
    best = every_text(prompt, length, penalty)
    request = asked(list(prompt), max_tokens=length)
    width = VOCAB ** (length - 1)
    events = by_engine(Beam(width, length_penalty=penalty, n=5, early_stopping="never"), request)
    assert request.tokens == best[0][1]
    finished = [event for event in events if isinstance(event, Beams)][-1].finished
    for hypothesis, (score, tokens) in zip(finished[:5], best):
        assert request.tree.path(hypothesis.node, above=request.prompt) == tokens
        assert hypothesis.score == pytest.approx(score, abs=1e-5)


def test_a_narrow_beam_can_miss_it_so_the_search_is_not_exhaustive_by_accident():
    missed = 0
    for first in range(VOCAB):
        request = asked([first], max_tokens=3)
        by_engine(Beam(1, length_penalty=0.0), request)
        missed += request.tokens != every_text((first,), 3, 0.0)[0][1]
    assert missed > 0


@pytest.mark.parametrize("name", [*SAMPLINGS, *BEAMS, "lookup plain", "tree warm", "adversary plain"])
def test_endings_hold_in_every_strategy(name):
    strategy = STRATEGIES[name]
    for seed in range(12):
        request = asked([seed % VOCAB], seed=seed, max_tokens=9, stop_ids=frozenset({STOP}))
        events = by_engine(strategy, request)
        assert [type(event) for event in events].count(Finished) == 1
        assert events[-1] == Finished(request.finish_reason)
        if request.finish_reason == "stop":
            assert request.tokens.index(STOP) == len(request.tokens) - 1
        else:
            assert request.finish_reason == "length"
            assert len(request.tokens) == 9
            assert STOP not in request.tokens


@pytest.mark.parametrize("name", [*SAMPLINGS, *BEAMS, "lookup plain", "itself plain", "tree warm"])
def test_min_tokens_and_context_hold_in_every_strategy(name):
    for seed in range(8):
        request = asked([1, seed % VOCAB], seed=seed, max_tokens=20, min_tokens=6, context=10)
        by_engine(STRATEGIES[name], request)
        assert STOP not in request.tokens[:6]
        if request.finish_reason == "context":
            assert len(request.tokens) == 8
        else:
            assert request.finish_reason == "stop"


@pytest.mark.parametrize("name", [*SAMPLINGS, *BEAMS, "lookup plain", "itself plain", "tree warm"])
def test_stop_strings_end_the_text_where_they_complete(name):
    names = [b"", b"ab", b"b", b"ca", b"\xe2\x82", b"\xac", b"a"]
    for seed in range(12):
        request = asked(
            [1], seed=seed, max_tokens=14, stop_ids=frozenset(), stop=(b"bc", "€".encode(), b"aab"), token_bytes=names
        )
        by_engine(STRATEGIES[name], request)
        text = b"".join(names[token] for token in request.tokens)
        before = b"".join(names[token] for token in request.tokens[:-1])
        found = [stop for stop in request.limits.stop if stop in text]
        assert not any(stop in before for stop in request.limits.stop)
        assert request.finish_reason == ("stop" if found else "length")
