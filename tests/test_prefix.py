"""Texts that begin alike: what is read once, and that no request waits without need."""

import numpy as np
import pytest

from nextok.engine.engine import Engine
from nextok.engine.prefix import WORTHWHILE
from nextok.strategies.sample import Greedy, Sample
from test_native import checkpoint
from toys import TARGET, VOCAB, asked, by_engine, outcome

BEGINNING = np.random.default_rng(0).integers(1, VOCAB, 200).tolist()
ENDINGS = [[1, 2, 3], [1, 2, 4, 4], [5], [2, 2]]


def submit_all(engine, prompts, **limits):
    requests = [asked(prompt, seed=seed, **limits) for seed, prompt in enumerate(prompts)]
    jobs = [engine.submit(request, Sample(), lambda event: None) for request in requests]
    return requests, jobs


@pytest.mark.parametrize("budget", [1, 16, 64, 512])
def test_prompts_that_arrive_together_read_their_common_beginning_once(budget):
    engine = Engine(TARGET, budget=budget)
    requests, _ = submit_all(engine, [BEGINNING + ending for ending in ENDINGS], max_tokens=5)
    engine.run()
    for seed, request in enumerate(requests):
        alone = asked(BEGINNING + ENDINGS[seed], seed=seed, max_tokens=5)
        by_engine(Sample(), alone)
        assert outcome(request) == outcome(alone)
    own = sum(len(ending) for ending in ENDINGS) + sum(len(request.tokens) for request in requests)
    spare = (len(ENDINGS) - 1) * WORTHWHILE if budget < len(BEGINNING) else 0  # the last few are not waited for
    assert len(BEGINNING) <= engine.tokens_read <= len(BEGINNING) + own + spare


def test_a_late_request_takes_over_what_is_still_held():
    engine = Engine(TARGET)
    first = asked(BEGINNING, max_tokens=5)
    engine.submit(first, Greedy(), lambda event: None)
    engine.run()
    read = engine.tokens_read
    later = asked([*BEGINNING[:150], 3, 3], max_tokens=1)
    engine.submit(later, Greedy(), lambda event: None)
    engine.run()
    assert engine.tokens_read == read + 2
    assert first.tokens


def test_who_waits_is_served_when_the_reader_leaves():
    engine = Engine(TARGET, budget=50)
    requests, jobs = submit_all(engine, [BEGINNING + ending for ending in ENDINGS], max_tokens=5)
    engine.step()
    engine.cancel(jobs[0])
    del requests[0]
    engine.run()
    assert all(request.finish_reason in ("length", "stop") for request in requests)


def test_short_beginnings_are_not_waited_for():
    engine = Engine(TARGET)
    requests, _ = submit_all(engine, [[1, 2, 3, 4], [1, 2, 3, 5]], max_tokens=1)
    engine.step()
    assert all(request.finish_reason for request in requests)


@pytest.mark.parametrize("exact", [True, False])
def test_forked_caches_share_pages_and_not_their_changes(exact):
    """To the last bit: the original, the fork, and a fork that differs within the last shared page."""
    native = pytest.importorskip("nextok.models.native")
    from test_numpy_model import straight

    model = native.NativeModel(checkpoint("Q4_1"), exact=exact)
    text, cache = BEGINNING[:100], model.open()
    expected = model.logits([straight(model, [*text, 1, 2, 3])])
    model.logits([straight(model, text, cache)])
    fork, other = cache.fork(100), cache.fork(70)
    assert (model.logits([straight(model, [1, 2, 3], fork, 100)]) == expected[100:]).all()
    changed = model.logits([straight(model, [6, 6, 6, *text[73:]], other, 70)])
    assert (changed == model.logits([straight(model, [*text[:70], 6, 6, 6, *text[73:]])])[70:]).all()
    assert (model.logits([straight(model, [1, 2, 3], cache, 100)]) == expected[100:]).all()
    with pytest.raises(ValueError, match="slot"):
        cache.fork(-1)
