"""Transforms that look back: their definitions, and that a guessed text counts exactly as a committed one."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation import logits_process as theirs

from nextok.core.ending import Limits
from nextok.core.query import Pick, Query, Row, Top
from nextok.core.request import Request
from nextok.core.tree import ROOT, Tree
from nextok.readout.filters import transform
from nextok.sampling.edits import Add, Forbid, Scale
from nextok.sampling.past import Ledger, Past, _find_matches
from nextok.sampling.penalties import (
    DRY,
    BadWords,
    FrequencyPenalty,
    Mirostat,
    NoRepeatNGram,
    PresencePenalty,
    RepetitionPenalty,
)
from nextok.sampling.sampler import Sampler
from nextok.strategies.sample import Sample
from toys import TARGET, asked, by_reference

VOCAB = 8
BYTES = (b"a", b"b", b"c\nd", b":", b"x", b"", b"y*", b"\xff")
BREAKERS = ("\n", ":", "*")
TEXTS = st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=60) | st.lists(
    st.integers(0, 1), min_size=1, max_size=60
)
DRIES = st.builds(
    DRY,
    multiplier=st.sampled_from([0.5, 2.0]),
    base=st.sampled_from([1.0, 1.75]),
    allowed_length=st.integers(1, 4),
    window=st.none() | st.integers(1, 30),
    breakers=st.sampled_from([(), BREAKERS]),
)


def request_of(prompt, generated=(), token_bytes=BYTES):
    tree = Tree()
    request = Request(tree, tree.extend(ROOT, prompt), Limits(max_tokens=1000, token_bytes=token_bytes))
    list(request.commit(generated))
    return request


def found_at(request, *transforms, node=None):
    """What the transforms mean after the text that ends in `node`."""
    node = request.tip if node is None else node
    return request.row(0, node, Query((node,), (Pick(Sampler(transforms)),)), 0).read.transforms


def ours(logits, request, *transforms):
    return transform(logits, found_at(request, *transforms), Row(0, Top(1), 0, 0))


def texts_and_rows(count, seed=0):
    """Prompts, generated tokens and rows of logits with ties, infinities and huge numbers among them."""
    dice = np.random.default_rng(seed)
    for index in range(count):
        known = [2, VOCAB][index % 2]
        prompt = dice.integers(0, known, dice.integers(1, 12)).tolist()
        generated = dice.integers(0, known, dice.integers(0, 12)).tolist()
        logits = [dice.normal(0, 3, VOCAB), dice.integers(-2, 3, VOCAB), dice.normal(0, 1e30, VOCAB)][index % 3]
        logits = np.where(dice.random(VOCAB) < 0.2, -np.inf, logits)
        logits[dice.integers(VOCAB)] = 0.5
        yield prompt, generated, logits.astype(np.float32)


def close(found, expected):
    return np.allclose(found, expected, rtol=1e-6, atol=1e-6)


def by_transformers(processor, tokens, logits):
    return processor(torch.tensor([tokens]), torch.tensor(logits[None]).double())[0].numpy()


@pytest.mark.parametrize("penalty", [0.5, 1.3, 5])
def test_the_repetition_penalty_is_that_of_transformers(penalty):
    for prompt, generated, logits in texts_and_rows(400):
        expected = by_transformers(
            theirs.RepetitionPenaltyLogitsProcessor(float(penalty)), prompt + generated, logits
        )
        assert close(ours(logits, request_of(prompt, generated), RepetitionPenalty(penalty)), expected)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_no_ngram_is_repeated_as_in_transformers(size):
    forbidden = 0
    for prompt, generated, logits in texts_and_rows(400):
        expected = by_transformers(theirs.NoRepeatNGramLogitsProcessor(size), prompt + generated, logits)
        assert close(ours(logits, request_of(prompt, generated), NoRepeatNGram(size)), expected)
        forbidden += np.isneginf(expected).sum() > np.isneginf(logits).sum()
    assert forbidden > 5


def test_bad_words_are_those_of_transformers():
    dice = np.random.default_rng(5)
    for prompt, generated, logits in texts_and_rows(400):
        words = [dice.integers(0, VOCAB, dice.integers(1, 4)).tolist() for _ in range(3)]
        text = prompt + generated
        words.append([*text[-2:], 3])
        words = [word for word in words if len(word) <= len(text)]  # theirs leaves longer ones out of account
        if words:
            expected = by_transformers(theirs.NoBadWordsLogitsProcessor(words, eos_token_id=-1), text, logits)
            found = ours(logits, request_of(prompt, generated), BadWords(tuple(map(tuple, words))))
            assert close(found, expected)


def test_presence_and_frequency_follow_openais_formula():
    """mu[j] - c[j] * frequency - (c[j] > 0) * presence, with c[j] the count in what was generated."""
    for prompt, generated, logits in texts_and_rows(400):
        count = np.array([generated.count(token) for token in range(VOCAB)])
        expected = logits.astype(np.float64) - count * 0.3 - (count > 0) * 1.25
        found = ours(logits, request_of(prompt, generated), PresencePenalty(1.25), FrequencyPenalty(0.3))
        assert close(found, expected)


def dry_penalty(dry, tokens, breaks, candidate):
    """The definition: the longest run before an earlier `candidate` that the text ends with too decides."""
    longest = 0
    start = 0 if dry.window is None else max(0, len(tokens) - dry.window)
    for place in range(start, len(tokens)):
        if tokens[place] != candidate:
            continue
        length = 0
        while (
            place - 1 - length >= start
            and tokens[place - 1 - length] == tokens[len(tokens) - 1 - length]
            and tokens[len(tokens) - 1 - length] not in breaks
        ):
            length += 1
        longest = max(longest, length)
    if longest < dry.allowed_length or candidate in breaks:
        return 0.0
    return dry.multiplier * dry.base ** (longest - dry.allowed_length)


@settings(max_examples=1500, deadline=None)
@given(DRIES, TEXTS, st.integers(0, 20))
def test_dry_follows_its_definition(dry, text, generated):
    """As llama.cpp and text-generation-webui have it: what ends a repetition is never penalised."""
    cut = max(1, len(text) - generated)
    breaks = {token for token in range(VOCAB) if any(each.encode() in BYTES[token] for each in dry.breakers)}
    found = ours(np.zeros(VOCAB, np.float32), request_of(text[:cut], text[cut:]), dry)
    expected = [-dry_penalty(dry, text, breaks, token) for token in range(VOCAB)]
    assert np.allclose(found, expected, rtol=1e-6)


def test_dry_without_token_bytes_knows_no_breakers():
    text = [0, 2, 1, 0, 2]
    assert found_at(request_of(text, token_bytes=()), DRY(1.0, breakers=BREAKERS))[0].tokens == (1,)


def test_dry_stays_finite_on_endless_repetitions():
    found = ours(np.zeros(VOCAB, np.float32), request_of([1] * 5000), DRY(1e6, base=100.0))
    assert np.isfinite(found).all()
    assert found[1] < -1e35


def naive_matches(tokens):
    """Place -> how many tokens up to there are those that the text ends with."""
    matches = {}
    for place in range(len(tokens) - 1):
        length = 0
        while length <= place and tokens[place - length] == tokens[len(tokens) - 1 - length]:
            length += 1
        if length:
            matches[place] = length
    return matches


@settings(max_examples=500, deadline=None)
@given(TEXTS, st.integers(1, 60), st.lists(st.integers(0, VOCAB - 1), max_size=5))
def test_matches_by_any_way_are_the_naive_ones(text, cut, tail):
    cut = min(cut, len(text))
    grown = Ledger(text[:cut])
    for token in text[cut:]:
        grown.matches()
        grown.add(token)
    at_once = Ledger(text)  # of more than 32 tokens: the Z-algorithm
    assert grown.matches() == at_once.matches() == _find_matches(text) == naive_matches(text)
    assert Past(grown, tail, 0, None).matches() == naive_matches(text + tail)
    late = Ledger(text[:cut])
    for token in text[cut:]:
        late.add(token)
    assert late.matches() == naive_matches(text)


def meaning(edits):
    """Edits without the order in which they name their tokens."""
    said = []
    for edit in edits:
        match edit:
            case Add(tokens, amounts):
                said.append(("add", dict(zip(tokens, amounts))))
            case Scale(tokens, factor):
                said.append(("scale", set(tokens), factor))
            case Forbid(tokens):
                said.append(("forbid", set(tokens)))
    return said


@st.composite
def trees(draw):
    """A prompt, committed tokens, and a random tree of guesses below them as (parent's index, token)."""
    small = st.integers(0, draw(st.sampled_from([1, 3, VOCAB - 1])))
    prompt = draw(st.lists(small, min_size=1, max_size=40))
    committed = draw(st.lists(small, max_size=40))
    guesses = draw(st.lists(st.tuples(st.integers(0, 12), small), max_size=12))
    return prompt, committed, guesses


BACKWARD = (
    RepetitionPenalty(1.3),
    PresencePenalty(0.5),
    FrequencyPenalty(0.25),
    NoRepeatNGram(1),
    NoRepeatNGram(3),
    DRY(0.8, allowed_length=1, breakers=BREAKERS),
    DRY(0.8, allowed_length=2, window=9),
    BadWords(((1,), (0, 1), (1, 0, 1))),
)


@settings(max_examples=300, deadline=None)
@given(trees(), st.booleans())
def test_a_guessed_text_counts_as_a_committed_one(tree, read_before):
    prompt, committed, guesses = tree
    request = request_of(prompt)
    for token in committed:
        if read_before:  # so that the ledger grows token by token
            found_at(request, *BACKWARD)
        list(request.commit([token]))
    nodes = [request.tip]
    for parent, token in guesses:
        nodes.append(request.tree.add(nodes[parent % len(nodes)], token))
    for node in nodes:
        text = request.tree.path(node, above=request.prompt)
        fresh = request_of(prompt, text)
        assert meaning(found_at(request, *BACKWARD, node=node)) == meaning(found_at(fresh, *BACKWARD))
        assert request.past(node).tokens == prompt + text
        assert request.past(node).last(3) == tuple((prompt + text)[-3:])


@settings(max_examples=100, deadline=None)
@given(trees())
def test_nodes_beside_the_committed_text_are_judged_by_their_own(tree):
    """Beams that were left behind, for instance: they hang below the prompt but not below the tip."""
    prompt, committed, guesses = tree
    request = request_of(prompt)
    nodes = [request.prompt]
    for parent, token in guesses:
        nodes.append(request.tree.add(nodes[parent % len(nodes)], token))
    list(request.commit(committed))
    for node in nodes:
        fresh = request_of(prompt, request.tree.path(node, above=request.prompt))
        assert meaning(found_at(request, *BACKWARD, node=node)) == meaning(found_at(fresh, *BACKWARD))


def test_negative_control_a_forgotten_tail_is_noticed(monkeypatch):
    original = Request.past
    monkeypatch.setattr(
        Request, "past", lambda self, node: Past(original(self, node).ledger, [], node, original(self, node).step)
    )
    with pytest.raises(AssertionError):
        test_a_guessed_text_counts_as_a_committed_one()


@pytest.mark.parametrize("version", [1, 2])
def test_mirostat_remembers_each_branch_apart(version):
    """Mu at every node that was drawn is that of a request that wrote this very text."""
    for seed in range(10):
        request = asked([1, 2], seed=seed, max_tokens=10, stop_ids=frozenset())
        by_reference(Sample(mirostat=Mirostat(version, tau=1.0, eta=0.5)), request)
        nodes = request.tree.nodes(request.tip, above=request.prompt)
        mus = [found_at(request, Mirostat(version, tau=1.0, eta=0.5), node=node)[0].mu for node in nodes]
        for length, mu in itertools.islice(enumerate(mus, 1), 9):
            shorter = asked([1, 2], seed=seed, max_tokens=length, stop_ids=frozenset())
            by_reference(Sample(mirostat=Mirostat(version, tau=1.0, eta=0.5)), shorter)
            assert shorter.tokens == request.tokens[:length]
            assert found_at(shorter, Mirostat(version, tau=1.0, eta=0.5))[0].mu == mu != 2.0
        never = request.tree.add(request.tip, (request.tokens[-1] + 1) % TARGET.vocab_size)
        assert found_at(request, Mirostat(version), node=never)[0].mu == 10.0  # twice tau: no request drew this
