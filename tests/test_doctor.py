"""The laws as `nextok doctor` puts them to a user's model: sound models pass, and each lie is found and named."""

import math

import numpy as np
import pytest

import nextok
from nextok.formats.tensor import Checkpoint
from nextok.lm import LM
from nextok.models.toy import ToyModel, make_scores
from nextok.readout.readout import read
from nextok.tools.laws import BEST, LAWS, NEAR, TOLERANCES, NotCheckedError, build_reference, check_laws
from nextok.tools.probe import LEAST_TOKENS, PROMPTS, TOKENS, Case, Probe, WrittenText
from tiny import VOCAB, tiny_lm, tiny_tokenizer
from toys import FreeTiming

NAMES = ["model runs", *LAWS, "backend = reference"]
SCORES = make_scores(VOCAB, 5)


def lying(lie, context=512):
    """A model whose scores go through `lie(scores, feeds, number of the feed, index of the row in it)`."""

    class Liar(ToyModel):
        def answer(self, feeds, rows):
            paths = []
            ToyModel(VOCAB, lambda path: paths.append(path) or [0.0] * VOCAB).answer(feeds, [])
            asked = [(number, index) for number, feed in enumerate(feeds) for index in range(len(feed.rows))]
            logits = [lie(np.array(SCORES(path)), feeds, *place) for path, place in zip(paths, asked)]
            return read(np.array(logits, np.float32).reshape(-1, VOCAB), rows)

    return LM(Liar(VOCAB, SCORES, context), tiny_tokenizer(), "liar", timing=FreeTiming())


def raised(row, by=1.0):
    """Scores whose second best token becomes the best one."""
    row = row.copy()
    row[np.argsort(-row)[1]] = row.max() + by
    return row


def honest(row, feeds, number, index):
    return row


def truth():
    return ToyModel(VOCAB, SCORES)


def judged(lm, reference=truth, **options):
    return {verdict.name: verdict for verdict in check_laws(lm, "exact", reference, **options)}


def failures(lm, reference=truth, **options):
    return [name for name, verdict in judged(lm, reference, **options).items() if verdict.passed is False]


# --- sound models


@pytest.mark.parametrize("lm", [tiny_lm(), lying(honest)], ids=["toy", "liar that tells the truth"])
def test_a_sound_model_passes_every_law(lm):
    found = judged(lm)
    assert list(found) == NAMES
    assert [verdict.passed for verdict in found.values()] == [True] * len(NAMES)
    assert found["in a batch = alone"].detail == f"8 texts of {TOKENS} tokens, equal to the last bit"
    assert "8 texts" in found["speculative = plain"].detail
    assert "4 texts" in found["shared beginning = own"].detail


# --- negative controls: what each lie breaks, and nothing before it


def in_a_batch(row, feeds, number, index):
    return raised(row) if len(feeds) > 1 and number == len(feeds) - 1 else row


def in_a_long_pass(row, feeds, number, index):
    """Of a pass that answers several rows of one text, all but the first are wrong."""
    return raised(row) if index > 0 and len(feeds) == 1 else row


def after_a_cache(row, feeds, number, index):
    """Whatever is read after something that was read before is wrong."""
    return raised(row) if feeds[number].slots[0] > 0 else row


def in_chunks(row, feeds, number, index):
    """A prompt of several tokens that does not begin at the beginning is read wrongly."""
    return raised(row) if feeds[number].slots[0] > 0 and len(feeds[number].tokens) > 1 else row


LIES = {
    in_a_batch: ["in a batch = alone", "shared beginning = own"],
    in_a_long_pass: ["speculative = plain", "beam of one = greedy", "backend = reference"],
    after_a_cache: [name for name in LAWS if name != "in a batch = alone"],  # there it lies as it does alone
    in_chunks: [name for name in LAWS if name not in ("cache = no cache", "in a batch = alone")],
}


@pytest.mark.parametrize(("lie", "broken"), LIES.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_lie_is_found_and_named(lie, broken):
    assert failures(lying(lie)) == broken


def test_a_difference_says_where_and_by_how_much():
    verdict = judged(lying(in_a_batch))["in a batch = alone"]
    difference = verdict.difference
    assert difference.prompt == PROMPTS[-1]  # the last of the batch
    assert (difference.position, difference.precision, difference.way) == (0, "exact", "in a batch of 8")
    ids = tiny_tokenizer().encode(PROMPTS[-1])
    row = np.array(SCORES(tuple(ids)), np.float32).astype(np.float64)
    best, second = np.argsort(-row)[:2]
    assert difference.expected.endswith(f"({best})")
    assert difference.found.endswith(f"({second})")
    assert difference.gap == pytest.approx(row[best] - row[second], abs=1e-9)
    assert str(difference) == verdict.detail
    for words in (repr(PROMPTS[-1]), "token 0 is ", f"{difference.gap:.6g} apart", "(precision exact)"):
        assert words in verdict.detail


def test_scores_that_differ_by_a_hair_are_a_difference():
    def hair(row, feeds, number, index):
        return row * (1 + 1e-6) if len(feeds) > 1 else row

    verdict = judged(lying(hair))["in a batch = alone"]
    assert verdict.passed is False
    assert verdict.difference.gap is None
    assert verdict.detail.count("with log-probability -") == 2


class Forgetful(ToyModel):
    """Its caches lose a token when they are forked."""

    def open(self):
        cache = super().open()

        def fork(end):
            forked = type(cache).fork(cache, end)
            forked.slots[end // 2] = (end // 2, 0)
            return forked

        cache.fork = fork
        return cache


def test_a_cache_that_forks_wrongly():
    lm = LM(Forgetful(VOCAB, SCORES), tiny_tokenizer(), timing=FreeTiming())
    assert failures(lm) == ["shared beginning = own"]


def test_an_error_is_a_verdict_and_the_others_go_on():
    class Failing(ToyModel):
        def answer(self, feeds, rows):
            if len(rows) > 1:
                raise RuntimeError("out of threads")
            return super().answer(feeds, rows)

    found = judged(LM(Failing(VOCAB, SCORES), tiny_tokenizer(), timing=FreeTiming()))
    wrong = {name: verdict.detail for name, verdict in found.items() if verdict.passed is False}
    assert wrong["speculative = plain"] == "RuntimeError: out of threads"
    assert found["cache = no cache"].passed


def test_a_model_that_does_not_run_is_asked_nothing_more():
    found = judged(tiny_lm(lambda path: [float("nan")] * VOCAB))
    assert list(found) == ["model runs"]
    assert found["model runs"].passed is False
    assert "no token can be chosen" in found["model runs"].detail


# --- beside the reference


@pytest.mark.parametrize(("precision", "by"), [("exact", 2 * NEAR), ("fast", 2 * TOLERANCES["fast"][0])])
def test_a_backend_that_is_off_is_found(precision, by):
    def off(path):
        row = np.array(SCORES(path))
        row[np.argsort(-row)[BEST // 2]] += by if len(path) % 5 == 0 else 0.0
        return row

    lm = tiny_lm(off)
    for limit, passed in ((precision, False), ("fast", precision == "exact")):
        verdict = next(v for v in check_laws(lm, limit, truth) if v.name == "backend = reference")
        assert verdict.passed is passed, verdict
    verdict = next(v for v in check_laws(lm, precision, truth) if v.name == "backend = reference")
    assert "compared with numpy in float32" in verdict.detail
    assert verdict.difference.precision == precision


def test_a_backend_that_is_a_little_off_everywhere_is_found():
    def noisy(path):
        return np.array(SCORES(path)) + np.array(make_scores(VOCAB, 9, spread=TOLERANCES["fast"][0] * 0.9)(path))

    verdict = [*check_laws(tiny_lm(noisy), "fast", truth)][-1]
    assert verdict.passed is False
    assert "on average" in verdict.detail or "compared with numpy" in verdict.detail


def test_near_ties_are_no_fault_of_a_tolerant_comparison():
    def tied(path):
        row = np.array(SCORES(path))
        best, second = np.argsort(-row)[:2]
        row[second] = row[best]
        return row

    def tipped(path):
        row = tied(path)
        row[max(np.argsort(-row)[:2])] += NEAR / 4
        return row

    verdict = [*check_laws(tiny_lm(tipped), "exact", lambda: ToyModel(VOCAB, tied))][-1]
    assert verdict.passed
    assert "picks differ, all near ties" in verdict.detail


@pytest.mark.parametrize(("tolerance", "found"), [(0.0, True), (NEAR, False)])
def test_a_text_that_parts_at_a_tie_is_forgiven_where_sums_may_round(tolerance, found):
    def tied(path):
        row = np.array(SCORES(path))
        best, second = np.argsort(-row)[:2]
        row[second] = row[best] - NEAR / 2
        return row

    subject = Probe(tiny_lm(tied), "exact", tolerance)
    prompt, sampling = subject.prompts[0], nextok.Greedy()
    plain = subject.write_plain(prompt, sampling)
    row = tied(tuple(prompt))
    tipped = WrittenText([int(np.argsort(-row)[1]), *plain.tokens[1:]], plain.logprobs)
    assert bool(subject.find_difference(Case(prompt, sampling, "tipped", tipped))) is found
    worse = WrittenText([int(np.argsort(-row)[2]), *plain.tokens[1:]], plain.logprobs)
    assert subject.find_difference(Case(prompt, sampling, "worse", worse)).position == 0
    shorter = WrittenText(plain.tokens[:-1], plain.logprobs[:-1])
    assert "the end" in subject.find_difference(Case(prompt, sampling, "shorter", shorter)).found
    odd = WrittenText(plain.tokens, [*plain.logprobs[:3], math.nan, *plain.logprobs[4:]])
    assert subject.find_difference(Case(prompt, sampling, "odd", odd)).position == 3


# --- bounds


def test_what_does_not_fit_is_not_checked():
    found = judged(tiny_lm(context=60))
    assert found["shared beginning = own"].passed is None
    assert "a context of 60 tokens holds no beginning" in found["shared beginning = own"].detail
    assert not [verdict for verdict in found.values() if verdict.passed is False]
    assert not [verdict for verdict in judged(tiny_lm(context=8)).values() if verdict.passed is False]


def test_time_is_bounded_and_what_is_left_out_is_said():
    found = judged(tiny_lm(), seconds=0.0)
    assert [verdict.passed for verdict in found.values()] == [True, *[None] * (len(NAMES) - 1)]
    assert "the 0 seconds for all laws are over" in found["cache = no cache"].detail
    subject = Probe(tiny_lm(), "exact")
    for seconds, tokens in ((0.001, TOKENS), (0.8, TOKENS // 2), (1e9, LEAST_TOKENS)):
        subject.tokens = TOKENS
        subject.slow_down(seconds)
        assert subject.tokens == tokens


def test_a_reference_that_is_too_large_is_not_made():
    class Huge:
        shape = (40_000, 40_000)

    checkpoint = Checkpoint(None, {"one": Huge()}, {})
    with pytest.raises(NotCheckedError, match=r"1,600 million parameters are too slow in numpy; 500 million"):
        build_reference(checkpoint, None)
    Huge.shape = (1000, 1000)
    with pytest.raises(NotCheckedError, match="1 million parameters in float32 need more memory than is free"):
        build_reference(checkpoint, 1_000_000)
    found = judged(tiny_lm(), lambda: build_reference(checkpoint, 1))["backend = reference"]
    assert (found.passed, found.detail[:13]) == (None, "not checked: ")


# --- the default model


@pytest.mark.model
def test_the_default_model_is_sound(smollm2):
    pytest.importorskip("nextok._native")
    # One thread: two of them wait for each other when other programs use the machine as well.
    lm = nextok.load("smollm2", backend="native", threads=1)
    found = list(check_laws(lm, "fast", lambda: smollm2.model, seconds=3600))
    assert [verdict.name for verdict in found] == NAMES
    assert [verdict for verdict in found if not verdict.passed] == []
