"""A tokenizer from a Hugging Face folder: JSON and a template, no code."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nextok.errors import ModelFileError
from nextok.formats.files import name_in_errors, quote, read_bytes
from nextok.text.parts import catch_panics, check_parts
from nextok.text.tokenizer import Tokenizer
from nextok.text.vocabulary import build_byte_alphabet, decode_byte_level, decode_piece, find_ends

if TYPE_CHECKING:
    import tokenizers

MOST_VOCABULARY_BYTES = 128 << 20
"""Largest size of tokenizer.json, in bytes."""
MOST_BYTES = 16 << 20
"""Largest size of any other file, in bytes."""
MOST_IDS = 1 << 22
"""Largest number of token ids."""


def read_tokenizer(path: str | os.PathLike[str]) -> Tokenizer:
    """The tokenizer that `tokenizer.json` and its neighbours describe; ModelFileError if they are damaged."""
    folder = Path(path)
    settings = read_settings(folder)
    with name_in_errors(str(folder / "tokenizer.json")):
        content = read_content(folder)
        encoder = _build_encoder(content, settings)
        ids = encoder.get_vocab(with_added_tokens=True)
        names = _list_names(ids)
        token_bytes, drops_first_space = _spell_tokens(encoder, content["decoder"], names)
        literal_encoder = _build_literal_encoder(encoder)
    bos_id = ids.get(find_token(settings, "bos_token"))
    eos_id = ids.get(find_token(settings, "eos_token"))
    control_ids = frozenset(token for token, each in encoder.get_added_tokens_decoder().items() if each.special)
    with name_in_errors(str(folder / "tokenizer.json")):
        before, after = _find_around(encoder, settings, bos_id, eos_id)
        if bad := [token for token in (*before, *after) if token >= len(names)]:
            raise ModelFileError(f"its post_processor adds id {bad[0]}, but ids go from 0 to {len(names) - 1}")
    return Tokenizer(
        names=names,
        token_bytes=token_bytes,
        control_ids=control_ids,
        bos_id=bos_id,
        eos_id=eos_id,
        eos_ids=find_ends(ids, [eos_id, *_read_ends(folder, len(names))], control_ids),
        before=before,
        after=after,
        drops_first_space=drops_first_space,
        chat_template=_read_chat_template(folder, settings),
        encoder=encoder,
        literal_encoder=literal_encoder,
    )


def _read_text(folder: Path, name: str, limit: int = MOST_BYTES) -> str | None:
    if not (folder / name).is_file():
        return None
    try:
        return read_bytes(folder / name, limit).decode()
    except UnicodeDecodeError:
        raise ModelFileError("it is not UTF-8 text: download it again") from None


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    """A file's settings; none if there is no such file."""
    with name_in_errors(str(folder / name)):
        text = _read_text(folder, name) or "{}"
        try:
            settings = json.loads(text)
        except (ValueError, RecursionError):
            settings = None
        if not isinstance(settings, dict):
            raise ModelFileError("it is not a JSON object: download it again")
        return settings


def read_settings(folder: Path) -> dict[str, Any]:
    """The settings of special tokens and templates, from the files beside `tokenizer.json`."""
    return _read_json(folder, "special_tokens_map.json") | _read_json(folder, "tokenizer_config.json")


def read_content(folder: Path) -> dict[str, Any]:
    """The content of `tokenizer.json`; ModelFileError if it is of a kind that nextok does not read."""
    text = _read_text(folder, "tokenizer.json", MOST_VOCABULARY_BYTES)
    if text is None:
        raise ModelFileError("there is no such file: save the tokenizer with transformers 4.0 or later")
    try:
        content: dict[str, Any] = json.loads(text)
        model, decoder = content["model"], content["decoder"] or {"type": "missing"}
        kind, decoders = model.get("type", "BPE"), [step["type"] for step in decoder.get("decoders", [decoder])]
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        raise ModelFileError("it is not the JSON of a tokenizer: download it again") from None
    if kind != "BPE" or not {"ByteLevel", "ByteFallback", "Metaspace"} & {*map(str, decoders)}:
        raise ModelFileError(
            f"its model is {quote(kind)} and its decoder {quote(decoders)}, "
            "but nextok reads byte-level and SentencePiece BPE only"
        )
    for key in (
        "continuing_subword_prefix",
        "end_of_word_suffix",
        "dropout",
    ):  # with the first, the library may abort
        if model.get(key):
            raise ModelFileError(f"its model has {key} {quote(model[key])}, but nextok reads vocabularies without")
    check_parts(content)
    return content


def _build_encoder(content: Mapping[str, Any], settings: Mapping[str, Any]) -> "tokenizers.Tokenizer":
    from tokenizers import AddedToken, Tokenizer

    with catch_panics():
        # Written again from what was checked: two JSON readers may differ, such as where a key is given twice.
        encoder: tokenizers.Tokenizer = Tokenizer.from_str(json.dumps(content))
    encoder.no_truncation()
    encoder.no_padding()
    added = {token.content for token in encoder.get_added_tokens_decoder().values()}
    for role in ("bos_token", "eos_token", "unk_token", "pad_token"):
        name = find_token(settings, role)
        if name not in added and encoder.token_to_id(name) is not None:
            encoder.add_special_tokens([AddedToken(name, normalized=False, special=True)])
    return encoder


def _list_names(ids: Mapping[str, int]) -> tuple[str, ...]:
    size = max(ids.values(), default=-1) + 1
    if not 0 < size <= MOST_IDS:
        raise ModelFileError(f"it has ids up to {size - 1}, but must have at least one and {MOST_IDS:,} at the most")
    names = [""] * size
    for name, token in ids.items():
        names[token] = name
    return tuple(names)


def _spell_tokens(
    encoder: "tokenizers.Tokenizer", decoder: Mapping[str, Any], names: tuple[str, ...]
) -> tuple[tuple[bytes, ...], bool]:
    """The bytes that each token adds to a text, and whether the first space of a text is dropped."""
    steps = {step["type"]: step for step in decoder.get("decoders", [decoder])}
    added = encoder.get_added_tokens_decoder()
    if "ByteLevel" in steps:
        alphabet = build_byte_alphabet()
        spelled = [decode_byte_level(name, alphabet) for name in names]
        spelled_added = {token: each.content.encode() for token, each in added.items()}
        drops_first_space = False
    else:
        spelled = [decode_piece(name) for name in names]
        spelled_added = {token: decode_piece(each.content) for token, each in added.items()}
        drops_first_space = "Strip" in steps or steps.get("Metaspace", {}).get("prepend_scheme", "never") != "never"
    for token, data in spelled_added.items():
        spelled[token] = b"" if added[token].special else data
    return tuple(spelled), drops_first_space


def _build_literal_encoder(encoder: "tokenizers.Tokenizer") -> "tokenizers.Tokenizer":
    """A second encoder that shares the model and reads control tokens in a text as plain characters."""
    from tokenizers import Tokenizer

    literal: tokenizers.Tokenizer = Tokenizer(encoder.model)
    literal.normalizer, literal.pre_tokenizer = encoder.normalizer, encoder.pre_tokenizer
    added = encoder.get_added_tokens_decoder()
    literal.add_tokens([added[token] for token in sorted(added)])
    if set(literal.get_added_tokens_decoder()) != set(added):
        raise ModelFileError("the ids of its added tokens do not follow each other: download it again")
    literal.encode_special_tokens = True
    return literal


def _find_around(
    encoder: "tokenizers.Tokenizer", settings: Mapping[str, Any], bos_id: int | None, eos_id: int | None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The ids before and after a text: by the settings, else by the template of the file itself."""
    if "add_bos_token" in settings or "add_eos_token" in settings:
        bos = (bos_id,) if settings.get("add_bos_token") and bos_id is not None else ()
        eos = (eos_id,) if settings.get("add_eos_token") and eos_id is not None else ()
        return bos, eos
    with catch_panics():
        bare = encoder.encode("a", add_special_tokens=False).ids
        whole = encoder.encode("a").ids
    for start in range(len(whole) - len(bare) + 1):
        if whole[start : start + len(bare)] == bare:
            return tuple(whole[:start]), tuple(whole[start + len(bare) :])
    return (), ()


def find_token(settings: Mapping[str, Any], role: str) -> str:
    """The text of the token with this role, such as `bos_token`; empty if there is none."""
    value = settings.get(role)
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) else ""


def _read_ends(folder: Path, size: int) -> list[int]:
    """The ids that end a text, by `generation_config.json`, or by `config.json` if the former names none."""
    for name in ("generation_config.json", "config.json"):
        value = _read_json(folder, name).get("eos_token_id")
        if value is None:
            continue
        tokens = value if isinstance(value, list) else [value]
        if bad := [token for token in tokens if type(token) is not int or not 0 <= token < size]:
            raise ModelFileError(f"{folder / name}: eos_token_id is {quote(bad[0])}, but ids go from 0 to {size - 1}")
        return tokens
    return []


def _read_chat_template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    with name_in_errors(str(folder / "chat_template.jinja")):
        template = _read_text(folder, "chat_template.jinja") or settings.get("chat_template")
    if isinstance(template, list):  # several, by name
        named = {each.get("name"): each.get("template") for each in template if isinstance(each, dict)}
        template = named.get("default")
    if template is not None and not isinstance(template, str):
        raise ModelFileError(f"{folder / 'tokenizer_config.json'}: chat_template must be a string")
    return template
