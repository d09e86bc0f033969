"""Beam search as transformers does it: the same texts and scores, setting by setting; and the same chances."""

import itertools
import math
from collections import Counter
from functools import cache
from statistics import NormalDist

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper

from nextok.core.events import Beams
from nextok.engine.engine import Engine
from nextok.formats import open_model
from nextok.models.llama_numpy import LlamaNumpy
from nextok.models.native import NativeModel
from nextok.models.toy import ToyModel
from nextok.sampling.transforms import Temperature, TopK
from nextok.strategies.beam.beam import Beam
from nextok.strategies.sample import Chain, Greedy, Sample
from toys import asked, by_engine
from transformers_models import quiet

VOCAB = 40
PROMPTS = [[3, 5], [7, 9, 11, 30, 2], [20]]
WIDTHS, PENALTIES = (2, 3, 5), (0.0, 0.6, 1.0, 2.0, -1.0)
ENDS = {8: [0], 20: list(range(7))}  # tokens at most -> what ends a text
NEAR = 1e-5
"""Relative: scores that differ by less are a near tie, which float32 sums in another order may decide otherwise."""


@pytest.fixture(scope="module", autouse=True)
def one_quiet_thread():
    with quiet():
        yield


@cache
def theirs(vocab=VOCAB):
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128}
    config = LlamaConfig(
        vocab_size=vocab, initializer_range=0.6, eos_token_id=0, bos_token_id=2, pad_token_id=0, **shape, **heads
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module", params=["numpy", "native"])
def ours(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    theirs().save_pretrained(folder)
    checkpoint = open_model(folder)
    return LlamaNumpy(checkpoint) if request.param == "numpy" else NativeModel(checkpoint, exact=True, threads=1)


def generated(prompts, ends, at_most, **settings):
    """What transformers generates for prompts of any lengths, as [[(tokens, score)]]."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    settings = {"do_sample": False, "return_dict_in_generate": True, "output_scores": True} | settings
    found = theirs().generate(
        ids, attention_mask=mask, max_new_tokens=at_most, eos_token_id=ends, pad_token_id=0, **settings
    )
    n = settings.get("num_return_sequences", 1)
    texts = [(cut(row[longest:].tolist(), ends), float(score)) for row, score in zip(*found_pairs(found))]
    return [texts[i : i + n] for i in range(0, len(texts), n)]


def found_pairs(found):
    return found.sequences, found.sequences_scores


def cut(tokens, ends):
    """Without what follows the first end: padding."""
    for index, token in enumerate(tokens):
        if token in ends:
            return tokens[: index + 1]
    return tokens


def searched(model, prompts, ends, at_most, strategy):
    """What nextok finds for all prompts in one engine, as [[(tokens, score)]]."""
    engine, runs = Engine(model), []
    for prompt in prompts:
        request, events = asked(prompt, max_tokens=at_most, stop_ids=frozenset(ends)), []
        engine.submit(request, strategy, events.append)
        runs.append((request, events))
    engine.run()
    return [nbest(request, events, strategy.n) for request, events in runs]


def nbest(request, events, n):
    best = [event for event in events if isinstance(event, Beams)][-1].finished[:n]
    return [(request.tree.path(each.node, above=request.prompt), each.score) for each in best]


def compared(mine, other):
    """How many texts are the same, nearly tied, or wrong."""
    verdicts = Counter()
    for (tokens, score), (their_tokens, their_score) in zip(mine, other, strict=True):
        alike = math.isclose(score, their_score, rel_tol=NEAR)
        verdicts["same" if alike and tokens == their_tokens else "near tie" if alike else "wrong"] += 1
    return verdicts


def settings_of_a_search():
    """Every width, penalty and way to stop, with short texts and one end and with long ones and seven."""
    return itertools.product(WIDTHS, PENALTIES, (True, False, "never"), ENDS)


@cache
def oracle(width, penalty, early, at_most):
    settings = {"num_beams": width, "length_penalty": penalty, "early_stopping": early}
    return generated(PROMPTS, ENDS[at_most], at_most, num_return_sequences=min(width, 3), **settings)


def test_texts_and_scores_equal_those_of_transformers(ours):
    verdicts, searches = Counter(), 0
    for width, penalty, early, at_most in settings_of_a_search():
        mine = searched(ours, PROMPTS, ENDS[at_most], at_most, Beam(width, penalty, early, n=min(width, 3)))
        for found, expected in zip(mine, oracle(width, penalty, early, at_most), strict=True):
            verdicts += compared(found, expected)
            searches += 1
    assert searches == 270
    assert verdicts["wrong"] == 0
    assert verdicts["near tie"] <= 3


@pytest.mark.parametrize("change", [{"length_penalty": 1.3}, {"early_stopping": "never"}, {"width": 4}], ids=str)
def test_negative_control_other_settings_find_other_texts(ours, change):
    settings = {"width": 3, "length_penalty": 1.0, "early_stopping": True, "n": 3}
    verdicts = Counter()
    for at_most, ends in ENDS.items():
        mine = searched(ours, PROMPTS, ends, at_most, Beam(**settings | change))
        for found, expected in zip(mine, oracle(3, 1.0, True, at_most)):
            verdicts += compared(found, expected)
    assert verdicts["wrong"] > 0


SHAPED = {
    "temperature": (Chain((Temperature(1.7),), draw=False), [TemperatureLogitsWarper(1.7)]),
    "top-k": (Chain((TopK(3),), draw=False), [TopKLogitsWarper(3)]),
    "both": (
        Chain((Temperature(0.6), TopK(4)), draw=False),
        [TemperatureLogitsWarper(0.6), TopKLogitsWarper(4)],
    ),
}


@pytest.mark.parametrize("name", SHAPED)
@pytest.mark.parametrize("width", [2, 4])
def test_shaped_scores_are_those_of_transformers_renormalised(ours, name, width):
    """Filters and temperature mean the same before log-softmax as after it, once that is taken again."""
    sampling, processors = SHAPED[name]
    mine = searched(ours, PROMPTS, [0], 10, Beam(width, n=2, sampling=sampling))
    other = {"num_beams": width, "num_return_sequences": 2, "renormalize_logits": True}
    expected = generated(PROMPTS, [0], 10, logits_processor=LogitsProcessorList(processors), **other)
    for found, theirs_found in zip(mine, expected, strict=True):
        assert compared(found, theirs_found) == {"same": 2}


def test_no_repeated_ngrams_as_in_transformers(ours):
    mine = searched(ours, PROMPTS, [0], 20, Beam(3, n=3, sampling=Greedy(no_repeat_ngram_size=2)))
    # They forbid after log-softmax, where it cannot be seen, unless it is taken again.
    settings = {"no_repeat_ngram_size": 2, "renormalize_logits": True}
    for found, expected in zip(mine, generated(PROMPTS, [0], 20, num_beams=3, num_return_sequences=3, **settings)):
        assert compared(found, expected) == {"same": 3}


RUNS = 3000


@cache
def drawn_by_transformers(temperature, top_k):
    torch.manual_seed(5)
    settings = {"do_sample": True, "num_beams": 2, "renormalize_logits": True}
    found = generated([[3, 5]] * RUNS, [1], 2, temperature=temperature, top_k=top_k, **settings)
    return Counter(tuple(texts[0][0]) for texts in found)


def drawn_here(sampling):
    counts = Counter()
    for seed in range(RUNS):
        request = asked([3, 5], seed=seed, max_tokens=2, stop_ids=frozenset([1]))
        by_engine(Beam(2, sampling=sampling), request, in_memory())
        counts[tuple(request.tokens)] += 1
    return counts


@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, 40), (1.6, 12)])
def test_beam_sampling_draws_as_transformers_does(temperature, top_k):
    expected = drawn_by_transformers(temperature, top_k)
    assert len(expected) > 20
    assert same(drawn_here(Sample(temperature, top_k)), expected)
    assert not same(drawn_here(Sample(temperature * 1.2, top_k)), expected)  # the negative control


def same(one, other):
    """Pearson's test of two samples of one size at alpha = 1e-6, rare texts pooled."""
    texts = one.keys() | other.keys()
    common = [text for text in texts if one[text] + other[text] >= 20]
    pairs = [(one[text], other[text]) for text in common]
    pairs.append((RUNS - sum(pair[0] for pair in pairs), RUNS - sum(pair[1] for pair in pairs)))
    statistic = sum((a - b) ** 2 / (a + b) for a, b in pairs if a + b)
    freedom = len(pairs) - 1
    z = NormalDist().inv_cdf(1 - 1e-6)
    return statistic < freedom * (1 - 2 / (9 * freedom) + z * math.sqrt(2 / (9 * freedom))) ** 3


@cache
def in_memory():
    """The same model, every text read once."""

    @cache
    def scores(path):
        with torch.no_grad():
            return tuple(theirs()(torch.tensor([path])).logits[0, -1].tolist())

    return ToyModel(VOCAB, scores)
