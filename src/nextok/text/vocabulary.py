"""The vocabulary of a GGUF file's metadata, checked, and the bytes that its tokens stand for."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeVar

from nextok.errors import ModelFileError
from nextok.formats.files import AGAIN

T = TypeVar("T")
D = TypeVar("D")

PREFIX = "tokenizer.ggml."
LONGEST_TOKEN = 1024
"""Largest number of characters of a token."""

# Names of tokens that end a text, as llama.cpp collects them: files often declare only one of several.
END_NAMES = {
    *("<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|endoftext|>", "<|end_of_text|>"),
    *("<|eom_id|>", "<end_of_turn>", "<end_of_utterance>", "<｜end▁of▁sentence｜>", "</s>", "<eos>"),
    *("<EOT>", "_<EOT>", "[EOT]", "[EOS]"),
}


def make_damage_error(fault: str) -> ModelFileError:
    """The error for a damaged vocabulary."""
    return ModelFileError(f"{fault}: {AGAIN}")


class TokenKind(IntEnum):
    """What a token is, by the numbers of the GGUF format."""

    UNDEFINED = 0
    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Token texts, in the order of their ids, each with its kind."""

    texts: list[str]
    kinds: list[int]

    @property
    def ids(self) -> dict[str, int]:
        """Text to id; ModelFileError if two ids share a text."""
        ids = {text: token for token, text in enumerate(self.texts)}
        if len(ids) < len(self.texts):
            token, text = next((i, text) for i, text in enumerate(self.texts) if ids[text] != i)
            raise make_damage_error(f"the vocabulary has {_quote(text)} twice, as token {token} and {ids[text]}")
        return ids

    def find_ids(self, *kinds: TokenKind) -> list[int]:
        """The ids of these kinds, ascending."""
        return [token for token, kind in enumerate(self.kinds) if kind in kinds]


def read_vocabulary(metadata: Mapping[str, Any]) -> Vocabulary:
    """The token list and the kinds; without kinds, every token is a normal one."""
    texts = read_list(metadata, "tokens", str)
    if not texts:
        raise make_damage_error(f"{PREFIX}tokens is missing or empty")
    if (longest := max(map(len, texts))) > LONGEST_TOKEN:
        raise make_damage_error(f"a token of {longest} characters is longer than the {LONGEST_TOKEN} allowed")
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        raise make_damage_error(f"{PREFIX}tokens holds a token that is not Unicode text") from None
    kinds = read_list(metadata, "token_type", int) or [int(TokenKind.NORMAL)] * len(texts)
    if len(kinds) != len(texts):
        raise make_damage_error(f"the vocabulary has {len(texts)} tokens, but {len(kinds)} token types")
    return Vocabulary(texts, kinds)


def read_list(metadata: Mapping[str, Any], key: str, kind: type[T]) -> list[T]:
    """A list whose items are all of one type; empty if it is absent."""
    values = metadata.get(PREFIX + key, [])
    if not isinstance(values, list) or not set(map(type, values)) <= {kind}:
        raise make_damage_error(f"{PREFIX}{key} must be a list of {kind.__name__}")
    return values


def read_value(metadata: Mapping[str, Any], key: str, kind: type[T], absent: D) -> T | D:
    """One value of a given type."""
    value = metadata.get(PREFIX + key, absent)
    if type(value) is not kind and value is not absent:
        raise make_damage_error(f"{PREFIX}{key} must be {kind.__name__}, got {_quote(value)}")
    return value


def read_id(metadata: Mapping[str, Any], key: str, size: int, absent: int | None = None) -> int | None:
    """A token id within the vocabulary."""
    token = read_value(metadata, key, int, absent)
    if token is not None and not 0 <= token < size:
        raise make_damage_error(f"{PREFIX}{key} is {token}, but ids go from 0 to {size - 1}")
    return token


def read_merges(metadata: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The pairs of a byte-level vocabulary, best first."""
    merges = [tuple(merge.split(" ")) for merge in read_list(metadata, "merges", str)]
    if not merges:
        raise make_damage_error(f"{PREFIX}merges is missing or empty, but byte-level vocabularies need it")
    if bad := next((merge for merge in merges if len(merge) != 2), None):
        raise make_damage_error(f"the merge {_quote(' '.join(bad))} is not two tokens with a space between")
    return merges  # type: ignore[return-value]


def sort_merges(vocabulary: Vocabulary, scores: Sequence[float]) -> list[tuple[str, str]]:
    """Every pair of pieces that joins into a third, by the third's score: SentencePiece's order of merging."""
    if len(scores) != len(vocabulary.texts) or not all(map(math.isfinite, scores)):
        raise make_damage_error(f"{PREFIX}scores must have one finite number for each token")
    joinable = vocabulary.find_ids(TokenKind.NORMAL, TokenKind.USER_DEFINED, TokenKind.UNUSED)
    pieces = {vocabulary.texts[token] for token in joinable}
    ranked = [
        (-scores[token], cut, text[:cut], text[cut:])
        for token in joinable
        for text in (vocabulary.texts[token],)
        for cut in range(1, len(text))
        if text[:cut] in pieces and text[cut:] in pieces
    ]
    ranked.sort(key=lambda merge: merge[:2])
    return [(left, right) for _, _, left, right in ranked]


def decode_byte_level(text: str, alphabet: Mapping[str, int]) -> bytes:
    """The bytes of a token in GPT-2's alphabet; of a token with other characters, its UTF-8."""
    try:
        return bytes([alphabet[character] for character in text])
    except KeyError:
        return text.encode()


def build_byte_alphabet() -> dict[str, int]:
    """GPT-2's characters for bytes: a printable one stands for itself, others have one from U+0100 on."""
    printed = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in printed]
    return {chr(byte): byte for byte in printed} | {chr(0x100 + i): byte for i, byte in enumerate(hidden)}


def decode_piece(text: str) -> bytes:
    """The bytes of a SentencePiece token: `▁` is a space, `<0x0A>` a byte."""
    if len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
        try:
            return bytes([int(text[3:5], 16)])
        except ValueError:
            pass
    return text.replace("▁", " ").encode()


def decode_tokens(vocabulary: Vocabulary, normal: Callable[[str], bytes]) -> tuple[bytes, ...]:
    """The bytes that each token adds to a text: by `normal` for text, its name for user-defined ones, else none."""

    def decode(text: str, kind: int) -> bytes:
        if kind in (TokenKind.NORMAL, TokenKind.BYTE):
            return normal(text)
        return text.encode() if kind == TokenKind.USER_DEFINED else b""

    return tuple(map(decode, vocabulary.texts, vocabulary.kinds))


def find_ends(ids: Mapping[str, int], declared: Iterable[int | None], special: frozenset[int]) -> frozenset[int]:
    """All tokens that end a text: those that a file declares and special ones with a known name."""
    named = {ids[name] for name in END_NAMES if name in ids} & special
    if "<|return|>" in ids and "<|call|>" in ids:  # in such a vocabulary `<|end|>` ends one message of several
        named.discard(ids.get("<|end|>", -1))
    return frozenset(named | {token for token in declared if token is not None})


def _quote(value: object) -> str:
    return repr(value)[:80]
