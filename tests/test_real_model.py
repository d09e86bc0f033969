"""The default model: the texts of transformers, and the laws of decoding at full size."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import nextok as nt
from nextok.core.events import Verified
from nextok.engine.engine import Engine
from nextok.models.base import Feed
from toys import FreeTiming, Lent, asked, by_engine, outcome

pytestmark = pytest.mark.model

TEXTS = json.loads((Path(__file__).parent / "fixtures" / "greedy.json").read_text())["texts"]
LENGTH = 24  # tokens that most of these tests write
SMALLEST_GAP = 1e-3


@pytest.fixture(scope="module")
def model(smollm2):
    return smollm2.model


@pytest.fixture(scope="module")
def hasty(model):
    """A draft model of the same vocabulary that is right at times: the default one without its last layers."""
    shorter = copy.copy(model)
    shorter._layers = model._layers[:24]
    shorter.config = replace(model.config, layers=24)
    return Lent(shorter)


@pytest.fixture(scope="module")
def request_of(smollm2):
    def make(name, seed=0, max_tokens=LENGTH, already=0):
        """A request of a prompt of the fixture, and of the first `already` tokens that it leads to."""
        prompt = TEXTS[name]["prompt"] + TEXTS[name]["tokens"][:already]
        return asked(prompt, seed=seed, max_tokens=max_tokens, stop_ids=smollm2.tokenizer.eos_ids)

    return make


# --- the same as transformers, as far as float32 decides --------------------------------------------------------


def test_prompts_have_the_tokens_that_the_fixture_was_made_with(smollm2):
    for text in TEXTS.values():
        assert smollm2.tokenizer.encode(text["text"]) == text["prompt"]
    assert smollm2.chat_ids("Why is the sky blue?") == TEXTS["sky"]["prompt"]


def test_greedy_texts_equal_those_of_transformers_all_in_one_call(smollm2):
    prompts = [text["prompt"] for text in TEXTS.values()]
    outputs = smollm2.generate(prompts, max_tokens=64, ignore_eos=True, logprobs=0)
    for text, output in zip(TEXTS.values(), outputs):
        assert len(output.tokens) == 64
        assert output.tokens[: text["tie"]] == text["tokens"][: text["tie"]]
        if text["tie"] is None:
            assert sum(each.logprob for each in output.logprobs) == pytest.approx(text["logprob"], abs=2e-3)
    assert sum(text["tie"] is None for text in TEXTS.values()) >= 20


@pytest.mark.parametrize("name", ["one token", "sky"])
def test_greedy_texts_equal_those_of_transformers_alone(name, smollm2):
    output = smollm2.generate(TEXTS[name]["prompt"], max_tokens=LENGTH, ignore_eos=True)
    assert TEXTS[name]["tie"] is None
    assert output.tokens == TEXTS[name]["tokens"][:LENGTH]


@pytest.mark.parametrize("name", [name for name, text in TEXTS.items() if "best" in text])
def test_the_best_logits_equal_those_of_transformers(name, model):
    tokens = TEXTS[name]["prompt"] + TEXTS[name]["tokens"][:-1]
    rows = [len(TEXTS[name]["prompt"]) - 1 + best["step"] for best in TEXTS[name]["best"]]
    feed = Feed.from_run(model.open(), tokens, rows=rows)
    for logits, best in zip(model.logits(model.forward([feed])), TEXTS[name]["best"]):
        assert np.argsort(-logits)[:5].tolist() == best["tokens"]
        assert np.abs(logits[best["tokens"]] - best["logits"]).max() < 2e-3


def test_many_prompts_in_one_pass_give_the_logits_of_each_alone(model):
    def feed(prompt):
        return Feed.from_run(model.open(), prompt, rows=[len(prompt) - 1])

    together = model.logits(model.forward([feed(text["prompt"]) for text in TEXTS.values()]))
    for text, logits in zip(TEXTS.values(), together):
        alone = model.logits(model.forward([feed(text["prompt"])]))[0]
        assert np.abs(logits - alone).max() < 1e-4 * np.abs(alone).max()


# --- the laws of the engine -------------------------------------------------------------------------------------


def test_twenty_mixed_requests_in_one_engine_write_what_each_writes_alone(smollm2, hasty, request_of, undecided):
    mix = [
        ("capital", nt.Greedy()),
        ("sky", nt.Greedy()),
        ("chinese", nt.Greedy()),
        ("once", nt.Sample()),
        ("poem", nt.Sample(temperature=0.7)),
        ("once", nt.Sample(temperature=0.8, top_k=50)),
        ("history", nt.Sample(top_p=0.9)),
        ("list", nt.Sample(temperature=1.3, min_p=0.05)),
        ("sum", nt.Sample(temperature=0)),
        ("capital", nt.Beam(2)),
        ("once", nt.Beam(4)),
        ("sky", nt.Beam(4, length_penalty=0.6, early_stopping=True)),
        ("bullets", nt.Speculate(nt.PromptLookup())),
        ("counting", nt.Speculate(nt.PromptLookup(), nt.Sample())),
        ("arithmetic", nt.Speculate(nt.PromptLookup(max_draft=4), nt.Sample(temperature=0.7))),
        ("fibonacci", nt.Speculate(nt.DraftModel(smollm2))),
        ("french", nt.Speculate(nt.DraftModel(smollm2, max_draft=4), nt.Sample(temperature=0.9))),
        ("photosynthesis", nt.Speculate(nt.DraftModel(hasty, max_draft=4))),
        ("json", nt.Speculate(nt.TokenTree(smollm2, widths=(3, 2)))),
        ("water", nt.Speculate(nt.TokenTree(hasty, widths=(3, 2)), nt.Sample(temperature=0.7))),
    ]
    engine = Engine(smollm2.model, timing=FreeTiming())
    batch = [request_of(name, seed, 12) for seed, (name, _) in enumerate(mix)]
    for request, (_, strategy) in zip(batch, mix):
        engine.submit(request, strategy, lambda event: None)
    engine.run()
    for seed, (request, (name, strategy)) in enumerate(zip(batch, mix)):
        alone = request_of(name, seed, 12)
        by_engine(strategy, alone, smollm2.model)
        assert outcome(request) == outcome(alone) or undecided(
            strategy, lambda name=name, seed=seed: request_of(name, seed, 12), smollm2.model, SMALLEST_GAP
        ), (name, strategy)


@pytest.mark.parametrize("temperature", [0, 0.7])
def test_speculation_writes_what_sampling_with_the_same_seed_writes(
    temperature, smollm2, hasty, request_of, undecided
):
    sampling = nt.Sample(temperature=temperature)
    prompts = {"sql": 48, "sky": 0, "json": 0}  # the first has begun to repeat itself: food for prompt lookup
    drafts = [
        nt.PromptLookup(),
        nt.DraftModel(smollm2, max_draft=6),
        nt.DraftModel(hasty, max_draft=3),
        nt.TokenTree(hasty, widths=(3, 2)),
    ]
    engine, running, accepted = Engine(smollm2.model, timing=FreeTiming()), [], [0] * len(drafts)
    for name, already in prompts.items():
        for kind, draft in enumerate(drafts):

            def sink(event, kind=kind):
                accepted[kind] += event.accepted if isinstance(event, Verified) else 0

            request = request_of(name, seed=7, max_tokens=16, already=already)
            engine.submit(request, nt.Speculate(draft, sampling), sink)
            running.append((name, draft, request))
    engine.run()
    assert all(accepted)  # or there would be little to prove
    plain = {name: request_of(name, seed=7, max_tokens=16, already=already) for name, already in prompts.items()}
    for request in plain.values():
        by_engine(sampling, request, smollm2.model)
    for name, draft, request in running:
        assert outcome(request) == outcome(plain[name]) or undecided(
            sampling,
            lambda name=name: request_of(name, seed=7, max_tokens=16, already=prompts[name]),
            smollm2.model,
            SMALLEST_GAP,
        ), (name, draft)


def test_a_model_that_drafts_for_itself_is_nearly_always_right(smollm2):
    output = smollm2.generate(
        TEXTS["once"]["prompt"], nt.Speculate(nt.DraftModel(smollm2, max_draft=7)), max_tokens=LENGTH, ignore_eos=True
    )
    assert output.tokens == TEXTS["once"]["tokens"][:LENGTH]
    assert output.stats.acceptance_rate > 0.9
    assert output.stats.verifications == 3  # eight tokens each


@pytest.mark.parametrize("name", ["capital", "sky", "sql"])
def test_a_beam_of_one_is_greedy(name, smollm2, request_of):
    beam = request_of(name)
    by_engine(nt.Beam(1), beam, smollm2.model)
    greedy = request_of(name)
    by_engine(nt.Greedy(), greedy, smollm2.model)
    assert outcome(beam) == outcome(greedy)


def test_wider_beams_can_find_more_probable_texts(smollm2):
    totals = []
    for width in (1, 2, 4):
        output = smollm2.generate(
            "Yesterday I went to", nt.Beam(width, length_penalty=0.0), max_tokens=8, ignore_eos=True, logprobs=0
        )
        totals.append(sum(each.logprob for each in output.logprobs))
        assert output.choices[0].score == pytest.approx(totals[-1], abs=1e-3)
    assert totals == sorted(set(totals))


def test_a_long_prompt_read_in_chunks_equals_the_whole(model, request_of, undecided):
    texts, strategy = [], nt.Sample(temperature=0.8, top_k=50)
    for budget in (7, 512):
        request = request_of("alice", max_tokens=16)
        by_engine(strategy, request, model, budget=budget)
        texts.append(outcome(request))
    assert texts[0] == texts[1] or undecided(
        strategy, lambda: request_of("alice", max_tokens=16), model, SMALLEST_GAP
    )


# --- what LM promises -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", [nt.Greedy(), nt.Sample(temperature=0.9), nt.Speculate(nt.PromptLookup())])
def test_scoring_a_text_gives_the_logprobs_it_was_generated_with(strategy, smollm2):
    prompt = TEXTS["bullets"]["prompt"]
    output = smollm2.generate(prompt, strategy, max_tokens=LENGTH, seed=3, logprobs=0)
    told = [each.logprob for each in output.logprobs]
    assert [each.token for each in output.logprobs] == output.tokens
    scores = smollm2.score(prompt + output.tokens)
    assert np.abs(np.array(scores.logprobs[len(prompt) :]) - told).max() < 1e-4
    assert all(each < 0 for each in told)


def test_the_first_of_several_samples_is_the_one_that_comes_alone(smollm2):
    sampling = nt.Sample(temperature=0.9)
    three = smollm2.generate(TEXTS["once"]["text"], sampling, max_tokens=LENGTH, seed=11, n=3)
    alone = smollm2.generate(TEXTS["once"]["text"], sampling, max_tokens=LENGTH, seed=11)
    assert three.choices[0].tokens == alone.tokens
    assert len({choice.text for choice in three.choices}) == 3


def test_each_sample_can_be_made_again_from_its_own_seed(smollm2):
    three = smollm2.generate(TEXTS["poem"]["text"], nt.Sample(), max_tokens=12, n=3)
    for choice in three.choices:
        again = smollm2.generate(TEXTS["poem"]["text"], nt.Sample(), max_tokens=12, seed=choice.seed)
        assert again.text == choice.text


def test_the_same_seed_gives_the_same_text_and_another_one_another(smollm2):
    texts = [
        smollm2.generate(TEXTS["once"]["text"], nt.Sample(top_p=0.95), max_tokens=LENGTH, seed=seed).text
        for seed in (5, 5, 6)
    ]
    assert texts[0] == texts[1] != texts[2]


def test_a_stream_says_the_same_in_pieces(smollm2):
    stream = smollm2.stream(TEXTS["chinese"]["text"], max_tokens=LENGTH)
    pieces = [piece.text for piece in stream]
    assert len(pieces) > 5
    whole = smollm2.generate(TEXTS["chinese"]["text"], max_tokens=LENGTH).text
    assert "".join(pieces) == stream.output().text == whole
    assert "是一家美丽的客户" in whole


def test_a_stop_string_ends_the_text_and_is_not_part_of_it(smollm2):
    whole = smollm2.generate(TEXTS["counting"]["text"], max_tokens=LENGTH).text
    output = smollm2.generate(TEXTS["counting"]["text"], max_tokens=LENGTH, stop=["never said", "nine, t"])
    assert output.finish_reason == "stop"
    assert output.text == whole[: whole.index("nine, t")]


def test_the_end_token_ends_the_text_unless_it_comes_too_early_or_is_ignored(smollm2):
    end = smollm2.tokenizer.eos_ids
    prompt = TEXTS["list"]["prompt"]
    ended = smollm2.generate(prompt, max_tokens=64)
    length = len(ended.tokens)
    assert ended.finish_reason == "stop"
    assert ended.tokens == TEXTS["list"]["tokens"][:length]
    assert [token in end for token in ended.tokens] == [False] * (length - 1) + [True]
    assert ended.text == smollm2.tokenizer.decode(ended.tokens[:-1])
    longer = smollm2.generate(prompt, max_tokens=64, min_tokens=length + 3)
    assert longer.tokens[: length - 1] == ended.tokens[:-1]
    assert len(longer.tokens) >= length + 3
    assert not end & set(longer.tokens[: length + 2])
    ignored = smollm2.generate(prompt, max_tokens=length + 4, ignore_eos=True)
    assert ignored.finish_reason == "length"
    assert ignored.tokens == TEXTS["list"]["tokens"][: length + 4]


def test_a_conversation_equals_a_chat_from_scratch_and_reads_only_what_is_new(smollm2, model, monkeypatch):
    read, forward = [], model.forward

    def counting(feeds):
        read.append(sum(len(feed.tokens) for feed in feeds))
        return forward(feeds)

    monkeypatch.setattr(model, "forward", counting)
    questions, messages = ["What is the capital of Italy?", "And of Spain?"], []
    conversation = nt.Conversation(smollm2)
    for turn, question in enumerate(questions):
        messages.append({"role": "user", "content": question})
        read.clear()
        stream = conversation.ask(question, max_tokens=LENGTH)
        answer = "".join(piece.text for piece in stream)
        tokens_in_conversation = sum(read)
        read.clear()
        scratch = smollm2.chat(messages, max_tokens=LENGTH)
        assert answer == scratch.text
        if turn == 0:
            assert tokens_in_conversation == sum(read)
        else:
            # All of the first turn's prompt is known; its answer too, unless its text has other tokens when read.
            assert tokens_in_conversation <= sum(read) - len(smollm2.chat_ids(questions[0]))
        messages.append({"role": "assistant", "content": answer})
