"""The options of a call: written once, shown by help, and explained where a caller uses another name."""

import inspect
import pydoc
import subprocess
import sys
from dataclasses import fields
from typing import Any, Unpack

import pytest

import nextok as nt
from nextok.cli.arguments import route
from nextok.generation.explain import OF_LIBRARIES, OF_STRATEGIES, check_strategy
from nextok.generation.options import OPTIONS, CheckedOptions, GenerateOptions
from nextok.generation.signature import show_options
from nextok.generation.spellings import SPELLINGS


class Face:
    @show_options
    def generate(self, prompt: str, strategy: Any = None, **options: Unpack[GenerateOptions]) -> int:
        """Continue a text.

        And more of it.
        """
        return CheckedOptions(**options).n

    @show_options
    async def agenerate(self, prompt: str, *, keep: bool = True, **options: Unpack[GenerateOptions]) -> int:
        """Continue a text later."""
        return CheckedOptions(**options).n


def refusal(**options):
    with pytest.raises(ValueError) as refused:  # the message is compared
        CheckedOptions(**options)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("name", ["generate", "agenerate"])
def test_a_signature_lists_every_option_with_its_type_and_default(name):
    parameters = inspect.signature(getattr(Face(), name)).parameters
    assert [*parameters][-len(OPTIONS) :] == [*OPTIONS] == [*GenerateOptions.__annotations__]
    for each, option in OPTIONS.items():
        assert (parameters[each].default, parameters[each].annotation) == (option.default, option.kind)
        assert parameters[each].kind is inspect.Parameter.KEYWORD_ONLY
    assert parameters["max_tokens"].default == 256
    assert parameters["max_tokens"].annotation is int


def test_help_shows_the_options_with_defaults_and_meanings():
    text = pydoc.plain(pydoc.render_doc(Face.generate))
    assert "max_tokens: int = 256" in text
    assert "prompt_logprobs: bool = False" in text
    assert "And more of it." in text
    words = " ".join(text.split())
    for name, option in OPTIONS.items():
        assert f"{name}: {option.meaning}" in words


def test_a_method_stays_what_it_was():
    assert Face().generate("x", n=3) == 3
    assert inspect.iscoroutinefunction(Face().agenerate)
    assert [*inspect.signature(Face().agenerate).parameters][:2] == ["prompt", "keep"]
    with pytest.raises(TypeError, match=r"takes no \*\*options"):
        show_options(lambda prompt: prompt)


def test_options_have_their_defaults_and_stop_none_is_none():
    options = CheckedOptions(stop=None, timeout=0.5)
    assert options.make_limits(frozenset(), [b"a"], 1, 8).stop == ()
    assert (options.n, options.logprobs, options.prompt_logprobs, options.timeout) == (1, None, False, 0.5)
    assert {**CheckedOptions().values} == {name: option.default for name, option in OPTIONS.items()}


@pytest.mark.parametrize("timeout", [0, -1, True, "3", float("nan"), float("inf"), [], 1e10])
def test_a_timeout_is_a_number_of_seconds_above_0(timeout):
    assert refusal(timeout=timeout).startswith("timeout must be a number of seconds above 0")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"temperature": 0.7}, "temperature belongs to the strategy: nt.Sample(temperature=0.7)"),
        ({"temp": 0.7}, "temp belongs to the strategy: nt.Sample(temperature=0.7)"),
        (
            {"temperature": 0.7, "top_p": 0.9},
            "temperature, top_p belong to the strategy: nt.Sample(temperature=0.7, top_p=0.9)",
        ),
        ({"repetition_penalty": 1.2}, "nt.Greedy(repetition_penalty=1.2)"),
        ({"do_sample": True}, "do_sample belongs to the strategy: nt.Sample()"),
        ({"do_sample": False}, "do_sample belongs to the strategy: nt.Greedy()"),
        ({"num_beams": 3}, "num_beams belongs to the strategy: nt.Beam(width=3)"),
        ({"length_penalty": 0.5}, "nt.Beam(width=4, length_penalty=0.5)"),
        ({"num_beams": 4, "temperature": 0.5}, "nt.Beam(width=4, sampling=nt.Sample(temperature=0.5))"),
        ({"num_beams": 4, "num_beam_groups": 2}, "nt.DiverseBeam(width=4, groups=2, diversity=0.5)"),
        ({"max_draft": 5, "top_k": 3}, "nt.Speculate(nt.PromptLookup(max_draft=5), nt.Sample(top_k=3))"),
        ({"draft": None}, "nt.Speculate(nt.PromptLookup())"),
        ({"assistant_model": 1}, "nt.Speculate(nt.DraftModel(lm))"),
        ({"widths": (2, 2)}, "nt.Speculate(nt.TokenTree(lm, widths=(2, 2)))"),
        ({"max_new_tokens": 7}, "max_new_tokens is called max_tokens"),
        ({"max_new_tokens": 7, "top_k": 2}, "max_new_tokens is called max_tokens; top_k belongs to the strategy"),
        ({"stop_strings": "x"}, "stop_strings is called stop"),
        ({"num_return_sequences": 3}, "num_return_sequences is called n"),
        ({"maxtokens": 7}, "there is no option maxtokens; did you mean max_tokens?"),
        ({"temprature": 1}, "did you mean temperature? It belongs to the strategy: nt.Sample(temperature=1)"),
        ({"stream": True}, "lm.stream(...)"),
        ({"json_schema": {}}, "grammar=nt.Grammar.json_schema(...)"),
        ({"quux": 7}, "there is no option quux; the options are max_tokens, min_tokens, stop, "),
        ({"custom": "\n" * 99}, "nt.Greedy(custom="),
    ],
)
def test_a_wrong_name_is_answered_with_the_right_one(options, says):
    assert says in refusal(**options)


def test_what_is_written_for_a_strategy_can_be_built():
    for name in OF_STRATEGIES - {"draft_model", "widths", "history"}:
        values = {"temperature": 0.7, "top_p": 0.9, "top_k": 3, "groups": 2, "width": 4, "max_draft": 5}
        code = refusal(**{name: values.get(name, 1 if name in ("shortest", "no_repeat_ngram_size") else 0.5)})
        if name not in (
            "dry",
            "xtc",
            "mirostat",
            "dynamic_temperature",
            "custom",
            "early_stopping",
        ):  # need an object
            assert hasattr(eval(code.partition("strategy: ")[2], {"nt": nt}), "decode"), code


def test_every_field_of_a_strategy_is_known():
    for kind in (nt.Greedy, nt.Sample, nt.Beam, nt.DiverseBeam, nt.PromptLookup):
        assert {each.name for each in fields(kind) if each.name not in ("_", "n")} <= OF_STRATEGIES
    assert {*OF_LIBRARIES.values()} <= OF_STRATEGIES | {*OPTIONS}


@pytest.mark.parametrize(
    ("strategy", "says"),
    [
        (nt.Sample, r"got the class Sample: write nt\.Sample\(\.\.\.\)"),
        (nt.Beam, r"write nt\.Beam\(\.\.\.\)"),
        (None, r"got None: leave it out for nt\.Greedy\(\)"),
        ("beam", r"got the text 'beam': write nt\.Beam\(4\)"),
        ("fast", r"write nt\.Greedy\(\) or nt\.Sample"),
        ({"temperature": 0.7}, r"got a dict: write nt\.Sample\(temperature=0\.7\)"),
        ({}, r"got a dict: write nt\.Greedy\(\)"),
        (5, r"strategy must be one of Greedy\(\), Sample\(\), Beam\(\), Speculate\(\), got 5"),
        (nt.PromptLookup(), r"a draft needs nt\.Speculate\(PromptLookup\(\.\.\.\)\)"),
    ],
)
def test_what_is_no_strategy_is_answered_with_one(strategy, says):
    with pytest.raises(ValueError, match=says) as refused:
        check_strategy(strategy)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("strategy", [nt.Greedy(), nt.Beam(2), nt.Speculate(nt.PromptLookup())])
def test_strategies_pass(strategy):
    check_strategy(strategy)


def test_the_command_line_reads_the_names_of_other_programs():
    for theirs, ours in SPELLINGS.items():
        flag = "--" + ours.replace("_", "-")
        assert route(["--" + theirs.replace("_", "-") + "=3"]) == ["generate", f"{flag}=3"]


def test_the_command_line_has_an_option_for_each_of_them():
    text = subprocess.run(
        [sys.executable, "-m", "nextok", "generate", "--help"], capture_output=True, text=True
    ).stdout
    assert not [ours for ours in SPELLINGS.values() if "--" + ours.replace("_", "-") not in text]
