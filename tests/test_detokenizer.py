"""The law of streaming: pieces, joined, are the bytes decoded at once; no piece has half a character."""

from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus import lines
from nextok.text import HeldText
from test_tokenizer import small, small_sentencepiece

BYTES = tuple(bytes([byte]) for byte in range(256))


def streamed(token_bytes, tokens):
    held = HeldText(())
    return [*(held.feed(token_bytes[token]) for token in tokens), held.flush()]


@settings(deadline=None)
@given(st.lists(st.binary(max_size=6), min_size=1, max_size=20), st.data())
def test_pieces_join_to_the_text_for_any_bytes(token_bytes, data):
    tokens = data.draw(st.lists(st.integers(0, len(token_bytes) - 1), max_size=30))
    whole = b"".join(token_bytes[token] for token in tokens)
    assert "".join(streamed(token_bytes, tokens)) == whole.decode("utf-8", "replace")


@settings(deadline=None)
@given(st.text())
def test_a_character_appears_with_its_last_byte(text):
    pieces = streamed(BYTES, text.encode())
    assert [piece for piece in pieces if piece] == list(text)
    assert "\ufffd" not in "".join(pieces) or "\ufffd" in text


@pytest.mark.parametrize("small_one", [partial(small, "llama-bpe"), small_sentencepiece])
def test_a_continuation_streams_to_what_it_decodes_to(small_one):
    tokenizer = small_one()
    for text in lines()[::4]:
        tokens = tokenizer.encode(text)
        for cut in (0, len(tokens) // 3, len(tokens) // 2):
            pieces = "".join(streamed(tokenizer.token_bytes, tokens[cut:]))
            assert pieces == tokenizer.decode_continuation(tokens[cut:])
            prompt = tokenizer.decode(tokens[:cut])
            if prompt and "\ufffd" not in prompt:  # else the cut went through a character
                assert prompt + pieces == tokenizer.decode(tokens)


@settings(deadline=None)
@given(st.lists(st.integers(0, small_sentencepiece().vocab_size - 1)))
def test_any_tokens_of_a_vocabulary_stream_to_what_they_decode_to(tokens):
    tokenizer = small_sentencepiece()
    assert "".join(streamed(tokenizer.token_bytes, tokens)) == tokenizer.decode_continuation(tokens)
