"""Log-probabilities, raw and processed, equal reading the finished text once more, however it was written."""

import math
from dataclasses import dataclass

import numpy as np
import pytest

import nextok as nt
from nextok.core.events import Chosen
from nextok.engine.engine import Engine
from nextok.models.toy import ToyModel
from nextok.sampling.penalties import BadWords
from nextok.sampling.transforms import Add, Allow
from nextok.strategies.beam.beam import Beam
from nextok.strategies.rescore import Echo, rescore
from nextok.strategies.sample import Greedy
from nextok.strategies.speculate import Speculate
from tiny import VOCAB as TINY_VOCAB
from tiny import tiny_lm
from toys import BEAMS, DRAFTS, SAMPLINGS, SHAPED, TARGET, VOCAB, asked, by_engine, by_reference

SAMPLERS = SAMPLINGS | SHAPED
MASKS = (Add((1, 5), (1.5, -2.0)), Allow(bytes([0b1101111])), BadWords(((3, 3), (6,))))
PROMPT = [2, 5, 1]


@dataclass(frozen=True)
class Judge:
    """Reads a text that is given, and tells what each of its tokens was worth."""

    tokens: tuple[int, ...]
    transforms: tuple = ()

    def decode(self, request):
        end = request.tree.extend(request.prompt, self.tokens)
        nodes = [request.prompt, *request.tree.nodes(end, above=request.prompt)]
        yield from rescore(request, nodes, self.transforms)
        yield request.finish("stop")


def figures(request, events, tokens):
    """What was told of each token of the text, in order."""
    told = {(each.node, each.token): each for each in events if isinstance(each, Chosen)}
    node, found = request.prompt, []
    for token in tokens:
        found.append(told[node, token])
        node = request.tree.find(node, token)
    return [(each.token, each.logprob, each.top, each.processed, each.processed_top) for each in found]


def judged(tokens, transforms, masks, seed, count):
    request = asked(PROMPT, seed=seed, logprobs=count, masks=masks, min_tokens=3)
    return figures(request, by_reference(Judge(tuple(tokens), transforms), request), tokens)


def strategies():
    for name, sampling in SAMPLERS.items():
        yield name, sampling, sampling.sampler.transforms
        for draft in ("itself", "tree", "random"):
            yield f"{draft} {name}", Speculate(DRAFTS[draft], sampling), sampling.sampler.transforms
    for name in ("beam 1", "beam 3", "beam 2 never"):
        yield name, BEAMS[name], ()


@pytest.mark.parametrize(
    ("strategy", "transforms"), [each[1:] for each in strategies()], ids=[n for n, *_ in strategies()]
)
@pytest.mark.parametrize("masks", [(), MASKS], ids=["free", "masked"])
def test_they_are_those_of_reading_the_text_alone(strategy, transforms, masks):
    for seed in range(4):
        request = asked(PROMPT, seed=seed, logprobs=4, masks=masks, min_tokens=3)
        events = by_engine(strategy, request, budget=[1, 512][seed % 2])
        assert figures(request, events, request.tokens) == judged(request.tokens, transforms, masks, seed, 4)


def log_softmax(values):
    shifted = np.asarray(values, np.float64) - np.max(values)
    return shifted - math.log(np.exp(shifted).sum())


@pytest.mark.parametrize("name", SAMPLERS)
def test_raw_ones_are_the_models_and_processed_ones_a_distribution(name):
    request = asked(PROMPT, seed=3, logprobs=VOCAB, min_tokens=12)
    events = by_engine(SAMPLERS[name], request)
    text = list(PROMPT)
    for token, logprob, top, processed, processed_top in figures(request, events, request.tokens):
        raw = log_softmax(np.array(TARGET._scores(tuple(text)), np.float32))
        assert logprob == pytest.approx(raw[token], abs=1e-12)
        assert [each.token for each in top] == sorted(range(VOCAB), key=lambda t: (-raw[t], t))
        assert [each.logprob for each in top] == pytest.approx(sorted(raw, reverse=True), abs=1e-12)
        assert sum(math.exp(each.logprob) for each in processed_top) == pytest.approx(1, abs=1e-12)
        assert dict(processed_top)[token] == processed > -math.inf
        assert 0 not in dict(processed_top)  # min_tokens forbids the end
        text.append(token)


def test_alternatives_come_best_first_and_ties_by_lowest_id():
    level = ToyModel(VOCAB, lambda path: [0.0, 1.0, 2.0, 1.0, 2.0, 1.0, 0.0])
    for strategy in (Greedy(), Beam(2), Speculate(DRAFTS["lookup"])):
        request = asked([1], logprobs=5, max_tokens=3)
        events = by_engine(strategy, request, level)
        for _, _, top, _, processed_top in figures(request, events, request.tokens):
            assert [each.token for each in top] == [2, 4, 1, 3, 5]
            assert top == processed_top


@pytest.mark.parametrize("strategy", [Greedy(), BEAMS["beam 3"], Speculate(DRAFTS["tree"], SHAPED["all at once"])])
def test_a_prompt_is_judged_by_the_model_alone_and_changes_no_text(strategy):
    prompt = [1, 4, 2, 6, 3, 5]
    for budget in (1, 4, 512):
        plain, echoed = (asked(prompt, seed=2, logprobs=3, masks=MASKS) for _ in range(2))
        by_engine(strategy, plain)
        events = by_engine(Echo(strategy), echoed, budget=budget)
        assert echoed.tokens == plain.tokens
        nodes = echoed.tree.nodes(echoed.prompt)
        told = {each.node: each for each in events if isinstance(each, Chosen) and each.node in nodes[:-1]}
        for index, node in enumerate(nodes[:-1]):
            raw = log_softmax(np.array(TARGET._scores(tuple(prompt[: index + 1])), np.float32))
            assert told[node].token == prompt[index + 1]
            assert told[node].logprob == told[node].processed == pytest.approx(raw[prompt[index + 1]], abs=1e-12)
            assert [each.token for each in told[node].top] == sorted(range(VOCAB), key=lambda t: (-raw[t], t))[:3]


# The public face.

LMS = {
    "greedy": nt.Greedy(repetition_penalty=1.3),
    "sample": nt.Sample(temperature=0.8, top_k=50, frequency_penalty=0.5),
    "beam": nt.Beam(3),
    "chain": nt.Speculate(nt.DraftModel(tiny_lm()), nt.Sample(top_p=0.9)),
    "tree": nt.Speculate(nt.TokenTree(tiny_lm(), widths=(2, 2)), nt.Sample(temperature=0.7)),
    "lookup": nt.Speculate(nt.PromptLookup(), nt.Sample(mirostat=nt.Mirostat(2, 3.0, 0.2))),
}


@pytest.mark.parametrize("name", LMS)
def test_every_way_to_ask_gives_the_same_figures_as_scoring(name):
    lm, strategy = tiny_lm(), LMS[name]
    options = {"max_tokens": 8, "seed": 2, "logprobs": 3, "prompt_logprobs": True, "logit_bias": {65: 2.0}}
    alone = lm.generate("abcabc", strategy, **options)
    batch = lm.generate(["xyz", "abcabc", "q", "abcabc"], strategy, **options)
    stream = lm.stream("abcabc", strategy, **options)
    list(stream)
    for output in (batch[1], batch[3], stream.output()):
        assert output.logprobs == alone.logprobs
        assert output.prompt_logprobs == alone.prompt_logprobs
    prompt = lm.tokenizer.encode("abcabc")
    scores = lm.score([*prompt, *alone.tokens], top=3)
    assert alone.prompt_logprobs == lm.score(prompt, top=3)
    assert scores.logprobs[: len(prompt)] == alone.prompt_logprobs.logprobs
    assert [each.logprob for each in alone.logprobs] == pytest.approx(scores.logprobs[len(prompt) :], abs=1e-12)
    assert [each.top for each in alone.logprobs] == scores.top[len(prompt) :]
    assert scores.total == pytest.approx(sum(scores.logprobs[1:]))
    assert alone.prompt_logprobs.tokens == prompt


def test_without_alternatives_only_the_tokens_own_are_told():
    lm = tiny_lm()
    output = lm.generate("abc", max_tokens=2, prompt_logprobs=True)
    assert output.logprobs is None
    assert output.prompt_logprobs.top == [(), (), ()]
    assert lm.generate("abc", max_tokens=2).prompt_logprobs is None
    assert [each.top for each in lm.generate("abc", max_tokens=2, logprobs=0).logprobs] == [(), ()]
    assert len(lm.score("ab", top=1000).top[1]) == TINY_VOCAB


def test_several_samples_share_one_judged_prompt():
    output = tiny_lm().generate("abc", nt.Sample(), n=3, max_tokens=4, seed=1, prompt_logprobs=True, logprobs=1)
    assert output.prompt_logprobs == tiny_lm().score("abc", top=1)
    assert all(len(choice.logprobs) == len(choice.tokens) for choice in output.choices)


def test_a_prompt_that_begins_like_another_is_judged_whole():
    lm = tiny_lm()
    beginning = "The same beginning, long enough to be shared between requests: " * 2
    held = lm.stream(beginning + "one", nt.Sample(), max_tokens=50, seed=1, ignore_eos=True)
    next(held)
    second = lm.generate(beginning + "two", max_tokens=1, prompt_logprobs=True)
    fresh = tiny_lm().score(beginning + "two")
    assert second.prompt_logprobs.logprobs == fresh.logprobs
    held.close()


def test_a_request_that_ends_before_its_prompt_was_read_claims_nothing_of_it():
    lm = tiny_lm()
    lm.engine = Engine(lm.model, budget=2)
    stream = lm.stream("abcdefgh", prompt_logprobs=True)
    lm.engine.step()
    stream.close()
    assert stream.output().prompt_logprobs is None
    assert stream.output().finish_reason == "cancelled"


def test_score_of_a_text_that_fills_the_context():
    lm = tiny_lm(context=6)
    assert len(lm.score("abcdef").logprobs) == 6
    with pytest.raises(ValueError, match="7 tokens, more than the model's context of 6"):
        lm.score("abcdefg")


def test_a_model_without_finite_scores_fails_the_judged_request_alone():
    broken = tiny_lm(lambda path: [math.nan if path[-1] == ord("!") else 0.0] * TINY_VOCAB)
    good, bad = broken.generate(["abc", "a!c"], max_tokens=2, prompt_logprobs=True)
    assert good.error is None
    assert type(bad.error).__name__ == "LogitsError"
    assert bad.prompt_logprobs is None
    assert good.prompt_logprobs.logprobs[1:] == pytest.approx([-math.log(TINY_VOCAB)] * 2)


@pytest.fixture(scope="module")
def exact():
    return nt.load("smollm2", precision="exact")


@pytest.mark.model
@pytest.mark.parametrize(
    "strategy",
    [
        nt.Greedy(repetition_penalty=1.2),
        nt.Sample(temperature=0.8, top_p=0.95),
        nt.Beam(3),
        nt.Speculate(nt.PromptLookup(), nt.Sample(temperature=0.3)),
    ],
    ids=repr,
)
def test_on_the_default_model_they_are_those_of_scoring_the_text(exact, strategy):
    prompt = "One, two, three, four; one, two, three, four; one, two,"
    outputs = exact.generate(
        [prompt, "The sky is"], strategy, max_tokens=12, seed=5, logprobs=3, prompt_logprobs=True
    )
    for output in outputs:
        start = len(output.prompt_logprobs.tokens)
        scores = exact.score([*output.prompt_logprobs.tokens, *output.tokens], top=3)
        assert output.prompt_logprobs.logprobs[1:] == pytest.approx(scores.logprobs[1:start], abs=1e-5)
        for each, logprob, top in zip(output.logprobs, scores.logprobs[start:], scores.top[start:]):
            assert each.logprob == pytest.approx(logprob, abs=1e-5)
            assert [found for _, found in each.top] == pytest.approx([found for _, found in top], abs=1e-5)
            assert each.top == tuple(sorted(each.top, key=lambda item: (-item[1], item[0])))
