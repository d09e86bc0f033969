"""Sampling and speculation follow the model's exact distribution, and a wrong one is noticed.

Every text of two tokens is enumerated with its probability in plain Python, thousands of seeds are drawn, and
Pearson's chi-square decides at alpha = 1e-6. The negative controls are broken on purpose and must fail.
"""

import itertools
import math
from collections import Counter
from statistics import NormalDist

import numpy as np
import pytest

from nextok.core.events import Verified
from nextok.core.query import pick
from nextok.engine.reference import drive
from nextok.readout import filters, readout
from nextok.strategies.sample import Sample
from nextok.strategies.speculate import Speculate
from toys import DRAFTS, TARGET, VOCAB, asked

DRAWS = 6000
PROMPT = [2, 5]


def filtered(logits, temperature, top_k, top_p, min_p):
    """The next-token distribution by the definitions, sorted best first at every filter."""
    weights = {token: math.exp(logit / temperature) for token, logit in enumerate(logits)}
    ranked = sorted(weights, key=lambda token: (-weights[token], token))[: top_k or VOCAB]
    if top_p is not None:
        total, reached = sum(weights[token] for token in ranked), 0.0
        for size, token in enumerate(ranked, 1):
            reached += weights[token]
            if reached >= top_p * total:
                ranked = ranked[:size]
                break
    if min_p is not None:
        ranked = [token for token in ranked if weights[token] >= min_p * weights[ranked[0]]]
    total = sum(weights[token] for token in ranked)
    return {token: weights[token] / total for token in ranked}


def exact(sampling):
    """The probability of every text of two tokens."""
    settings = (sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p)
    texts = {}
    for first, p in filtered(TARGET._scores(tuple(PROMPT)), *settings).items():
        for second, q in filtered(TARGET._scores((*PROMPT, first)), *settings).items():
            texts[first, second] = p * q
    return texts


def drawn(strategy):
    """How often each text came, one seed a draw."""
    return Counter(texts(strategy, DRAWS))


def texts(strategy, draws):
    """The text of each seed."""
    for seed in range(draws):
        request = asked(PROMPT, seed=seed, max_tokens=2, stop_ids=frozenset())
        for _ in drive(strategy, request, TARGET):
            pass
        yield tuple(request.tokens)


def fits(counts, probabilities):
    """Pearson's test at alpha = 1e-6, rare texts pooled; the quantile is Wilson and Hilferty's approximation."""
    total = sum(counts.values())
    assert sum(probabilities.values()) == pytest.approx(1)
    if any(text not in probabilities for text in counts):
        return False
    expected, observed, rest = [], [], [0.0, 0]
    for text, p in probabilities.items():
        if p * total < 10:
            rest = [rest[0] + p * total, rest[1] + counts[text]]
        else:
            expected.append(p * total)
            observed.append(counts[text])
    if rest[0] >= 10:
        expected.append(rest[0])
        observed.append(rest[1])
    statistic = sum((o - e) ** 2 / e for o, e in zip(observed, expected))
    freedom = len(expected) - 1
    z = NormalDist().inv_cdf(1 - 1e-6)
    return statistic < freedom * (1 - 2 / (9 * freedom) + z * math.sqrt(2 / (9 * freedom))) ** 3


SAMPLINGS = [
    Sample(),
    Sample(temperature=0.7),
    Sample(temperature=1.5, top_k=4),
    Sample(top_p=0.8),
    Sample(min_p=0.15),
    Sample(temperature=1.2, top_k=6, top_p=0.9, min_p=0.05),
]


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=repr)
def test_sampling_follows_softmax(sampling):
    assert fits(drawn(sampling), exact(sampling))


@pytest.mark.parametrize("draft", ["similar", "unrelated", "tree", "random", "adversary", "liar"])
@pytest.mark.parametrize("sampling", [SAMPLINGS[0], SAMPLINGS[5]], ids=repr)
def test_speculation_follows_softmax(draft, sampling):
    """Seed by seed it writes what plain sampling writes, which follows the softmax over six times as many seeds."""
    found = [*texts(Speculate(DRAFTS[draft], sampling), DRAWS // 6)]
    assert found == [*texts(sampling, DRAWS // 6)]
    assert fits(Counter(found), exact(sampling))


def test_positions_and_seeds_draw_independently():
    """The two tokens of a text share no noise: on a model that ignores its input they are independent."""
    from nextok.models.toy import ToyModel

    blind = ToyModel(4, lambda path: [0.0, 0.5, 1.0, -0.5])
    counts = Counter()
    for seed in range(DRAWS):
        request = asked([0], seed=seed, max_tokens=2, stop_ids=frozenset())
        list(drive(Sample(), request, blind))
        counts[tuple(request.tokens)] += 1
    p = np.exp([0.0, 0.5, 1.0, -0.5])
    p /= p.sum()
    assert fits(counts, {(a, b): p[a] * p[b] for a, b in itertools.product(range(4), repeat=2)})


class AcceptsEverything(Speculate):
    """A wrong acceptance rule: whatever the draft model says is taken."""

    def decode(self, request):
        propose = self.draft.begin(request, self.sampling.sampler)
        while not request.finish_reason:
            drafted = yield from propose()
            picked = yield from pick([request.tip, *drafted], self.sampling.sampler)
            tokens = [request.tree.token[node] for node in drafted] + [picked[(drafted or [request.tip])[-1]]]
            yield Verified(len(drafted), len(drafted))
            yield from request.commit(tokens)


class RedrawsAfterRejection(Speculate):
    """A wrong residual: after a rejection it draws again, which gives the rejected token a second chance."""

    def decode(self, request):
        propose = self.draft.begin(request, self.sampling.sampler)
        while not request.finish_reason:
            drafted = yield from propose()
            picked = yield from pick([request.tip, *drafted], self.sampling.sampler)
            guess = request.tree.token[drafted[0]] if drafted else None
            if guess is not None and picked[request.tip] != guess:
                request._seed += 1 << 32
                picked = yield from pick([request.tip], self.sampling.sampler)
                if picked[request.tip] != guess:
                    picked[request.tip] = guess
            yield from request.commit([picked[request.tip]])


@pytest.mark.parametrize("wrong", [AcceptsEverything, RedrawsAfterRejection])
def test_negative_control_a_wrong_acceptance_rule_is_noticed(wrong):
    assert not fits(drawn(wrong(DRAFTS["unrelated"], Sample())), exact(Sample()))


def uniform_noise(seed, position, tokens):
    return np.exp(-np.exp(-honest(seed, position, tokens)))  # u itself instead of -log(-log u)


def noise_without_position(seed, position, tokens):
    return honest(seed, 0, tokens)


def slightly_biased_noise(seed, position, tokens):
    return 1.1 * honest(seed, position, tokens)


honest = readout.gumbel


@pytest.mark.parametrize("wrong", [uniform_noise, noise_without_position, slightly_biased_noise])
def test_negative_control_wrong_noise_is_noticed(wrong, monkeypatch):
    monkeypatch.setattr(readout, "gumbel", wrong)
    assert not fits(drawn(Sample()), exact(Sample()))


def one_token_less(values, p):
    return nucleus(values, p)[:-1] if len(nucleus(values, p)) > 1 else nucleus(values, p)


def one_token_more(values, p):
    return filters.largest(values, len(nucleus(values, p)) + 1)


nucleus = filters._nucleus


@pytest.mark.parametrize("wrong", [one_token_less, one_token_more])
def test_negative_control_a_wrong_filter_is_noticed(wrong, monkeypatch):
    monkeypatch.setattr(filters, "_nucleus", wrong)
    assert not fits(drawn(Sample(top_p=0.8)), exact(Sample(top_p=0.8)))


def test_negative_control_a_slightly_wrong_temperature_is_noticed():
    assert not fits(drawn(Sample(temperature=0.9)), exact(Sample()))
