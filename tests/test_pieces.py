"""Pieces of a stream: their texts joined are the text, and their tokens joined are its tokens."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nextok as nt
from nextok.generation.pieces import Cutter
from tiny import EOS, USER, saying, tiny_lm


def cut(datas, stops=()):
    """The parts of tokens with these bytes; node i is the i-th."""
    cutter, parts = Cutter(stops), []
    for node, data in enumerate(datas):
        parts.append(cutter.feed(node, data))
    return [*parts, cutter.flush()]


def flat(parts):
    return [part for each in parts for part in each]


BYTES = st.lists(
    st.sampled_from([b"a", b"ab", b"", b"\xc3", b"\xa9", b"\xe2\x82", b"\xac", b"b\xc3", b"\xa9x", b"!"])
)


@given(BYTES, st.sampled_from([(), (b"ab",), (b"a!", b"\xc3\xa9x"), (b"bab", b"!")]))
def test_parts_hold_every_token_once_and_in_order(datas, stops):
    parts = flat(cut(datas, stops))
    assert [node for _, nodes in parts for node in nodes] == list(range(len(datas)))
    if not stops:
        assert "".join(text for text, _ in parts) == b"".join(datas).decode(errors="replace")


@given(BYTES)
def test_a_token_comes_with_the_piece_in_which_its_last_character_ends(datas):
    text = ""
    for shown, nodes in flat(cut(datas)[:-1]):
        text += shown
        if nodes:
            before = b"".join(datas[: nodes[-1] + 1]).decode(errors="replace")
            assert text.startswith(before) or b"".join(datas[nodes[-1] + 1 :])[:1] >= b"\x80"


def test_a_token_without_text_stands_between_the_texts_around_it():
    assert flat(cut([b"a", b"", b"b"])) == [("a", (0,)), ("", (1,)), ("b", (2,))]


def test_a_token_without_text_waits_for_text_before_it_that_may_be_a_stop_string():
    parts = cut([b"xs", b"", b"t", b"y"], (b"stop",))
    assert parts == [[("x", ())], [], [], [("s", (0,)), ("", (1,)), ("ty", (2, 3))], []]


def test_tokens_of_a_character_come_together_with_it():
    assert cut([b"a\xe2", b"\x82", b"\xac\xc3"]) == [[("a", ())], [], [("€", (0, 1))], [("�", (2,))]]


def test_tokens_of_a_stop_string_come_at_the_end():
    assert cut([b"a", b"ST", b"OP", b""], (b"STOP",)) == [[("a", (0,))], [], [], [], [("", (1, 2, 3))]]


@pytest.mark.parametrize("strategy", [nt.Greedy(), nt.Sample(), nt.Speculate(nt.PromptLookup())])
@pytest.mark.parametrize("stop", [(), ("ab", "q")])
def test_a_stream_has_the_tokens_and_log_probabilities_of_its_output(strategy, stop):
    stream = tiny_lm().stream("abcabc", strategy, max_tokens=40, seed=3, stop=stop, logprobs=2)
    pieces = list(stream)
    [choice] = stream.output().choices
    assert [token for piece in pieces for token in piece.tokens] == choice.tokens
    assert [each for piece in pieces for each in piece.logprobs] == choice.logprobs
    assert "".join(map(str, pieces)) == choice.text


def test_a_control_token_arrives_at_its_place_with_empty_text():
    script = [*b"ab", USER, *b"c", EOS]

    def scores(path):
        logits = [0.0] * 259
        logits[script[len(path) - 1]] = 20.0
        return logits

    pieces = list(tiny_lm(scores).stream("x"))
    assert [(piece.text, piece.tokens) for piece in pieces] == [
        *(("a", (97,)), ("b", (98,)), ("", (USER,)), ("c", (99,)), ("", (EOS,)))
    ]
    assert {piece.logprobs for piece in pieces} == {None}


def test_the_choices_of_a_call_have_their_own_tokens():
    stream = tiny_lm().stream("abc", nt.Sample(), n=3, seed=1, max_tokens=20)
    pieces = list(stream)
    for index, choice in enumerate(stream.output().choices):
        assert [token for piece in pieces if piece.choice == index for token in piece.tokens] == choice.tokens


def test_an_asynchronous_stream_has_the_tokens_too():
    async def read():
        stream = tiny_lm().astream("abc", nt.Sample(), seed=1, max_tokens=20)
        tokens = [token async for piece in stream for token in piece.tokens]
        return tokens, (await stream.output()).tokens

    found, expected = asyncio.run(read())
    assert found == expected


def test_a_beam_search_tells_text_only():
    pieces = list(tiny_lm(saying("A sure thing.")).stream("x\n", nt.Beam(3), max_tokens=13, ignore_eos=True))
    assert "".join(map(str, pieces)) == "A sure thing."
    assert all(piece.text and piece.tokens == () and piece.logprobs is None for piece in pieces)


def test_a_piece_is_made_of_text_alone_and_prints_as_that():
    assert str(nt.Piece("a", 1)) == "a"
    assert nt.Piece("a") == nt.Piece("a", 0, (), None)
