"""When a text ends and what of it is shown, against an oracle that decodes everything first and searches then."""

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nextok as nt
from nextok.core import ending
from nextok.engine.engine import Engine
from nextok.generation.writer import Writer
from tiny import EOS, saying, tiny_lm
from toys import BEAMS, DRAFTS, SAMPLINGS, SHAPED, STOP, TARGET, VOCAB, asked

STRATEGIES = {
    "greedy": SAMPLINGS["greedy"],
    "plain": SAMPLINGS["plain"],
    "all at once": SHAPED["all at once"],
    "mirostat 2": SHAPED["mirostat 2"],
} | {
    f"{draft} {sampling}": nt.Speculate(DRAFTS[draft], (SAMPLINGS | SHAPED)[sampling])
    for draft in ("itself", "tree", "lookup", "random", "liar")
    for sampling in ("greedy", "plain", "restless")
}
ALPHABET = [b"a", b"b", b"ab", b"aab", b"ba", b"", b"\xe2\x82", b"\xac", b"\xe2\x82\xac", b"b\xe2", "€a".encode()]
NAMES = st.lists(st.sampled_from(ALPHABET), min_size=VOCAB, max_size=VOCAB)
STOPS = st.lists(
    st.text("ab€", min_size=1, max_size=4).map(str.encode) | st.sampled_from([b"a", b"aa", b"aba", b"\xac"]),
    max_size=3,
    unique=True,
)


@dataclass(frozen=True)
class Ending:
    """Where a text must end, and with what to show."""

    length: int
    text: str
    reason: str | None


def oracle(tokens, names, stops, stop_ids, min_tokens, max_tokens, room):
    """Decode all tokens, find the first place where a stop string completes, see what else comes before it."""
    whole, last_of = b"", []  # last_of[i]: how many tokens there are up to byte i
    for length, token in enumerate(tokens, 1):
        if token not in stop_ids:
            whole += names[token]
            last_of += [length] * (len(whole) - len(last_of))
    ends = [(length, "length") for length in [max_tokens] if len(tokens) >= length]
    ends += [(room, "context")] if len(tokens) >= room else []
    ends += [(i, "stop") for i, token in enumerate(tokens, 1) if token in stop_ids and i >= min_tokens][:1]
    text = None
    for end in range(1, len(whole) + 1):
        found = [stop for stop in stops if whole[:end].endswith(stop)]
        if found and last_of[end - 1] >= min_tokens:
            ends.append((last_of[end - 1], "stop"))
            text = whole[: end - max(map(len, found))]
            break
    if not ends:
        return Ending(len(tokens), whole.decode(errors="replace"), None)
    order = ["stop", "length", "context"]
    length, reason = min(ends, key=lambda each: (each[0], order.index(each[1])))
    if text is None or ends[-1][0] > length or reason != "stop":
        text = b"".join(names[token] for token in tokens[:length] if token not in stop_ids)
    return Ending(length, text.decode(errors="replace"), reason)


def run(strategy, prompt, hypotheses=0, **limits):
    """All completions, and the pieces as they were shown."""
    request = asked(prompt, **limits)
    engine, writer = Engine(TARGET), Writer(request, hypotheses)
    engine.submit(request, strategy, writer)
    engine.run()
    assert request.error is None
    return writer.completions(), [text for text, _, _ in writer.pieces]


LIMITS = st.fixed_dictionaries(
    {
        "stop": STOPS.map(tuple),
        "stop_ids": st.sampled_from([frozenset(), frozenset({STOP}), frozenset({2, 5})]),
        "max_tokens": st.integers(4, 14),
        "min_tokens": st.integers(0, 4),
        "context": st.none() | st.integers(7, 16),
        "token_bytes": NAMES.map(tuple),
        "seed": st.integers(0, 9),
    }
)
PROMPTS = st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=3)


def expected_of(tokens, prompt, limits):
    room = 10**9 if limits["context"] is None else limits["context"] - len(prompt)
    return oracle(
        tokens,
        limits["token_bytes"],
        limits["stop"],
        limits["stop_ids"],
        limits["min_tokens"],
        limits["max_tokens"],
        room,
    )


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(STRATEGIES)), PROMPTS, LIMITS)
def test_a_text_ends_where_the_oracle_says_in_every_strategy(name, prompt, limits):
    endless = limits | {"stop": (), "max_tokens": 14, "context": None}
    [whole], _ = run(STRATEGIES[name], prompt, **endless)
    expected = expected_of(whole.tokens, prompt, limits)
    [found], pieces = run(STRATEGIES[name], prompt, **limits)
    assert found.tokens == whole.tokens[: expected.length]
    assert found.finish_reason == expected.reason
    assert found.text == expected.text == "".join(pieces)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(sorted(BEAMS)), PROMPTS, LIMITS)
def test_every_beam_ends_where_the_oracle_says(name, prompt, limits):
    strategy = BEAMS[name]
    best, _ = run(strategy, prompt, hypotheses=strategy.width, **limits)
    for completion in best:
        expected = expected_of(completion.tokens, prompt, limits)
        assert completion.finish_reason == expected.reason is not None
        assert len(completion.tokens) == expected.length
        assert completion.text == expected.text


@given(LIMITS, PROMPTS)
@settings(max_examples=50, deadline=None)
def test_the_oracle_agrees_with_itself_on_what_it_has_cut(limits, prompt):
    tokens = [1, 2, 3, 4, 5, 6] * 3
    once = expected_of(tokens, prompt, limits)
    assert expected_of(tokens[: once.length], prompt, limits) == once


def test_negative_control_a_stop_string_looked_for_in_single_tokens_only_is_noticed(monkeypatch):
    def short_sighted(self, node):
        limits, token = self._limits, self._tree.token[node]
        return any(stop in limits.token_bytes[token] for stop in limits.stop)

    limits = {
        "stop": (b"aa",),
        "stop_ids": frozenset(),
        "max_tokens": 6,
        "min_tokens": 0,
        "context": None,
        "token_bytes": (b"a",) * VOCAB,
        "seed": 0,
    }
    law = test_a_text_ends_where_the_oracle_says_in_every_strategy.hypothesis.inner_test
    law("plain", [1], limits)
    monkeypatch.setattr(ending.Ending, "_completes_stop", short_sighted)
    with pytest.raises(AssertionError):
        law("plain", [1], limits)


SAID = "Yes. No! Yes, no. €uro €nd"
CASES = [
    ("No", "Yes. ", None),
    (["no", "No"], "Yes. ", None),
    ("es", "Y", None),
    (["Yes. No", "es. N"], "Y", None),  # completes first, though it begins later
    (["Yes. No", "s. No"], "", None),  # both complete at once: the longer one
    ("€n", "Yes. No! Yes, no. €uro ", None),
    ("Yes", "", None),
    ("Yes", "Yes. No! ", 4),  # the first one comes too early
    ("es", "Yes. No! Y", 4),
    ("never", SAID, None),
    ("o!", "Yes. N", None),
    ("d", "Yes. No! Yes, no. €uro €n", None),
]


@pytest.mark.parametrize(("stop", "text", "min_tokens"), CASES)
@pytest.mark.parametrize(
    "strategy",
    [
        nt.Greedy(),
        nt.Sample(temperature=0.1),
        nt.Beam(2),
        nt.Speculate(nt.DraftModel(tiny_lm(saying(SAID)))),
        nt.Speculate(nt.TokenTree(tiny_lm(saying(SAID)), widths=(2, 1, 1))),
    ],
    ids=repr,
)
def test_known_texts_end_where_they_should(strategy, stop, text, min_tokens):
    lm = tiny_lm(saying(SAID))
    options = {"stop": stop, "min_tokens": min_tokens or 0, "seed": 1}
    output = lm.generate("x\n", strategy, **options)
    assert (output.text, output.finish_reason) == (text, "stop")
    assert "".join(piece.text for piece in lm.stream("x\n", strategy, **options)) == text


def test_a_stop_string_that_completes_inside_a_token_hides_the_rest_of_it():
    names = (b"", b"x", b"one two three", b"w", b"", b"", b"")
    tokens = [1, 2]
    assert oracle(tokens, names, (b"two",), frozenset(), 0, 9, 99) == Ending(2, "xone ", "stop")
    for name in STRATEGIES:
        for seed in range(5):
            [found], _ = run(
                STRATEGIES[name], [1], seed=seed, token_bytes=names, stop=(b"two",), stop_ids=frozenset()
            )
            assert ("three" in found.text) is False
            assert (2 in found.tokens) == (found.finish_reason == "stop")


def test_nothing_after_a_stop_inside_an_accepted_draft_is_kept_or_counted():
    lm = tiny_lm(saying("abc STOP and more"))
    output = lm.generate("x\n", nt.Speculate(nt.DraftModel(lm, max_draft=16)), stop="STOP")
    assert output.text == "abc "
    assert bytes(output.tokens) == b"abc STOP"
    assert output.stats.generated_tokens == 8
    assert output.stats.accepted == 8


def test_the_end_token_is_kept_out_of_the_text_but_among_the_tokens():
    output = tiny_lm(saying("ab")).generate("\n")
    assert (output.text, output.tokens) == ("ab", [ord("a"), ord("b"), EOS])
    again = tiny_lm(saying("ab")).generate("\n", stop_token_ids=[ord("b")], min_tokens=3, max_tokens=5)
    assert ord("b") not in again.tokens[:2]
    assert EOS not in again.tokens[:2]
