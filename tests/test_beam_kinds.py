"""Beam sampling, diverse and stochastic beams: against exact enumeration and slow restatements of their papers."""

import itertools
import math
from collections import Counter
from decimal import Decimal, localcontext
from functools import cache

import pytest

import nextok as nt
from nextok.core.events import Beams
from nextok.models.toy import ToyModel, make_scores
from nextok.sampling.transforms import Temperature
from nextok.strategies.beam import stochastic
from nextok.strategies.beam.beam import Beam
from nextok.strategies.beam.diverse import DiverseBeam
from nextok.strategies.beam.stochastic import StochasticBeam
from nextok.strategies.sample import Chain, Sample
from test_distribution import fits
from tiny import tiny_lm
from toys import STOP, TARGET, VOCAB, asked, by_engine, by_reference

SMALL = 4
LITTLE = ToyModel(SMALL, make_scores(SMALL, seed=4, spread=1.5))
PROMPT = (2, 3)
DRAWS = 3000


@cache
def logprobs(text, temperature=1.0, model=LITTLE, prompt=PROMPT):
    """The log-probability of each token after the prompt and `text`, by the definition."""
    logits = [logit / temperature for logit in model._scores((*prompt, *text))]
    total = math.log(sum(map(math.exp, logits)))
    return [logit - total for logit in logits]


def texts_of(strategy, seed, max_tokens):
    """What a search finished with: [(tokens, hypothesis)], best first."""
    request = asked(list(PROMPT), seed=seed, max_tokens=max_tokens)
    last = [event for event in by_reference(strategy, request, LITTLE) if isinstance(event, Beams)][-1]
    found = [(tuple(request.tree.path(each.node, above=request.prompt)), each) for each in last.finished]
    assert request.tokens == list(found[0][0])
    return found


# --- beam sampling ----------------------------------------------------------------------------------------------


def pairs(weights):
    """The probability of each ordered pair that is drawn without replacement."""
    total = sum(weights.values())
    for (a, p), (b, q) in itertools.permutations(weights.items(), 2):
        yield (a, b), p / total * q / (total - p)


def beam_sampled(temperature):
    """The probability of each text of at most two tokens that beams of width 2 return, draw by draw.

    Four candidates are drawn; of tokens 0 to 3 that is all of them, so what matters is which two come first, as a
    stop counts only there. The two best that can go on do so, and of what is drawn after them the first two count.
    """
    chances, first = Counter(), dict(enumerate(logprobs((), temperature)))
    live = sorted((token for token in first if token != STOP), key=lambda token: -first[token])[:2]
    after = {(a, b): first[a] + lp for a in live for b, lp in enumerate(logprobs((a,), temperature))}
    for early, p in pairs({token: math.exp(lp) for token, lp in first.items()}):
        ended = {(STOP,): first[STOP]} if STOP in early else {}
        for late, q in pairs({text: math.exp(lp) for text, lp in after.items()}):
            scores = {text: lp / len(text) for text, lp in (ended | {text: after[text] for text in late}).items()}
            chances[max(scores, key=scores.get)] += p * q
    return chances


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_beam_sampling_follows_the_exact_chances(temperature):
    strategy = Beam(2, sampling=Sample(temperature=temperature))
    counts = Counter(texts_of(strategy, seed, 2)[0][0] for seed in range(DRAWS))
    assert fits(counts, beam_sampled(temperature))
    assert not fits(counts, beam_sampled(temperature * 1.5))  # the negative control


def test_beam_sampling_without_noise_is_beam_search():
    for first in range(VOCAB):
        still, plain = asked([first]), asked([first])
        cold = Beam(3, sampling=Sample(temperature=0))
        assert by_engine(cold, still, TARGET) == by_engine(Beam(3), plain, TARGET)


def test_beam_samples_are_told_by_their_seed():
    lm, strategy = tiny_lm(), nt.Beam(2, sampling=nt.Sample())
    texts = [tuple(lm.generate("a", strategy, max_tokens=6, seed=seed).tokens) for seed in (1, 1, 2, 3, 4)]
    assert texts[0] == texts[1]
    assert len(set(texts)) == 4


# --- diverse beams ------------------------------------------------------------------------------------------------


def diverse(width, groups, diversity, max_tokens, prompt, temperature):
    """Diverse beam search over plain tuples: at each step every group in turn, ranked by what it loses."""
    size = width // groups
    live, done = [[((), 0.0)] for _ in range(groups)], [[] for _ in range(groups)]
    for step in range(1, max_tokens + 1):
        said = Counter()
        for group in range(groups):
            worst = min((score for score, _ in done[group]), default=-math.inf)
            if not live[group] or (
                len(done[group]) == size and max(lp for _, lp in live[group]) / (step - 1) <= worst
            ):
                live[group] = []
                continue
            candidates = [
                ((*text, token), total + lp, total + lp - diversity * said[token])
                for text, total in live[group]
                for token, lp in enumerate(logprobs(text, temperature, TARGET, prompt))
            ]
            candidates = sorted(candidates, key=lambda each: -each[2])[: 2 * size]
            over = [text[-1] == STOP or step == max_tokens for text, _, _ in candidates]
            ended = [each[:2] for each, end in zip(candidates[:size], over) if end]
            live[group] = [each[:2] for each, end in zip(candidates, over) if not end][:size]
            done[group] += [(total / step, text) for text, total in ended]
            done[group] = sorted(done[group], reverse=True)[:size]
            said.update(text[-1] for text, _ in (*live[group], *ended) if text[-1] != STOP)
    return sorted({each for group in done for each in group}, reverse=True)


@pytest.mark.parametrize(("width", "groups"), [(2, 2), (4, 2), (6, 3), (5, 1), (3, 3)])
@pytest.mark.parametrize("diversity", [0.0, 0.7, 2.5])
def test_diverse_beams_equal_a_restatement(width, groups, diversity):
    shaped = Chain((Temperature(1.4),), draw=False)
    for first in range(VOCAB):
        request = asked([first, 2], max_tokens=7)
        events = by_engine(DiverseBeam(width, groups, diversity, n=width, sampling=shaped), request, TARGET)
        expected = diverse(width, groups, diversity, 7, (first, 2), 1.4)
        found = [event for event in events if isinstance(event, Beams)][-1].finished
        assert [tuple(request.tree.path(each.node, above=request.prompt)) for each in found] == [
            t for _, t in expected
        ]
        assert [each.score for each in found] == pytest.approx([score for score, _ in expected], abs=1e-5)


def test_negative_control_diversity_changes_the_texts():
    assert diverse(4, 2, 0.0, 7, (1, 2), 1.4) != diverse(4, 2, 2.5, 7, (1, 2), 1.4)


@pytest.mark.parametrize("settings", [{}, {"length_penalty": 0.3}, {"early_stopping": True, "patience": 2}], ids=str)
def test_one_group_and_groups_that_do_not_mind_are_plain_beams(settings):
    for first in range(VOCAB):
        for diverse_one, plain in [(DiverseBeam(3, 1, 5.0, **settings), 3), (DiverseBeam(6, 2, 0.0, **settings), 3)]:
            one, other = asked([first]), asked([first])
            assert by_engine(diverse_one, one) == by_engine(Beam(plain, **settings), other)


def test_more_diversity_gives_more_different_beginnings():
    lm, beginnings = tiny_lm(), []
    for diversity in (0.0, 0.1, 50.0):
        found = [lm.generate(f"{i}", nt.DiverseBeam(4, 4, diversity, n=4), max_tokens=4).choices for i in range(12)]
        beginnings.append(sum(len({choice.tokens[0] for choice in choices}) for choices in found))
    assert beginnings[0] == 12  # all groups say the same, and it is returned once
    assert beginnings[0] < beginnings[1] < beginnings[2] == 48


# --- stochastic beams -----------------------------------------------------------------------------------------------


def all_texts(length, temperature=1.0):
    """Every finished text of at most `length` tokens and its probability."""
    texts, growing = {}, {(): 0.0}
    while growing:
        text, total = growing.popitem()
        for token, lp in enumerate(logprobs(text, temperature)):
            longer = (*text, token)
            (texts if token == STOP or len(longer) == length else growing)[longer] = total + lp
    return {text: math.exp(total) for text, total in texts.items()}


@cache
def stochastic_runs(width, temperature=1.0, length=2):
    strategy = StochasticBeam(width, Sample(temperature=temperature))
    return [texts_of(strategy, seed, length) for seed in range(DRAWS)]


@pytest.mark.parametrize(("width", "length"), [(1, 3), (3, 3), (2, 2)])
def test_the_first_text_of_a_stochastic_beam_is_a_plain_sample(width, length):
    assert fits(Counter(run[0][0] for run in stochastic_runs(width, 1.0, length)), all_texts(length))


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_stochastic_beams_draw_without_replacement(temperature):
    """The chances of every first and second text: p of the one, times p of the other among those that are left."""
    expected = dict(pairs(all_texts(2, temperature)))
    counts = Counter((run[0][0], run[1][0]) for run in stochastic_runs(2, temperature))
    assert fits(counts, expected)
    assert not fits(counts, dict(pairs(all_texts(2, temperature * 1.4))))  # the negative control


def test_third_texts_come_as_often_as_they_should():
    """How often each text is the third of a draw without replacement, by enumeration."""
    texts, expected = all_texts(2), Counter()
    for (a, b), p in pairs(texts):
        for c in texts.keys() - {a, b}:
            expected[c] += p * texts[c] / (1 - texts[a] - texts[b])
    assert fits(Counter(run[2][0] for run in stochastic_runs(3)), expected)


def test_negative_control_noise_that_is_not_conditioned_is_noticed(monkeypatch):
    monkeypatch.setattr(stochastic, "_truncate", lambda limit, value, largest: value)
    runs = [texts_of(StochasticBeam(2), seed, 2) for seed in range(DRAWS)]
    assert not fits(Counter((run[0][0], run[1][0]) for run in runs), dict(pairs(all_texts(2))))


def test_texts_differ_and_there_are_as_many_as_exist():
    for run in stochastic_runs(3, 1.0, 3):
        assert len({text for text, _ in run}) == 3
        assert [each.score for _, each in run] == sorted((each.score for _, each in run), reverse=True)
    every = texts_of(StochasticBeam(200), 1, 3)
    assert {text for text, _ in every} == all_texts(3).keys()
    for text, each in every:
        assert each.logprob == pytest.approx(math.log(all_texts(3)[text]), abs=1e-5)


def test_the_largest_score_is_a_standard_gumbel():
    """exp(-exp(-G)) of it is then uniform: ten bins."""
    uniform = [math.exp(-math.exp(-run[0][1].score)) for run in stochastic_runs(2)]
    assert fits(Counter(int(10 * u) for u in uniform), dict.fromkeys(range(10), 0.1))


def test_estimates_by_importance_weights_are_right_on_average():
    """The expected length of a text, from the weights of the docstring: within five standard errors."""
    estimates = []
    for run in stochastic_runs(3, 1.0, 3):
        kappa = run[-1][1].score
        weights = [math.exp(each.logprob) / -math.expm1(-math.exp(each.logprob - kappa)) for _, each in run[:-1]]
        estimates.append(sum(weight * len(text) for weight, (text, _) in zip(weights, run)))
    mean = sum(estimates) / DRAWS
    error = math.sqrt(sum((each - mean) ** 2 for each in estimates)) / DRAWS
    expected = sum(p * len(text) for text, p in all_texts(3).items())
    assert abs(mean - expected) < 5 * error < 0.5


@pytest.mark.parametrize("limit", [-700.0, -3.0, 0.0, 40.0])
@pytest.mark.parametrize("largest", [-900.0, -2.0, 5.0, 30.0])
@pytest.mark.parametrize("below", [0.0, 1e-12, 0.3, 8.0, 200.0])
def test_conditioning_is_exact_where_the_plain_formula_is_not(limit, largest, below):
    value = largest - below
    with localcontext() as context:
        context.prec = 1200
        exact = -((-Decimal(limit)).exp() - (-Decimal(largest)).exp() + (-Decimal(value)).exp()).ln()
    assert stochastic._truncate(limit, value, largest) == pytest.approx(float(exact), rel=1e-9, abs=1e-9)


def test_stochastic_beams_are_the_same_in_any_company():
    lm, strategy = tiny_lm(), nt.StochasticBeam(4, nt.Sample(temperature=2.0, top_k=50))
    crowd = lm.generate(["ab", "c", "ab"], strategy, max_tokens=6, seed=9)
    for prompt, output in zip(["ab", "c", "ab"], crowd):
        alone = lm.generate(prompt, strategy, max_tokens=6, seed=9)
        assert [(each.tokens, each.score) for each in output.choices] == [
            (each.tokens, each.score) for each in alone.choices
        ]
