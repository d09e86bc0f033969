"""A tokenizer of a folder becomes the settings of a GGUF file, if these can express it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nextok.errors import ModelFileError
from nextok.formats.files import name_in_errors, quote
from nextok.formats.gguf import MOST_STRING_BYTES, Value, read_gguf
from nextok.text.from_folder import find_token, read_content, read_settings
from nextok.text.from_gguf import HUGGING_FACE
from nextok.text.pretokenizers import GPT2, WORD_RULES, WordRule
from nextok.text.tokenizer import Tokenizer
from nextok.text.vocabulary import PREFIX, TokenKind, build_byte_alphabet, find_ends

NEVER_IN_UTF8 = {0xC0, 0xC1, *range(0xF5, 0x100)}
"""Bytes that no UTF-8 text contains."""
OTHER_ENDS = ("eot_token_id", "eom_token_id")
"""Settings of further tokens that end a text."""


def build_gguf_settings(place: Path, tokenizer: Tokenizer, rows: int) -> dict[str, Value]:
    """The `tokenizer.` settings of a GGUF file for the tokenizer at `place`, a folder or a GGUF file itself.

    The vocabulary gets as many tokens as the model has `rows`. ModelFileError for a rule that GGUF has no name for.
    """
    if place.is_dir():
        with name_in_errors(str(place / "tokenizer.json")):
            return _convert_folder(place, tokenizer, rows)
    found = {key: value for key, value in read_gguf(place).metadata.items() if key.startswith("tokenizer.")}
    missing = rows - tokenizer.vocab_size
    fillings: dict[str, list[Any]] = {
        "tokens": _name_padding(tokenizer.vocab_size, rows),
        "token_type": [int(TokenKind.UNUSED)] * missing,
        "scores": [-1e9] * missing,
    }
    for key, filling in fillings.items():
        if isinstance(values := found.get(PREFIX + key), list):
            found[PREFIX + key] = [*values, *filling]
    return found


def _name_padding(size: int, rows: int) -> list[str]:
    """Names for the rows of a model that stand for no token, as other converters call them."""
    return [f"[PAD{row}]" for row in range(size, rows)]


def _convert_folder(folder: Path, tokenizer: Tokenizer, rows: int) -> dict[str, Value]:
    content, settings = read_content(folder), read_settings(folder)
    _check_byte_level(content, tokenizer)
    kinds = _list_kinds(tokenizer)
    name, exact = _find_rule_name(content)
    padding = _name_padding(tokenizer.vocab_size, rows)
    texts = [text or f"[PAD{token}]" for token, text in enumerate(tokenizer.names)]
    values: dict[str, Value] = {
        "model": "gpt2",
        "pre": name,
        "tokens": [*texts, *padding],
        "token_type": [*kinds, *[int(TokenKind.UNUSED)] * len(padding)],
        "merges": _list_merges(content),
        "add_bos_token": _check_added(tokenizer.before, tokenizer.bos_id),
        "add_eos_token": _check_added(tokenizer.after, tokenizer.eos_id),
    }
    special = {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id}
    for role, key in (("pad_token", "padding_token_id"), ("unk_token", "unknown_token_id")):
        special[key] = tokenizer.encoder.token_to_id(find_token(settings, role))
    values |= {key: token for key, token in special.items() if token is not None} | _find_other_ends(tokenizer, kinds)
    found = {PREFIX + key: value for key, value in values.items()}
    if tokenizer.chat_template is not None:
        found["tokenizer.chat_template"] = tokenizer.chat_template
    if not exact:
        found[HUGGING_FACE] = _dump_whole(content)
    return found


def _check_byte_level(content: Mapping[str, Any], tokenizer: Tokenizer) -> None:
    decoder = content["decoder"]
    if "ByteLevel" not in [step["type"] for step in decoder.get("decoders", [decoder])]:
        raise ModelFileError("it is SentencePiece's, which nextok writes as no GGUF: convert to a folder")
    names = set(tokenizer.names)
    absent = [
        byte for letter, byte in build_byte_alphabet().items() if letter not in names and byte not in NEVER_IN_UTF8
    ]
    if absent and content["model"].get("unk_token"):
        raise ModelFileError(
            f"it has no token for the byte {absent[0]:#x}, and GGUF cannot name the token that stands for it"
        )


def _list_kinds(tokenizer: Tokenizer) -> list[int]:
    kinds = [int(TokenKind.NORMAL if text else TokenKind.UNUSED) for text in tokenizer.names]
    for token, added in tokenizer.encoder.get_added_tokens_decoder().items():
        if added.lstrip or added.rstrip or added.single_word:
            raise ModelFileError(
                f"its token {quote(added.content)} takes the spaces around it, which GGUF cannot express"
            )
        kinds[token] = int(TokenKind.CONTROL if added.special else TokenKind.USER_DEFINED)
    return kinds


def _list_merges(content: Mapping[str, Any]) -> list[Any]:
    return [merge if isinstance(merge, str) else " ".join(merge) for merge in content["model"]["merges"]]


def _check_added(around: tuple[int, ...], token: int | None) -> bool:
    if around not in ((), (token,)):
        raise ModelFileError(f"it puts the ids {list(around)} around a text, but GGUF can express only bos and eos")
    return bool(around)


def _find_other_ends(tokenizer: Tokenizer, kinds: list[int]) -> dict[str, int]:
    """The tokens that end a text and are neither eos nor known by their name."""
    special = {token for token, kind in enumerate(kinds) if kind in (TokenKind.CONTROL, TokenKind.USER_DEFINED)}
    ids = {text: token for token, text in enumerate(tokenizer.names)}
    others = sorted(tokenizer.eos_ids - find_ends(ids, [tokenizer.eos_id], frozenset(special)))
    if len(others) > len(OTHER_ENDS):
        raise ModelFileError(f"its texts end with any of {len(others) + 1} tokens, more than GGUF can express")
    return dict(zip(OTHER_ENDS, others))


def _find_rule_name(content: Mapping[str, Any]) -> tuple[str, bool]:
    """GGUF's name for the way in which words are cut, and whether it covers all that is done to a text."""
    normalizer = content.get("normalizer")
    composed = normalizer == {"type": "NFC"}
    whole_words = bool(content["model"].get("ignore_merges"))
    patterns, single_digits = _read_patterns(content.get("pre_tokenizer"))
    names = [name for name in WORD_RULES if name != "default"]
    for wanted in (composed, not composed):
        rule = WordRule(patterns, single_digits, wanted, whole_words)
        for name in names:
            known = WORD_RULES[name]
            if WordRule(known.patterns, known.single_digits, known.composed, known.whole_words) == rule:
                return name, wanted == composed and (composed or normalizer is None)
    raise ModelFileError(f"GGUF has no name for its pre_tokenizer, {quote(json.dumps(content.get('pre_tokenizer')))}")


def _read_patterns(pre_tokenizer: Any) -> tuple[tuple[str, ...], bool]:
    """The patterns of a pre_tokenizer, and whether it cuts digits apart; ModelFileError for any other step."""
    steps = (pre_tokenizer or {}).get("pretokenizers", [pre_tokenizer])
    patterns: list[str] = []
    single_digits = by_words = False
    for step in steps:
        match step:
            case {"type": "Split", "pattern": {"Regex": str(pattern)}, "behavior": "Isolated", "invert": False}:
                patterns.append(pattern)
            case {"type": "Digits", "individual_digits": True}:
                single_digits = True
            case {"type": "ByteLevel", "add_prefix_space": False}:
                by_words = step.get("use_regex", True)
            case _:
                raise ModelFileError(f"GGUF has no name for the step {quote(json.dumps(step))} of its pre_tokenizer")
    if by_words == bool(patterns):
        raise ModelFileError("its pre_tokenizer cuts words twice, or not at all, which GGUF has no name for")
    return tuple(pattern for pattern in patterns if pattern != GPT2), single_digits


def _dump_whole(content: Mapping[str, Any]) -> str:
    """The whole tokenizer.json, for what the other settings cannot express."""
    whole = json.dumps(content, ensure_ascii=False)
    if len(whole.encode()) > MOST_STRING_BYTES:
        raise ModelFileError(f"it has more than {MOST_STRING_BYTES:,} bytes, too many for a GGUF file's setting")
    return whole
