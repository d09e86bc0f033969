"""A tokenizer from a GGUF file's metadata."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from nextok.errors import ModelFileError
from nextok.formats.files import name_in_errors, quote
from nextok.text.parts import catch_panics, check_parts
from nextok.text.pretokenizers import WORD_RULES, WordRule
from nextok.text.tokenizer import Tokenizer
from nextok.text.vocabulary import (
    PREFIX,
    TokenKind,
    Vocabulary,
    build_byte_alphabet,
    decode_byte_level,
    decode_piece,
    decode_tokens,
    find_ends,
    make_damage_error,
    read_id,
    read_list,
    read_merges,
    read_value,
    read_vocabulary,
    sort_merges,
)

if TYPE_CHECKING:
    import tokenizers
    from tokenizers.models import BPE
    from tokenizers.normalizers import Normalizer

HUGGING_FACE = "tokenizer.huggingface.json"
"""The key under which a GGUF file may hold a whole tokenizer.json."""


def build_tokenizer(metadata: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer that a GGUF file describes; ModelFileError if it is damaged or of an unknown family."""
    family = read_value(metadata, "model", str, "")
    if family == "gpt2":
        return _build_byte_level(metadata, read_vocabulary(metadata))
    if family == "llama":
        return _build_sentencepiece(metadata, read_vocabulary(metadata))
    raise ModelFileError(
        f"{PREFIX}model is {family[:80]!r}, but nextok reads gpt2 (byte-level) and llama (SentencePiece) only"
    )


def _build_byte_level(metadata: Mapping[str, Any], vocabulary: Vocabulary) -> Tokenizer:
    rule = _find_word_rule(metadata)
    normalizer = _build_normalizer(metadata, rule)
    model = _build_bpe(vocabulary, read_merges(metadata), ignore_merges=rule.whole_words)
    encoder, literal_encoder = _build_encoders(model, vocabulary)
    for each in (encoder, literal_encoder):
        each.pre_tokenizer = rule.build_pre_tokenizer()
        if normalizer:
            each.normalizer = normalizer
    spell = partial(decode_byte_level, alphabet=build_byte_alphabet())
    return _assemble(metadata, vocabulary, encoder, literal_encoder, spell, adds_bos=rule.adds_bos)


def _build_sentencepiece(metadata: Mapping[str, Any], vocabulary: Vocabulary) -> Tokenizer:
    from tokenizers.normalizers import Prepend, Replace, Sequence

    merges = sort_merges(vocabulary, read_list(metadata, "scores", float))
    unknown = next((vocabulary.texts[token] for token in vocabulary.find_ids(TokenKind.UNKNOWN)), None)
    model = _build_bpe(vocabulary, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True)
    encoder, literal_encoder = _build_encoders(model, vocabulary)
    space_prefix = read_value(metadata, "add_space_prefix", bool, True)
    for each in (encoder, literal_encoder):
        each.normalizer = Sequence([*([Prepend("▁")] if space_prefix else []), Replace(" ", "▁")])
    return _assemble(
        metadata,
        vocabulary,
        encoder,
        literal_encoder,
        decode_piece,
        adds_bos=True,
        bos=1,
        eos=2,
        space_prefix=space_prefix,
    )


def _build_normalizer(metadata: Mapping[str, Any], rule: WordRule) -> "Normalizer | None":
    """The step that normalises a text first: of the whole tokenizer.json if the file holds it, else of the rule."""
    import tokenizers
    from tokenizers.normalizers import NFC

    if HUGGING_FACE not in metadata:
        return NFC() if rule.composed else None
    with name_in_errors(HUGGING_FACE):
        try:
            steps = json.loads(metadata[HUGGING_FACE])["normalizer"]
        except (ValueError, RecursionError, LookupError, TypeError):
            raise make_damage_error("it is not the JSON of a tokenizer") from None
        check_parts({"normalizer": steps})
        empty = {"model": {"type": "BPE", "vocab": {}, "merges": []}, "normalizer": steps}
        with catch_panics():
            normalizer: Normalizer | None = tokenizers.Tokenizer.from_str(json.dumps(empty)).normalizer
        return normalizer


def _find_word_rule(metadata: Mapping[str, Any]) -> WordRule:
    name = read_value(metadata, "pre", str, "default")
    if name not in WORD_RULES:
        raise ModelFileError(f"{PREFIX}pre is {name[:80]!r}, but nextok reads {', '.join(sorted(WORD_RULES))} only")
    return WORD_RULES[name]


def _build_bpe(
    vocabulary: Vocabulary,
    merges: list[tuple[str, str]],
    *,
    unk_token: str | None = None,
    fuse_unk: bool = False,
    byte_fallback: bool = False,
    ignore_merges: bool = False,
) -> "BPE":
    from tokenizers.models import BPE

    ids = vocabulary.ids
    if bad := next((pair for pair in merges if "".join(pair) not in ids), None):  # the library may panic
        raise make_damage_error(f"{PREFIX}merges join {quote(bad[0])} and {quote(bad[1])} into what is no token")
    try:
        return BPE(
            ids,
            merges,
            unk_token=unk_token,
            fuse_unk=fuse_unk,
            byte_fallback=byte_fallback,
            ignore_merges=ignore_merges,
        )
    except Exception as error:  # the library has no class of its own for a merge of unknown tokens
        raise make_damage_error(f"{PREFIX}merges do not fit the vocabulary: {str(error)[:200]!r}") from None


def _build_encoders(model: "BPE", vocabulary: Vocabulary) -> "tuple[tokenizers.Tokenizer, tokenizers.Tokenizer]":
    """Two encoders that share one model: the second reads control tokens in a text as plain characters."""
    from tokenizers import AddedToken, Tokenizer

    encoder, literal_encoder = Tokenizer(model), Tokenizer(model)
    added = [
        AddedToken(text, normalized=False, special=kind != TokenKind.USER_DEFINED)
        for text, kind in zip(vocabulary.texts, vocabulary.kinds)
        if text and kind in (TokenKind.CONTROL, TokenKind.UNKNOWN, TokenKind.USER_DEFINED)
    ]
    for each in (encoder, literal_encoder):
        each.add_tokens(added)
    literal_encoder.encode_special_tokens = True
    return encoder, literal_encoder


def _assemble(
    metadata: Mapping[str, Any],
    vocabulary: Vocabulary,
    encoder: "tokenizers.Tokenizer",
    literal_encoder: "tokenizers.Tokenizer",
    spell: Callable[[str], bytes],
    *,
    adds_bos: bool,
    bos: int | None = None,
    eos: int | None = None,
    space_prefix: bool = False,
) -> Tokenizer:
    size = len(vocabulary.texts)
    bos_id = read_id(metadata, "bos_token_id", size, bos)
    eos_id = read_id(metadata, "eos_token_id", size, eos)
    others = [read_id(metadata, key, size) for key in ("eot_token_id", "eom_token_id")]
    control_ids = frozenset(vocabulary.find_ids(TokenKind.CONTROL, TokenKind.UNKNOWN))
    user_defined = vocabulary.find_ids(TokenKind.USER_DEFINED)
    return Tokenizer(
        names=tuple(vocabulary.texts),
        token_bytes=decode_tokens(vocabulary, spell),
        control_ids=control_ids,
        bos_id=bos_id,
        eos_id=eos_id,
        eos_ids=find_ends(vocabulary.ids, [eos_id, *others], control_ids.union(user_defined)),
        before=_find_added(metadata, "add_bos_token", adds_bos, bos_id),
        after=_find_added(metadata, "add_eos_token", False, eos_id),
        drops_first_space=space_prefix,
        chat_template=_read_chat_template(metadata),
        encoder=encoder,
        literal_encoder=literal_encoder,
    )


def _find_added(metadata: Mapping[str, Any], key: str, absent: bool, token: int | None) -> tuple[int, ...]:
    if not read_value(metadata, key, bool, absent):
        return ()
    if token is None:
        if PREFIX + key in metadata:
            raise make_damage_error(f"{PREFIX}{key} is true, but the file does not name that token")
        return ()
    return (token,)


def _read_chat_template(metadata: Mapping[str, Any]) -> str | None:
    template = metadata.get("tokenizer.chat_template")
    if template is not None and not isinstance(template, str):
        raise make_damage_error("tokenizer.chat_template must be a string")
    return template
