"""What may be a prompt, one bad prompt of many, and how results look on one line."""

import numpy as np
import pytest

from nextok.errors import LimitError
from nextok.generation.output import Completion, Output, Outputs, Scores, Stats, TokenLogprob
from nextok.generation.prompts import check_prompt, encode_prompts, list_prompts

torch = pytest.importorskip("torch")

SINGLE = {
    "text": ("The sea", "The sea"),
    "empty text": ("", ""),
    "list": ([1, 2], [1, 2]),
    "tuple": ((1, 2), [1, 2]),
    "range": (range(3), [0, 1, 2]),
    "generator": ((each for each in (1, 2)), [1, 2]),
    "numpy": (np.array([1, 2]), [1, 2]),
    "numpy numbers": ([np.int64(1), np.int32(2)], [1, 2]),
    "torch": (torch.tensor([1, 2]), [1, 2]),
    "torch numbers": (list(torch.tensor([1, 2])), [1, 2]),
}
SEVERAL = {
    "none": ([], []),
    "no array": (np.array([], int), []),
    "texts": (["a", "b"], ["a", "b"]),
    "iterator": (iter(["a", "b"]), ["a", "b"]),
    "generator": ((each for each in "ab"), ["a", "b"]),
    "keys": ({"a": 1, "b": 2}.keys(), ["a", "b"]),
    "array of texts": (np.array(["a", "b"]), ["a", "b"]),
    "lists": ([[1], [2, 3]], [[1], [2, 3]]),
    "mixed": (("a", [2, 3]), ["a", [2, 3]]),
    "arrays": ([np.array([1]), torch.tensor([2])], [[1], [2]]),
    "rows": (list(np.array([[1, 2], [3, 4]])), [[1, 2], [3, 4]]),
    "map": (map(list, [(1, 2), (3,)]), [[1, 2], [3]]),
    "empty ones": ([[], ""], [[], ""]),
}
REFUSED = {
    "None": (None, "got None; give a text"),
    "number": (5, "got 5; give a text"),
    "bytes": (b"abc", r"got bytes; a text must be a str, as in data\.decode\(\)"),
    "dict": ({"input_ids": [1]}, r"got a dict, \{'input_ids': \[1\]\}; give one of its values"),
    "set": ({"a", "b"}, "got a set, which has no order; give a list"),
    "matrix": (np.zeros((2, 3), int), r"one dimension, got shape \(2, 3\); list\(array\) makes a prompt of each row"),
    "cube": (torch.zeros(1, 2, 3), r"one dimension, got shape \(1, 2, 3\); give a text"),
    "scalar": (np.array(3), r"one dimension, got shape \(\)"),
    "messages": ([{"role": "user", "content": "hi"}], r"got a list of messages: lm\.chat\(messages\)"),
}
BAD = {  # inside an iterable, and so of one prompt
    "float array": (np.array([1.0, 2.0]), "token ids must be whole numbers, got 1.0"),
    "float tensor": (torch.tensor([1.5]), "token ids must be whole numbers, got 1.5"),
    "bools": ([True, False], "token ids must be whole numbers, got True"),
    "None": ([None], "token ids must be whole numbers, got None"),
    "texts in ids": ([1, "2"], "token ids must be whole numbers, got '2'"),
}


@pytest.mark.parametrize("name", SINGLE)
def test_one_prompt(name):
    given, expected = SINGLE[name]
    single, prompts = list_prompts(given)
    assert single
    assert [check_prompt(each) for each in prompts] == [expected]


@pytest.mark.parametrize("name", SEVERAL)
def test_several_prompts_in_their_order(name):
    given, expected = SEVERAL[name]
    single, prompts = list_prompts(given)
    assert not single
    assert [check_prompt(each) for each in prompts] == expected


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_prompt_is_refused_with_the_fix(name):
    given, says = REFUSED[name]
    with pytest.raises(ValueError, match=says) as refused:
        list_prompts(given)
    assert "\n" not in str(refused.value)
    if name != "messages":
        with pytest.raises(ValueError, match=says):
            check_prompt(given)


@pytest.mark.parametrize("name", BAD)
def test_token_ids_are_whole_numbers(name):
    given, says = BAD[name]
    with pytest.raises(ValueError, match=says):
        check_prompt(given)


def test_a_mixture_of_ids_and_texts_is_several_prompts_of_which_the_ids_are_none():
    assert list_prompts([1, "a"]) == (False, [1, "a"])
    first, second = encode_prompts([1, "a"], list)
    assert str(first).startswith("prompt 0: a prompt must be a text or a list of token ids, got 1")
    assert second == ["a"]


def test_one_bad_prompt_is_its_own_error_and_names_its_place():
    def encode(prompt):
        if len(prompt) > 3:
            raise LimitError("the prompt has too many tokens")
        return [ord(each) for each in prompt] if isinstance(prompt, str) else prompt

    found = encode_prompts(["ok", "too long", [1, 2], [0.5], None, {"a": 1}, b"x"], encode)
    assert found[0] == [ord("o"), ord("k")]
    assert found[2] == [1, 2]
    assert isinstance(found[1], LimitError)
    assert str(found[1]) == "prompt 1: the prompt has too many tokens"
    assert str(found[3]).startswith("prompt 3: token ids must be whole numbers, got 0.5")
    for place in (4, 5, 6):
        assert isinstance(found[place], ValueError)
        assert str(found[place]).startswith(f"prompt {place}: a prompt must be")


def test_an_exception_that_takes_other_arguments_is_named_too():
    def encode(prompt):
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no text")

    [error] = encode_prompts(["x"], encode)
    assert isinstance(error, ValueError)
    assert str(error).startswith("prompt 0: 'utf-8' codec")
    assert isinstance(error.__cause__, UnicodeDecodeError)
    assert error.__cause__.__traceback__ is None


STATS = Stats(4, 12, 7, 5, 10, 8, (1, 4), 0.1, 0.5)


def completion(text="The sea is blue", reason="length", error=None):
    return Completion(text, [1] * 12, reason, 5, error=error)


def test_results_are_shown_on_one_line():
    assert repr(Output((completion(),), STATS)) == "<Output 'The sea is blue' 12 tokens, length>"
    assert repr(completion("a", "error", LimitError("x"))) == "<Completion 'a' 12 tokens, error: LimitError>"
    assert repr(Output((completion(),) * 3, STATS)) == "<Output 'The sea is blue' 12 tokens, length, and 2 more>"
    assert repr(STATS) == "<Stats 12 tokens in 7 passes, 0.5 s, 8 of 10 drafted accepted>"
    assert repr(Scores([1, 2], [None, -0.5], [(), ()])) == "<Scores of 2 tokens, total -0.5000>"
    assert repr(TokenLogprob(7, -1.5, ((7, -1.5),), -1.0, ())) == "<TokenLogprob of 7: -1.5000, 1 alternatives>"


@pytest.mark.parametrize("text", ["\n" * 500, "\x1b[31m" * 99, "'\"" * 300, "海" * 1000])
def test_the_line_has_at_most_100_characters(text):
    most = 10**9
    stats = Stats(most, most, most, most, most, most, (most,), 1e9, 1e9)
    long = Completion(text, [1] * 10**5, "cancelled", 5, error=UnicodeDecodeError("utf-8", b"", 0, 0, ""))
    scores = Scores([1] * 10**5, [-1e4] * 10**5, [()] * 10**5)
    for each in (long, Output((long,) * 256, STATS), stats, scores, TokenLogprob(most, -1e9, (), 0.0, ())):
        assert len(repr(each)) <= 100
        assert repr(each).isprintable()


def test_an_error_is_raised_when_asked_for():
    fine, broken = Output((completion(),), STATS), Output((completion(), completion(error=LimitError("full"))), STATS)
    outputs = Outputs([fine, fine])
    assert fine.raise_for_error() is fine
    assert outputs.raise_for_error() is outputs == [fine, fine]
    for each in (broken, Outputs([fine, broken])):
        with pytest.raises(LimitError, match="full"):
            each.raise_for_error()
