"""The public face: what goes in, what comes out, and what is refused."""

import math

import numpy as np
import pytest

import nextok as nt
from nextok.errors import LogitsError, TemplateError
from nextok.lm import LM
from nextok.models.toy import ToyModel, make_scores
from tiny import EOS, VOCAB, saying, tiny_lm

STRATEGIES = [
    nt.Greedy(),
    nt.Sample(temperature=0.8, top_k=50),
    nt.Beam(3),
    nt.Speculate(nt.PromptLookup()),
    nt.Speculate(nt.DraftModel(tiny_lm()), nt.Sample()),
    nt.Speculate(nt.TokenTree(tiny_lm(), widths=(2, 2)), nt.Sample(temperature=0.7)),
]


@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
def test_a_list_a_text_and_its_ids_give_the_same(strategy):
    lm = tiny_lm()
    prompts = ["Once", "upon a", "time"]
    together = lm.generate(prompts, strategy, max_tokens=9, seed=3)
    for prompt, output in zip(prompts, together):
        alone = lm.generate(prompt, strategy, max_tokens=9, seed=3)
        from_ids = lm.generate(lm.tokenizer.encode(prompt), strategy, max_tokens=9, seed=3)
        assert output.tokens == alone.tokens == from_ids.tokens
        assert (
            output.text
            == alone.text
            == "".join(piece.text for piece in lm.stream(prompt, strategy, max_tokens=9, seed=3))
        )
        assert output.stats.generated_tokens == len(output.tokens)


@pytest.mark.parametrize("strategy", [nt.Greedy(), nt.Beam(2), nt.Speculate(nt.PromptLookup())], ids=repr)
def test_text_ends_where_the_model_or_a_stop_string_says(strategy):
    lm = tiny_lm(saying("Grüße, 世界! END and more"))
    whole = lm.generate("x\n", strategy)
    assert (whole.text, whole.finish_reason) == ("Grüße, 世界! END and more", "stop")
    assert whole.tokens[-1] == EOS
    cut = lm.generate("x\n", strategy, stop=["END", "?"])
    assert (cut.text, cut.finish_reason) == ("Grüße, 世界! ", "stop")
    assert lm.generate("x\n", strategy, stop="界").text == "Grüße, 世"
    by_token = lm.generate("x\n", strategy, stop_token_ids=[ord("!")])
    assert (by_token.text, by_token.tokens[-1]) == ("Grüße, 世界", ord("!"))
    short = lm.generate("x\n", strategy, max_tokens=3)
    assert (short.text, short.finish_reason) == ("Gr\ufffd", "length")


def test_ignore_eos_and_min_tokens():
    lm = tiny_lm(saying("ab"))
    on = lm.generate("\n", max_tokens=6, ignore_eos=True)
    assert (len(on.tokens), on.finish_reason, on.text) == (6, "length", "ab")
    assert len(lm.generate("\n", min_tokens=5, max_tokens=9).tokens) >= 5
    early = tiny_lm(saying("stop a stop b")).generate("\n", stop="stop", min_tokens=6)
    assert early.text == "stop a "


def test_a_stream_holds_back_what_may_become_a_stop_string():
    stream = tiny_lm(saying("a ST b STOP c")).stream("\n", stop="STOP")
    pieces = [piece.text for piece in stream]
    assert "".join(pieces) == "a ST b "
    assert not any(piece.endswith("S") for piece in pieces)
    assert stream.output().finish_reason == "stop"


def test_a_stream_can_be_left_early():
    lm = tiny_lm()
    with_close = lm.stream("abc", nt.Sample(), max_tokens=50, seed=1, ignore_eos=True)
    next(with_close)
    with_close.close()
    output = with_close.output()
    assert output.finish_reason == "cancelled"
    assert output.tokens == lm.generate("abc", nt.Sample(), max_tokens=50, seed=1).tokens[: len(output.tokens)]
    beams = lm.stream("abc", nt.Beam(3), max_tokens=50, ignore_eos=True)
    for _ in range(4):
        lm.engine.step()
    beams.close()
    assert len(beams.output().tokens) == 4  # the best beam so far


def test_several_samples_of_one_prompt():
    lm = tiny_lm()
    output = lm.generate("abc", nt.Sample(), n=4, max_tokens=8, seed=11)
    assert len(output.choices) == 4
    assert output.tokens == lm.generate("abc", nt.Sample(), max_tokens=8, seed=11).tokens
    assert len({tuple(choice.tokens) for choice in output.choices}) == 4
    for choice in output.choices:
        assert lm.generate("abc", nt.Sample(), max_tokens=8, seed=choice.seed).tokens == choice.tokens


def test_n_best_beams_come_with_scores():
    output = tiny_lm().generate("abc", nt.Beam(4, n=3), max_tokens=6, logprobs=0)
    assert [choice.score for choice in output.choices] == sorted((c.score for c in output.choices), reverse=True)
    for choice in output.choices:
        assert choice.score == pytest.approx(sum(each.logprob for each in choice.logprobs) / len(choice.tokens))
        assert [each.token for each in choice.logprobs] == choice.tokens


@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
def test_logprobs_are_those_of_scoring_the_text_afterwards(strategy):
    lm = tiny_lm()
    output = lm.generate("abc", strategy, max_tokens=8, seed=2, logprobs=3)
    scores = lm.score([*lm.tokenizer.encode("abc"), *output.tokens])
    assert [each.logprob for each in output.logprobs] == pytest.approx(scores.logprobs[3:], abs=1e-5)
    for each in output.logprobs:
        assert len(each.top) == 3
        assert each.top[0][1] == max(logprob for _, logprob in each.top)


def test_score_is_the_softmax_of_the_model():
    lm = tiny_lm()
    scores = lm.score("abc")
    logits = np.array(make_scores(VOCAB, 5)((ord("a"), ord("b"))))
    assert scores.logprobs[0] is None
    assert scores.logprobs[2] == pytest.approx(logits[ord("c")] - np.log(np.exp(logits).sum()), abs=1e-5)
    assert scores.total == pytest.approx(sum(scores.logprobs[1:]))
    assert lm.score("a").logprobs == [None]


def test_chat_uses_the_template_and_reads_each_turn_once():
    lm = tiny_lm()
    conversation, heard = nt.Conversation(lm, system="Be brief."), []
    for text in ("Hello", "And now?", "Bye"):
        asked = [*conversation.messages, {"role": "user", "content": text}]
        stream = conversation.ask(text, nt.Sample(), max_tokens=12, seed=4)
        answer = stream.wait()
        fresh = lm.chat(asked, nt.Sample(), max_tokens=12, seed=4)
        assert answer.tokens == fresh.tokens
        assert conversation.messages == [*asked, {"role": "assistant", "content": answer.text}]
        heard.append((stream.output().stats.prompt_tokens, fresh.stats.prompt_tokens))
    assert len(conversation.messages) == 7
    with pytest.raises(TemplateError, match="no chat template"):
        tiny_lm(template=None).chat("Hello")


def test_a_conversation_keeps_only_a_turn_whose_answer_ended_by_itself():
    lm = tiny_lm()
    conversation = nt.Conversation(lm)
    pieces = "".join(piece.text for piece in conversation.ask("Hello", max_tokens=9, ignore_eos=True))
    assert conversation.messages == [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": pieces}]
    conversation.ask("No", keep=False, max_tokens=3).wait()
    stream = conversation.ask("Cut", max_tokens=9, ignore_eos=True)
    next(stream)
    stream.close()
    with pytest.raises(RuntimeError, match="mine"):
        [*conversation.ask("Broken", nt.Greedy(custom=_fail), max_tokens=9)]
    assert conversation.ask("Broken", nt.Greedy(custom=_fail), max_tokens=9).wait().error
    assert len(conversation.messages) == 2
    stream = conversation.ask("Twice", max_tokens=3)
    first, second = stream.wait(), stream.wait()
    assert first.text == second.text
    assert [*stream]
    assert len(conversation.messages) == 4
    conversation.add_turn("Cut", "Bec")
    assert conversation.messages[-1] == {"role": "assistant", "content": "Bec"}


def _fail(row):
    raise RuntimeError("mine")


def test_a_seed_is_drawn_and_reported():
    lm = tiny_lm()
    first, second = lm.generate("a", nt.Sample(), max_tokens=9), lm.generate("a", nt.Sample(), max_tokens=9)
    assert first.seed != second.seed
    assert lm.generate("a", nt.Sample(), max_tokens=9, seed=first.seed).tokens == first.tokens


def test_statistics_count_passes_and_drafts():
    lm = tiny_lm(saying("abcabcabcabcabcabc"))
    plain, looked_up = lm.generate("x\n"), lm.generate("x\n", nt.Speculate(nt.PromptLookup(max_draft=4)))
    assert looked_up.tokens == plain.tokens
    assert plain.stats.passes == len(plain.tokens)
    assert looked_up.stats.passes < len(plain.tokens) / 2
    assert 0 < looked_up.stats.accepted <= looked_up.stats.drafted
    assert looked_up.stats.acceptance_rate == looked_up.stats.accepted / looked_up.stats.drafted
    assert plain.stats.acceptance_rate is None


def test_one_bad_prompt_does_not_spoil_the_list():
    def scores(path):
        return [math.nan] * VOCAB if ord("!") in path else saying("ok")(path)

    lm = tiny_lm(scores)
    good, bad, other = lm.generate(["a\n", "!\n", "b\n"])
    assert good.text == other.text == "ok"
    assert bad.finish_reason == "error"
    assert isinstance(bad.error, LogitsError)
    with pytest.raises(LogitsError):
        lm.generate("!\n")
    with pytest.raises(LogitsError):
        list(lm.stream("!\n"))
    assert lm.generate("a\n").text == "ok"


@pytest.mark.parametrize(
    ("prompt", "options", "says"),
    [
        ("", {}, "prompt is empty"),
        ([VOCAB], {}, f"token id {VOCAB} is outside the vocabulary; ids go from 0 to {VOCAB - 1}"),
        ([-1], {}, "token id -1"),
        ([1.5], {}, "whole numbers"),
        (b"abc", {}, "got bytes"),
        ("x" * 512, {}, "512 tokens and the model's context is 512; shorten the prompt"),
        ("x", {"max_tokens": 0}, "max_tokens must be a whole number from 1"),
        ("x", {"max_tokens": 2.5}, "max_tokens must be a whole number"),
        ("x", {"max_tokens": True}, "max_tokens must be a whole number"),
        ("x", {"min_tokens": 300}, "min_tokens must be a whole number from 0 to 256"),
        ("x", {"stop": ""}, "stop string"),
        ("x", {"stop": ["ok", ""]}, "stop string"),
        ("x", {"stop": [b"x"]}, "stop string"),
        ("x", {"stop_token_ids": [999]}, "token id 999"),
        ("x", {"seed": "7"}, "seed must be a whole number"),
        ("x", {"n": 0}, "n must be a whole number from 1"),
        ("x", {"n": 10**9}, "n must be a whole number from 1"),
        ("x", {"logprobs": -1}, "logprobs must be a whole number from 0"),
    ],
)
def test_wrong_arguments_are_refused_by_name(prompt, options, says):
    lm = tiny_lm()
    with pytest.raises(ValueError, match=says):
        lm.generate(prompt, **options)
    assert lm.engine.step() is False  # nothing was left behind


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: nt.Beam(0), "width must be"),
        (lambda: nt.Beam(2.0), "width must be"),
        (lambda: nt.Beam(10**6), "width must be"),
        (lambda: nt.Beam(2, n=3), "n must be from 1 to width"),
        (lambda: nt.Beam(2, early_stopping="soon"), "early_stopping must be"),
        (lambda: nt.Beam(2, early_stopping=1), "early_stopping must be"),
        (lambda: nt.Beam(2, length_penalty=math.nan), "length_penalty must be"),
        (lambda: nt.Beam(2, length_penalty="a"), "length_penalty must be"),
        (lambda: nt.Sample(temperature="warm"), "temperature must be"),
        (lambda: nt.Sample(top_p="a"), "top_p must be"),
        (lambda: nt.DraftModel(None), "lm must be a loaded model"),
        (lambda: nt.TokenTree("smollm2"), "lm must be a loaded model"),
        (lambda: nt.Speculate(nt.PromptLookup), "draft must be"),
        (lambda: nt.PromptLookup(shortest=2.5), "shortest must be"),
        (lambda: nt.PromptLookup(max_draft=0), "max_draft must be"),
        (lambda: nt.PromptLookup(shortest=0), "shortest must be"),
        (lambda: nt.PromptLookup(history=[]), "history must be"),
        (lambda: nt.DraftModel(tiny_lm(), max_draft=1000), "max_draft must be"),
        (lambda: nt.TokenTree(tiny_lm(), widths=()), "widths must"),
        (lambda: nt.TokenTree(tiny_lm(), widths=(100, 100)), "widths must"),
        (lambda: nt.Speculate("prompt-lookup"), "draft must be"),
        (lambda: nt.Speculate(nt.PromptLookup(), nt.Beam(2)), "sampling must be"),
    ],
)
def test_impossible_strategies_are_refused_by_name(build, says):
    with pytest.raises(ValueError, match=says):
        build()


def test_no_prompts_give_no_outputs_and_a_wrong_one_is_its_own_outputs_error():
    assert tiny_lm().generate([]) == []
    fine, wrong = tiny_lm().generate(["fine", ""], max_tokens=2)
    assert (len(fine.tokens), fine.error) == (2, None)
    assert str(wrong.error).startswith("prompt 1: the prompt is empty")


def test_strategies_that_do_not_go_with_the_request_are_refused():
    lm = tiny_lm()
    with pytest.raises(ValueError, match="strategy must be"):
        lm.generate("x", "greedy")
    with pytest.raises(ValueError, match="n counts samples"):
        lm.generate("x", nt.Beam(3), n=2)
    stranger = tiny_lm()
    stranger.tokenizer = tiny_lm(template=None).tokenizer
    assert lm.generate("x", nt.Speculate(nt.DraftModel(stranger)), max_tokens=2).tokens
    object.__setattr__(stranger.tokenizer, "token_bytes", [b"?"] * VOCAB)
    with pytest.raises(ValueError, match="another vocabulary"):
        lm.generate("x", nt.Speculate(nt.DraftModel(stranger)))


def test_the_public_names_are_all_there_and_explained():
    assert {name for names in nt._HOMES.values() for name in names.split()} < set(nt.__all__)
    assert len(dir(nt)) == len(set(dir(nt)) | set(nt.__all__))
    for name in nt.__all__:
        assert getattr(nt, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'magic'"):
        nt.magic  # noqa: B018


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"backend": "cuda"}, "backend must be one of"),
        ({"precision": "half"}, "precision must be one of"),
        ({"backend": "numpy", "threads": 2}, "OPENBLAS_NUM_THREADS"),
        ({"quantize": "q2"}, "quantize must be one of q8_0, q4_1"),
    ],
)
def test_load_refuses_what_its_backend_cannot_do(options, says):
    with pytest.raises(ValueError, match=says):
        nt.load("smollm2", **options)


def test_a_stream_that_is_dropped_leaves_the_engine():
    lm = tiny_lm()
    for _ in range(40):  # more than there are seats
        for _ in lm.stream("abc", nt.Sample(), max_tokens=300, ignore_eos=True):
            break
    read = lm.engine.tokens_read
    lm.generate("x", max_tokens=4, ignore_eos=True)
    assert lm.engine.tokens_read - read == 4


def test_what_lies_behind_a_stop_is_not_counted_as_accepted():
    lm = tiny_lm(saying("ab"))
    stats = lm.generate("\n", nt.Speculate(nt.DraftModel(lm, max_draft=10)), max_tokens=50).stats
    assert (stats.generated_tokens, stats.accepted) == (3, 3)
    stats = lm.generate("\n", nt.Speculate(nt.DraftModel(lm, max_draft=10)), max_tokens=50, stop="b").stats
    assert (stats.generated_tokens, stats.accepted) == (2, 2)


@pytest.mark.parametrize("draft", [nt.DraftModel, nt.TokenTree])
def test_a_draft_model_with_padded_rows_never_proposes_them(draft):
    padded = LM(ToyModel(VOCAB + 9, lambda path: [0.0] * VOCAB + [5.0] * 9), tiny_lm().tokenizer, "padded")
    lm = tiny_lm()
    assert (
        lm.generate("ab", nt.Speculate(draft(padded)), max_tokens=6).tokens == lm.generate("ab", max_tokens=6).tokens
    )
    wide = LM(ToyModel(VOCAB + 9, lambda path: [*make_scores(VOCAB, 5)(path), *[9.0] * 9]), lm.tokenizer, "wide")
    assert wide.generate("ab", nt.Speculate(draft(lm)), max_tokens=6).finish_reason == "length"


def test_a_cancelled_beam_search_claims_no_logprobs():
    lm = tiny_lm()
    stream = lm.stream("abc", nt.Beam(3), max_tokens=50, ignore_eos=True, logprobs=1)
    for _ in range(4):
        lm.engine.step()
    stream.close()
    assert (len(stream.output().tokens), stream.output().logprobs) == (4, None)
