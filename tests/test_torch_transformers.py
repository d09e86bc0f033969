"""Both torch backends beside transformers: the same texts from the same weights, in every mode that it has."""

import itertools
import math
from collections import Counter
from functools import cache
from types import SimpleNamespace

import pytest

import nextok as nt
from nextok.core.events import Beams
from nextok.core.tree import Tree
from nextok.engine.engine import Engine
from nextok.engine.timing import FreeTiming
from nextok.formats import open_model
from nextok.hub import resolve
from nextok.models.base import Feed
from nextok.models.torch.huggingface import HuggingFace
from test_distribution import filtered, fits
from toys import SAMPLINGS, asked
from transformers_models import (
    BACKENDS,
    LLAMAS,
    from_checkpoint,
    generated,
    greedy,
    of_transformers,
    plain_logits,
    quiet,
    straight_logits,
    tiny,
    written,
)

NEAR = 1e-4
PROMPTS = [[3, 5], [7, 9, 11, 30, 2, 8, 21], [20], [4, 4, 6, 4, 4, 6, 4, 4]]
ENDS, AT_MOST = [0, 1], 24


@pytest.fixture(scope="module", autouse=True)
def _quiet():
    with quiet():
        yield


@cache
def ours(backend, kind, seed=0, vocab=40):
    return BACKENDS[backend](tiny(kind, seed=seed, vocab=vocab))


@cache
def drafter(backend, kind):
    """Another model of the same kind, which guesses well at times: half of its weights are the target's."""
    target, other = tiny(kind), tiny(kind, seed=1)
    mixed = type(target)(target.config).eval()
    mixed.load_state_dict(
        {name: 0.9 * each + 0.1 * other.state_dict()[name] for name, each in target.state_dict().items()}
    )
    return mixed if backend is None else BACKENDS[backend](mixed)


EVERY = pytest.mark.parametrize(("backend", "kind"), list(itertools.product(BACKENDS, LLAMAS)))


@pytest.mark.parametrize("kind", LLAMAS)
def test_the_logits_of_all_three_agree(kind):
    path = [(7 * i * i + 3) % 40 for i in range(60)]
    expected = plain_logits(tiny(kind), path)
    for backend in BACKENDS:
        assert (straight_logits(ours(backend, kind), path) - expected).abs().max() < NEAR


@EVERY
def test_caches_that_grow_in_a_pass_can_be_moved_and_forked_after_it(backend, kind):
    model, path = ours(backend, kind), [(11 * i + 1) % 40 for i in range(64)]
    caches, growths = [model.open() for _ in range(80)], model.pool.growths
    for each in caches:  # more than the pool has had room for
        model.logits([Feed.from_run(each, path[:60])])
    assert model.pool.growths > growths
    forked = caches[7].fork(60)
    forked.move([58, 59], [59, 58])
    forked.move([58, 59], [59, 58])
    found = model.logits([Feed.from_run(each, path[60:], 60) for each in (forked, caches[3])])
    expected = plain_logits(tiny(kind), path)[60:]
    assert (found.view(2, 4, -1) - expected).abs().max() < NEAR


@EVERY
def test_greedy_texts_are_those_of_transformers_alone_and_padded_on_the_left(backend, kind):
    model = ours(backend, kind)
    together = written(model, nt.Greedy(), PROMPTS, ENDS, AT_MOST)
    assert together == greedy(tiny(kind), PROMPTS, ENDS, AT_MOST)
    for prompt, text in zip(PROMPTS, together):
        assert [text] == greedy(tiny(kind), [prompt], ENDS, AT_MOST)
        assert [text] == written(model, nt.Greedy(), [prompt], ENDS, AT_MOST)


def test_the_texts_are_worth_comparing():
    """They differ from prompt to prompt and from kind to kind, and some of them end early."""
    texts = [tuple(text) for kind in LLAMAS for text in greedy(tiny(kind), PROMPTS, ENDS, AT_MOST)]
    assert len(set(texts)) == len(texts)
    assert any(len(text) < AT_MOST for text in texts)
    assert any(len(text) == AT_MOST for text in texts)


def test_negative_control_other_weights_write_other_texts():
    assert written(ours("adapter", "llama", seed=1), nt.Greedy(), PROMPTS, ENDS, AT_MOST) != greedy(
        tiny("llama"), PROMPTS, ENDS, AT_MOST
    )


@EVERY
def test_prompt_lookup_writes_what_plain_decoding_writes_there_and_here(backend, kind):
    prompts = [[*prompt, *text, *prompt] for prompt, text in zip(PROMPTS, greedy(tiny(kind), PROMPTS, [], 20))]
    strategy = nt.Speculate(nt.PromptLookup(max_draft=4, shortest=1))
    found = written(ours(backend, kind), strategy, prompts, ENDS, AT_MOST)
    assert found == greedy(tiny(kind), prompts, ENDS, AT_MOST)
    for prompt, text in zip(prompts, found):  # transformers drafts for one text at a time
        assert [text] == greedy(tiny(kind), [prompt], ENDS, AT_MOST, prompt_lookup_num_tokens=4)


@EVERY
def test_assisted_decoding_writes_what_plain_decoding_writes_there_and_here(backend, kind):
    """Here all texts at once, each with a draft of its own length."""
    lent = SimpleNamespace(model=drafter(backend, kind))
    strategy = nt.Speculate(nt.DraftModel(lent, max_draft=5))
    found = written(ours(backend, kind), strategy, PROMPTS, ENDS, AT_MOST)
    assert found == greedy(tiny(kind), PROMPTS, ENDS, AT_MOST)
    for prompt, text in zip(PROMPTS, found):
        assert [text] == greedy(tiny(kind), [prompt], ENDS, AT_MOST, assistant_model=drafter(None, kind))


def test_transformers_refuses_to_assist_a_batch():
    """Which is why the comparison above goes text by text."""
    with pytest.raises(ValueError, match="batch_size = 1"):
        greedy(tiny("llama"), PROMPTS, ENDS, AT_MOST, assistant_model=drafter(None, "llama"))


@EVERY
def test_drafts_of_different_lengths_share_a_pass(backend, kind):
    model, shapes = ours(backend, kind), []
    lent = SimpleNamespace(model=drafter(backend, kind))
    engine = Engine(Watched(model, shapes), timing=FreeTiming())
    drafts = [nt.DraftModel(lent, max_draft=5), nt.PromptLookup(max_draft=3, shortest=1)]
    for index, prompt in enumerate(PROMPTS):
        request = asked(prompt, max_tokens=AT_MOST, stop_ids=frozenset(ENDS))
        engine.submit(request, nt.Speculate(drafts[index % 2]), lambda event: None)
    engine.run()
    assert any(len(set(lengths)) > 2 for lengths in shapes)


class Watched:
    """A model that notes how many tokens each feed of a pass has."""

    def __init__(self, model, shapes):
        self.model, self.shapes = model, shapes
        self.vocab_size, self.context, self.open = model.vocab_size, model.context, model.open
        self.bytes_per_token = model.bytes_per_token
        self.backend, self.precision, self.rounds_by_shape = model.backend, model.precision, model.rounds_by_shape
        self.bytes_per_token = model.bytes_per_token

    def answer(self, feeds, rows):
        self.shapes.append([len(feed.tokens) for feed in feeds])
        return self.model.answer(feeds, rows)


@EVERY
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_speculation_is_sampling_token_for_token(backend, kind, sampling):
    model = ours(backend, kind)
    lent = SimpleNamespace(model=drafter(backend, kind))
    drafts = (nt.PromptLookup(max_draft=4, shortest=1), nt.DraftModel(lent, 4), nt.TokenTree(lent, widths=(2, 2)))
    plain = written(model, SAMPLINGS[sampling], PROMPTS, ENDS, 14)
    for draft in drafts:
        assert written(model, nt.Speculate(draft, SAMPLINGS[sampling]), PROMPTS, ENDS, 14) == plain


def searched(model, strategy):
    """What a beam search finds for all prompts, as [[(tokens, score)]]."""
    engine, runs = Engine(model), []
    for prompt in PROMPTS:
        request, events = asked(prompt, max_tokens=12, stop_ids=frozenset(ENDS)), []
        engine.submit(request, strategy, events.append)
        runs.append((request, events))
    engine.run()
    found = [(request, [e for e in events if isinstance(e, Beams)][-1].finished) for request, events in runs]
    return [
        [(request.tree.path(each.node, above=request.prompt), each.score) for each in best[: strategy.n]]
        for request, best in found
    ]


@EVERY
@pytest.mark.parametrize("early", [True, False, "never"])
@pytest.mark.parametrize(("width", "penalty"), [(2, 0.0), (4, 1.0)])
def test_beams_and_their_scores_are_those_of_transformers(backend, kind, early, width, penalty):
    found = searched(ours(backend, kind), nt.Beam(width, length_penalty=penalty, early_stopping=early, n=2))
    settings = {"num_beams": width, "length_penalty": penalty, "early_stopping": early, "num_return_sequences": 2}
    expected = generated(tiny(kind), PROMPTS, ENDS, 12, output_scores=True, **settings)
    assert alike(found, expected)


def alike(found, expected):
    """Whether these are the same texts with the same scores, in the same order."""
    pairs = [(mine, other) for one, two in zip(found, expected, strict=True) for mine, other in zip(one, two)]
    return all(
        tokens == theirs and math.isclose(score, other, rel_tol=1e-4) for (tokens, score), (theirs, other) in pairs
    )


@pytest.mark.parametrize("change", [{"length_penalty": 1.2}, {"width": 3}])
def test_negative_control_other_settings_find_other_beams(change):
    beam = {"width": 4, "length_penalty": 1.0, "early_stopping": True, "n": 2} | change
    settings = {"num_beams": 4, "length_penalty": 1.0, "early_stopping": True, "num_return_sequences": 2}
    expected = generated(tiny("llama"), PROMPTS, ENDS, 12, output_scores=True, **settings)
    assert not alike(searched(ours("adapter", "llama"), nt.Beam(**beam)), expected)


DRAWS, FEW = 3000, 7


def enumerated(kind, sampling):
    """The probability of every text of two tokens behind [2, 5], from the logits of transformers."""
    settings, texts = (sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p), {}
    model = tiny(kind, vocab=FEW)
    for first, p in filtered(plain_logits(model, [2, 5])[-1].tolist(), *settings).items():
        for second, q in filtered(plain_logits(model, [2, 5, first])[-1].tolist(), *settings).items():
            texts[first, second] = p * q
    return texts


def drawn(model, strategy):
    """All on one tree, so that the few texts there are are read once."""
    engine, tree, requests = Engine(model, seats=256), Tree(), []
    for seed in range(DRAWS):
        requests.append(request := asked([2, 5], seed=seed, tree=tree, max_tokens=2, stop_ids=frozenset()))
        engine.submit(request, strategy, lambda event: None)
    engine.run()
    return Counter(tuple(request.tokens) for request in requests)


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_sampling_follows_the_softmax_of_transformers(backend, kind):
    sampling = nt.Sample(temperature=2.5, top_k=6, min_p=0.01)
    counts = drawn(ours(backend, kind, vocab=FEW), sampling)
    assert len(counts) > 10
    assert fits(counts, enumerated(kind, sampling))
    warmer = nt.Sample(temperature=3.0, top_k=6, min_p=0.01)  # the negative control
    assert not fits(counts, enumerated(kind, warmer))


@pytest.mark.parametrize("backend", BACKENDS)
def test_speculative_sampling_follows_it_too(backend):
    sampling = nt.Sample(temperature=2.5)
    lent = SimpleNamespace(model=ours(backend, "llama", seed=1, vocab=FEW))
    counts = drawn(ours(backend, "llama", vocab=FEW), nt.Speculate(nt.DraftModel(lent, 3), sampling))
    assert fits(counts, enumerated("llama", sampling))


STORIES = ["Once upon a time there was a small", "One, two, three, four, five; one, two,"]


@pytest.fixture(scope="module")
def default_model():
    """SmolLM2 three times, in float32: of transformers, over the adapter, and in nextok's own module."""
    checkpoint = open_model(resolve("smollm2").path)
    theirs, tokenizer = of_transformers(checkpoint), nt.load_tokenizer("smollm2")
    both = {"adapter": HuggingFace(theirs), "torch": from_checkpoint(checkpoint)}
    return theirs, {name: nt.LM(model, tokenizer) for name, model in both.items()}


@pytest.mark.model
def test_the_default_model_writes_as_in_transformers(default_model):
    theirs, both = default_model
    prompts = [both["torch"].tokenizer.encode(story) for story in STORIES]
    path = prompts[0] + prompts[1]
    ends = sorted(both["torch"].tokenizer.eos_ids)
    expected, texts = plain_logits(theirs, path), greedy(theirs, prompts, ends, 8)
    beams = generated(theirs, prompts[:1], ends, 4, num_beams=3)
    for lm in both.values():
        assert (straight_logits(lm.model, path) - expected).abs().max() < 1e-3  # of logits up to 30
        assert [each.tokens for each in lm.generate(prompts, max_tokens=8)] == texts
        for draft in (nt.PromptLookup(), nt.DraftModel(lm, max_draft=3)):
            drafted = lm.generate(prompts, nt.Speculate(draft), max_tokens=8)
            assert [each.tokens for each in drafted] == texts
        found = lm.generate(prompts[0], nt.Beam(3), max_tokens=4)
        assert found.tokens == beams[0][0][0]
