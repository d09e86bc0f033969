"""Wrong wishes are refused by name before any model runs, and a transform that fails hurts its own request only."""

import math
from fractions import Fraction

import numpy as np
import pytest

import nextok as nt
from nextok.errors import DeadEndError, LogitsError
from tiny import EOS, VOCAB, saying, tiny_lm

NAN, INF = math.nan, math.inf
NO_NUMBER = (NAN, INF, -INF, True, "1", b"1", None, [], 10**400, Fraction(1, 2), 1j)
NO_COUNT = (0, -1, True, 1.0, 2.5, "3", None, NAN, np.float64(2))

NUMBERS = {  # a parameter, how to build with it, what it is called, values that are out of its range
    "temperature": (lambda x: nt.Sample(temperature=x), "temperature", (-1,)),
    "Temperature": (nt.Temperature, "temperature", (0, -1)),
    "top_p": (lambda x: nt.TopP(x), "top_p", (0, -0.1, 1.1)),
    "min_p": (lambda x: nt.MinP(x), "min_p", (-0.1, 1.1)),
    "typical_p": (lambda x: nt.TypicalP(x), "typical_p", (0, 1.1)),
    "epsilon": (lambda x: nt.EpsilonCutoff(x), "epsilon_cutoff", (-0.1, 1.1)),
    "eta": (lambda x: nt.EtaCutoff(x), "eta_cutoff", (-0.1, 1.1)),
    "sigma": (lambda x: nt.TopNSigma(x), "top_n_sigma", (-0.1, 1e10)),
    "xtc": (lambda x: nt.XTC(x), "probability of XTC", (-0.1, 1.1)),
    "xtc threshold": (lambda x: nt.XTC(0.5, x), "threshold of XTC", (-0.1, 1.1)),
    "dynamic low": (lambda x: nt.DynamicTemperature(x, 2.0), "dynamic temperature", (0, -1, 3)),
    "dynamic high": (lambda x: nt.DynamicTemperature(0.5, x), "dynamic temperature", (0, 0.4)),
    "dynamic exponent": (lambda x: nt.DynamicTemperature(0.5, 2, x), "exponent of a dynamic temperature", (-1, 101)),
    "repetition": (lambda x: nt.RepetitionPenalty(x), "repetition_penalty", (0, -1, 1e-300, 1e7)),
    "presence": (lambda x: nt.PresencePenalty(x), "presence_penalty", (-1001, 1001)),
    "frequency": (lambda x: nt.FrequencyPenalty(x), "frequency_penalty", (-1001, 1001)),
    "dry": (lambda x: nt.DRY(x), "multiplier of DRY", (-1, 1e7)),
    "dry base": (lambda x: nt.DRY(1, base=x), "base of DRY", (0.5, 101)),
    "tau": (lambda x: nt.Mirostat(tau=x), "tau of mirostat", (-1, 101)),
    "eta of mirostat": (lambda x: nt.Mirostat(eta=x), "eta of mirostat", (-1, 11)),
}
COUNTS = {
    "top_k": (lambda x: nt.TopK(x), "top_k"),
    "ngram": (lambda x: nt.NoRepeatNGram(x), "no_repeat_ngram_size"),
    "dry length": (lambda x: nt.DRY(1, allowed_length=x), "allowed_length of DRY"),
    "dry window": (lambda x: nt.DRY(1, window=() if x is None else x), "window of DRY"),
    "mirostat": (lambda x: nt.Mirostat(3 if x == 2 else x), "version of mirostat"),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_out_of_their_range_and_what_is_none(name):
    build, called, outside = NUMBERS[name]
    for value in (*NO_NUMBER, *outside):
        with pytest.raises(ValueError, match=rf"{called}.*got") as refused:
            build(value)
        assert len(str(refused.value)) < 600


@pytest.mark.parametrize("name", COUNTS)
def test_whole_numbers_out_of_their_range_and_what_is_none(name):
    build, called = COUNTS[name]
    for value in NO_COUNT:
        with pytest.raises(ValueError, match=rf"{called} must be.*got"):
            build(value)


PARAMETERS = {
    "temperature": nt.Temperature,
    "top_k": nt.TopK,
    "top_p": nt.TopP,
    "min_p": nt.MinP,
    "typical_p": nt.TypicalP,
    "epsilon_cutoff": nt.EpsilonCutoff,
    "eta_cutoff": nt.EtaCutoff,
    "top_n_sigma": nt.TopNSigma,
    "repetition_penalty": nt.RepetitionPenalty,
    "presence_penalty": nt.PresencePenalty,
    "frequency_penalty": nt.FrequencyPenalty,
    "no_repeat_ngram_size": nt.NoRepeatNGram,
    "xtc": None,
    "mirostat": None,
    "dry": None,
    "dynamic_temperature": None,
    "custom": None,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_sampler_checks_its_parameters_as_the_transforms_do(name):
    for value in (NAN, True, False, "1", b"", [], {}, -5000):
        for others in ({}, {"temperature": 0}):
            with pytest.raises(ValueError, match="got"):
                nt.Sample(**({} if name == "temperature" else others) | {name: value})
    if name != "temperature":
        nt.Sample(**{name: None})


@pytest.mark.parametrize(
    ("name", "value"), [("presence_penalty", 0), ("frequency_penalty", 0.0), ("repetition_penalty", 1)]
)
def test_a_penalty_that_changes_nothing_costs_nothing(name, value):
    assert nt.Greedy(**{name: value}).sampler.transforms == ()


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: nt.Sample(temperature=None), "temperature must be"),
        (
            lambda: nt.Sample(temperature=0.5, dynamic_temperature=nt.DynamicTemperature(1, 2)),
            "leave one of them out",
        ),
        (lambda: nt.Sample(dry=0.8), "dry must be a DRY"),
        (lambda: nt.Sample(dry=nt.DRY), "dry must be a DRY"),
        (lambda: nt.Sample(xtc=0.5), "xtc must be a XTC"),
        (lambda: nt.Sample(mirostat=2), "mirostat must be a Mirostat"),
        (lambda: nt.Greedy(custom=3), "custom transform must be a function"),
        (lambda: nt.Custom(lambda: 0), "custom transform must be a function"),
        (lambda: nt.Custom(lambda row, tokens, more: 0), "custom transform must be a function"),
        (lambda: nt.Custom(nt.TopK(1)), "custom transform must be a function"),
        (lambda: nt.DRY(1, breakers="\n"), "breakers of DRY must be a tuple"),
        (lambda: nt.DRY(1, breakers=None), "breakers of DRY must be a tuple"),
        (lambda: nt.DRY(1, breakers=("",)), "none of them empty"),
        (lambda: nt.DRY(1, breakers=(b"x",)), "breakers of DRY must be"),
        (lambda: nt.Mirostat("2"), "version of mirostat must be 1 or 2"),
        (lambda: nt.Chain(nt.TopK(3)), "transforms must be a tuple"),
        (lambda: nt.Chain(None), "transforms must be a tuple"),
        (lambda: nt.Chain((nt.TopK,)), "a transform must be one of"),
        (lambda: nt.Chain((nt.RepetitionPenalty,)), "a transform must be one of"),
        (lambda: nt.Chain((0.7,)), "a transform must be one of"),
        (lambda: nt.Chain((nt.Sample(),)), "a transform must be one of"),
        (lambda: nt.Chain((), draw=1), "draw must be True or False"),
        (lambda: nt.Speculate(nt.PromptLookup(), nt.TopK(3)), "sampling must be"),
    ],
)
def test_impossible_samplers_are_refused_by_name(build, says):
    with pytest.raises(ValueError, match=says):
        build()


WISHES = [
    ({"logit_bias": {VOCAB: 1.0}}, f"token id {VOCAB} of logit_bias is outside"),
    ({"logit_bias": {-1: 1.0}}, "token id -1 of logit_bias"),
    ({"logit_bias": {"a": 1.0}}, "token ids of logit_bias must be whole numbers"),
    ({"logit_bias": {True: 1.0}}, "token ids of logit_bias must be whole numbers"),
    ({"logit_bias": {1.0: 1.0}}, "token ids of logit_bias must be whole numbers"),
    *[
        ({"logit_bias": {1: bias}}, "logit_bias of token 1 must be")
        for bias in (NAN, INF, True, "1", None, 1e7, 10**400)
    ],
    ({"logit_bias": [1.0]}, "logit_bias must be a mapping"),
    ({"logit_bias": None}, "logit_bias must be a mapping"),
    ({"logit_bias": dict.fromkeys(range(VOCAB), -INF)}, "tokens are forbidden; allow at least one"),
    ({"allowed_token_ids": []}, "allowed_token_ids leaves no token"),
    ({"allowed_token_ids": [5], "forbidden_token_ids": [5]}, "allowed_token_ids leaves no token"),
    ({"allowed_token_ids": [5], "logit_bias": {5: -INF}}, "allowed_token_ids leaves no token"),
    ({"allowed_token_ids": [VOCAB]}, "of allowed_token_ids is outside"),
    ({"allowed_token_ids": "abc"}, "of allowed_token_ids must be whole numbers"),
    ({"allowed_token_ids": b"abc"}, "of allowed_token_ids must be whole numbers, got bytes"),
    ({"allowed_token_ids": 5}, "of allowed_token_ids must be whole numbers"),
    ({"allowed_token_ids": [True]}, "of allowed_token_ids must be whole numbers"),
    ({"allowed_token_ids": [EOS], "min_tokens": 2}, "allows only stop tokens, and min_tokens none"),
    ({"allowed_token_ids": [7, EOS], "min_tokens": 1, "stop_token_ids": [7]}, "allows only stop tokens"),
    ({"forbidden_token_ids": range(VOCAB)}, "tokens are forbidden; allow at least one"),
    ({"forbidden_token_ids": [10**30]}, "of forbidden_token_ids is outside"),
    ({"forbidden_token_ids": [NAN]}, "of forbidden_token_ids must be whole numbers"),
    ({"forbidden_token_ids": None}, "of forbidden_token_ids must be whole numbers"),
    ({"bad_words": "word"}, "bad_words must be a list"),
    ({"bad_words": None}, "bad_words must be a list"),
    ({"bad_words": ["fine", ""]}, "bad word must be .* not empty"),
    ({"bad_words": [[]]}, "bad word must be .* not empty"),
    ({"bad_words": [5]}, "bad word must be"),
    ({"bad_words": [b"x"]}, "bad word must be"),
    ({"bad_words": [[VOCAB]]}, "of bad_words is outside"),
    ({"bad_words": [[False]]}, "of bad_words must be whole numbers"),
    ({"prompt_logprobs": 1}, "prompt_logprobs must be True or False"),
    ({"ignore_eos": "no"}, "ignore_eos must be True or False"),
    (
        {"min_tokens": 11, "max_tokens": 10},
        r"min_tokens must be a whole number from 0 to 10, got 11; the upper bound is max_tokens",
    ),
    ({"min_tokens": NAN}, "min_tokens must be a whole number"),
    ({"max_tokens": 10**30}, "max_tokens must be a whole number from 1"),
    ({"max_tokens": None}, "max_tokens must be a whole number"),
    ({"logprobs": True}, "logprobs must be a whole number"),
    ({"logprobs": 1001}, "logprobs must be a whole number from 0 to 1,000"),
    ({"stop": 5}, "stop must be a text"),
    ({"stop": [5]}, "stop string must be text"),
    ({"stop_token_ids": None}, "of stop_token_ids must be whole numbers"),
    ({"stop_token_ids": [True]}, "of stop_token_ids must be whole numbers"),
    ({"grammar": "a*"}, "grammar must be"),
]


@pytest.mark.parametrize(("wishes", "says"), WISHES, ids=[str(index) for index in range(len(WISHES))])
def test_wrong_wishes_are_refused_before_any_model_runs(wishes, says):
    ran = []
    lm = tiny_lm(lambda path: ran.append(path) or [0.0] * VOCAB)
    for prompt in ("x", ["x", "y"]):
        with pytest.raises(ValueError, match=says):
            lm.generate(prompt, **wishes)
    assert lm.engine.step() is False
    assert not ran


@pytest.mark.parametrize("top", [-1, 1001, True, None, "3", 1.0])
def test_score_refuses_a_wrong_top(top):
    with pytest.raises(ValueError, match="top must be"):
        tiny_lm().score("abc", top=top)


def test_what_is_allowed_or_not_holds_in_every_strategy():
    lm = tiny_lm()
    strategies = [
        nt.Greedy(),
        nt.Sample(),
        nt.Beam(3),
        nt.Speculate(nt.DraftModel(tiny_lm()), nt.Sample()),
        nt.Speculate(nt.TokenTree(tiny_lm(), widths=(2, 2)), nt.Greedy()),
        nt.Speculate(nt.PromptLookup(shortest=1), nt.Sample()),
    ]
    few = [*b"abc", EOS]
    for strategy in strategies:
        output = lm.generate("abcabc", strategy, max_tokens=12, seed=1, allowed_token_ids=few)
        assert {*output.tokens} <= {*few}
        output = lm.generate(
            "abcabc", strategy, max_tokens=12, seed=1, allowed_token_ids=few, forbidden_token_ids=[98]
        )
        assert {*output.tokens} <= {97, 99, EOS}
        output = lm.generate("abcabc", strategy, max_tokens=12, seed=1, logit_bias={97: 1000.0})
        assert {*output.tokens} == {97}
        output = lm.generate(
            "abc",
            strategy,
            max_tokens=12,
            min_tokens=12,
            seed=1,
            allowed_token_ids=few,
            bad_words=["aa", "bb", [99, 97]],
        )
        text = bytes(output.tokens)
        assert not any(word in b"abc"[-1:] + text for word in (b"aa", b"bb", b"ca"))
        assert len(text) == 12
        twice = lm.generate("abc", strategy, max_tokens=9, seed=1, logit_bias={np.int64(5): np.float32(2)})
        assert twice.tokens == lm.generate("abc", strategy, max_tokens=9, seed=1, logit_bias={5: 2}).tokens


def test_a_bias_is_added_to_the_models_scores():
    lm = tiny_lm()
    plain = lm.generate("abc", max_tokens=1, logprobs=1000).logprobs[0]
    biased = lm.generate("abc", max_tokens=1, logprobs=1000, logit_bias={70: 1.5, 71: -INF}).logprobs[0]
    assert biased.top == plain.top
    before, after = dict(plain.top), dict(biased.processed_top)
    assert 71 not in after
    assert after[70] - after[72] == pytest.approx(before[70] - before[72] + 1.5)


# A transform of the user's own that fails.


def raises(row):
    raise KeyError("my mistake")


BROKEN = {
    "raises": (raises, KeyError, "my mistake"),
    "nan": (lambda row: row * math.nan, LogitsError, "NaN"),
    "+inf": (lambda row: row + math.inf, LogitsError, "inf"),
    "nothing left": (lambda row: row - math.inf, DeadEndError, "no token is allowed"),
    "too short": (lambda row: row[:-1], ValueError, r"must return 259 numbers .* shape \(258,\)"),
    "a column": (lambda row: row[:, None], ValueError, "must return 259 numbers"),
    "None": (lambda row: None, ValueError, "must return 259 numbers"),
    "texts": (lambda row: [str(each) for each in row], ValueError, "must return 259 numbers"),
    "complex": (lambda row: row + 1j, ValueError, "complex128"),
    "a mask": (lambda row: row > 0, ValueError, "bool"),
    "ragged": (lambda row: [[1], [1, 2]], ValueError, "inhomogeneous"),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize(
    "around",
    [lambda inner: inner, lambda inner: nt.Speculate(nt.PromptLookup(shortest=1), inner)],
    ids=["plain", "spec"],
)
def test_a_transform_that_fails_ends_its_own_request_only(name, around):
    function, kind, says = BROKEN[name]
    strategy = around(nt.Sample(custom=function))
    with pytest.raises(kind, match=says):
        tiny_lm().generate("abcabc", strategy, max_tokens=5, seed=1)
    lm = tiny_lm()
    sound = around(nt.Sample(temperature=0.9))
    streams = [lm.stream(f"abc{i}abc", strategy if i == 4 else sound, max_tokens=9, seed=i) for i in range(8)]
    lm.engine.run()
    for index, stream in enumerate(streams):
        output = stream.output()
        if index == 4:
            assert (output.finish_reason, type(output.error), output.tokens) == ("error", kind, [])
        else:
            assert output.error is None
            assert output.tokens == tiny_lm().generate(f"abc{index}abc", sound, max_tokens=9, seed=index).tokens


def test_a_transform_that_fails_later_keeps_what_was_written():
    def tired(row, tokens):
        if len(tokens) == 8:
            raise RuntimeError("enough")
        return row

    lm = tiny_lm()
    output = lm.generate(["abc", "abcd"], nt.Greedy(custom=tired), max_tokens=9, ignore_eos=True)[0]
    assert len(output.tokens) == 5
    assert str(output.error) == "enough"
    assert lm.generate("abc", max_tokens=9, ignore_eos=True).tokens[:5] == output.tokens


def test_a_guess_that_cannot_be_read_ends_no_text():
    """A rule that fails after a token which only a draft writes: plain decoding never notices, so no draft may."""

    def strict(row, tokens):
        if tokens[-1] == ord("?"):
            raise RuntimeError("no questions")
        row[ord("?")] = -math.inf
        return row

    wrong = tiny_lm(saying("What? Why? Who?"))
    lm = tiny_lm(saying("What! Why! Who!"))
    plain = lm.generate("x\n", nt.Greedy(custom=strict))
    assert plain.text == "What! Why! Who!"
    for draft in (nt.DraftModel(wrong), nt.TokenTree(wrong, widths=(2, 2, 1)), nt.PromptLookup(shortest=1)):
        assert lm.generate("What? Why? x\n", nt.Speculate(draft, nt.Greedy(custom=strict))).text == plain.text


def test_a_draft_model_whose_scores_are_no_numbers_guesses_nothing():
    lm, broken = tiny_lm(), tiny_lm(lambda path: [math.nan] * VOCAB)
    for draft in (nt.DraftModel(broken), nt.TokenTree(broken)):
        output = lm.generate("abc", nt.Speculate(draft, nt.Sample()), max_tokens=6, seed=1)
        assert output.tokens == lm.generate("abc", nt.Sample(), max_tokens=6, seed=1).tokens
        assert output.stats.drafted == 0


@pytest.mark.parametrize("strategy", [nt.Greedy(), nt.Sample(), nt.Speculate(nt.PromptLookup(shortest=1))], ids=repr)
def test_a_dead_end_says_so_and_leaves_other_requests_alone(strategy):
    lm = tiny_lm()
    wishes = {"allowed_token_ids": [97, 98], "bad_words": [[97, 97], [97, 98], [98, 97], [98, 98]], "max_tokens": 5}
    with pytest.raises(DeadEndError, match=r"no token is allowed at position 4: .*min_tokens.*relax one"):
        lm.generate("xyz", strategy, **wishes)
    assert lm.generate("xyz", strategy, max_tokens=5, seed=1).error is None
