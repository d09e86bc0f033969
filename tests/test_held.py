"""Stop strings: whatever way bytes are cut, what is shown is the text before the match that counts."""

from hypothesis import given, settings
from hypothesis import strategies as st

from nextok.text import HeldText


def shown(stops, chunks):
    """Everything shown, and whether a stop string ended it."""
    held = HeldText(stops)
    text = "".join(map(held.feed, chunks)) + held.flush()
    return text, held.stopped


def by_definition(stops, text):
    """The place that counts, by trying every end and every start in turn."""
    for end in range(len(text) + 1):
        for start in range(end):
            if text[start:end] in stops:
                return start, end
    return None


def cut(data, text):
    """The text in chunks, as tokens would bring it."""
    places = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=12)))
    return [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]


# Few different bytes, so that stop strings often begin, overlap and nearly match.
ALPHABETS = st.sampled_from(
    [[b"a", b"b"], [b"a", b"b", b"c"], [*map(bytes, zip("é€".encode()))], ["é".encode(), b"a", "🙂".encode()]]
)


@st.composite
def cases(draw):
    letters = st.lists(st.sampled_from(draw(ALPHABETS)), max_size=24).map(b"".join)
    short = st.lists(st.sampled_from([b"a", b"b", "é".encode(), b"\xc3", b"ab"]), min_size=1, max_size=5).map(
        b"".join
    )
    return draw(letters), tuple(draw(st.lists(short, max_size=4)))


@given(cases(), st.data())
@settings(deadline=None, max_examples=600)
def test_what_is_shown_never_depends_on_the_cuts(case, data):
    text, stops = case
    match = by_definition(stops, text)
    whole = text[: match[0]] if match else text
    assert shown(stops, cut(data, text)) == (whole.decode("utf-8", "replace"), match is not None)


@given(cases(), st.data())
@settings(deadline=None, max_examples=200)
def test_nothing_is_held_back_without_need(case, data):
    text, stops = case
    held, read, told = HeldText(stops), b"", ""
    for chunk in cut(data, text):
        told += held.feed(chunk)
        read += chunk
        if held.stopped:
            return
        tails = [n for stop in stops for n in range(len(stop)) if read.endswith(stop[:n])]
        safe = read[: len(read) - max(tails, default=0)].decode("utf-8", "replace").removesuffix("\ufffd")
        assert told.startswith(safe.removesuffix("\ufffd"))


def test_a_stop_string_is_found_across_tokens_and_inside_them():
    assert shown((b"STOP",), [b"one S", b"T", b"OP two"]) == ("one ", True)
    assert shown((b"STOP",), [b"one STOP two"]) == ("one ", True)
    assert shown((b"STOP",), [b"one S", b"T", b"O"]) == ("one STO", False)
    assert shown(("🙂".encode(),), [b"a\xf0", b"\x9f\x99", b"\x82b"]) == ("a", True)


def test_overlapping_stop_strings():
    assert shown((b"bcd", b"c"), [b"abcd"]) == shown((b"bcd", b"c"), [b"a", b"b", b"c", b"d"]) == ("ab", True)
    assert shown((b"abc", b"bc"), [b"xabc"]) == ("x", True)
    assert shown((b"aab",), [b"aaaab"]) == ("aa", True)


def test_text_is_shown_as_soon_as_it_is_safe():
    held = HeldText((b"\n\nUser:",))
    assert [held.feed(piece) for piece in (b"Hi", b"\n", b"\n", b"Us", b"e me", b"\n\nUser:", b"more")] == [
        *("Hi", "", "", "", "\n\nUse me", "", "")
    ]
    assert held.stopped
    assert held.flush() == ""


def test_without_stop_strings_only_characters_are_held():
    held = HeldText(())
    assert [held.feed(b"a\xe2\x82"), held.feed(b"\xacb"), held.feed(b"\xe2"), held.flush()] == [
        "a",
        "€b",
        "",
        "\ufffd",
    ]


def test_a_match_that_begins_inside_a_character_leaves_a_mark():
    assert shown((b"\x82",), [b"a\xe2\x82\xac"]) == ("a\ufffd", True)


def test_a_match_where_the_text_may_not_end_yet_is_only_text():
    held = HeldText((b"ab", b"c"))
    assert [held.feed(b"xab", may_stop=False), held.feed(b"c", may_stop=False), held.stopped] == ["xab", "c", False]
    assert [held.feed(b"a"), held.feed(b"b"), held.stopped] == ["", "", True]
    spanning = HeldText((b"abc",))
    assert [spanning.feed(b"xab", may_stop=False), spanning.feed(b"c"), spanning.stopped] == ["x", "", True]
