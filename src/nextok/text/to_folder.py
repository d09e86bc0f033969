"""A tokenizer becomes the files of a Hugging Face folder."""

import json
from pathlib import Path
from typing import Any

from nextok.errors import ModelFileError
from nextok.formats.files import read_bytes
from nextok.text.from_folder import MOST_BYTES, MOST_VOCABULARY_BYTES, read_content, read_settings
from nextok.text.tokenizer import Tokenizer

TOKENIZER, SETTINGS, TEMPLATE, ENDS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "generation_config.json",
)
NAMES = "special_tokens_map.json"
RUNNABLE = "auto_map"
"""The setting that names code of the folder to be run."""


def write_tokenizer(folder: Path, place: Path, tokenizer: Tokenizer) -> None:
    """Write the files of the tokenizer at `place`, a folder or a GGUF file.

    ModelFileError for a SentencePiece vocabulary of a GGUF file.
    """
    if place.is_dir():
        read_content(place)  # raises for what nextok does not read
        _copy_files(place, folder)
        settings = read_settings(place)
        settings.pop(RUNNABLE, None)
    else:
        settings = _write_from_gguf(folder, tokenizer)
    if tokenizer.chat_template is not None and not (folder / TEMPLATE).exists():
        settings["chat_template"] = tokenizer.chat_template
    _write_json(folder / SETTINGS, settings)
    _write_json(folder / ENDS, list_token_ids(tokenizer))


def list_token_ids(tokenizer: Tokenizer) -> dict[str, Any]:
    """The settings of token ids for config.json and generation_config.json."""
    found = {"bos_token_id": tokenizer.bos_id, "eos_token_id": sorted(tokenizer.eos_ids) or None}
    return {key: value for key, value in found.items() if value is not None}


def _copy_files(place: Path, folder: Path) -> None:
    for name, limit in {TOKENIZER: MOST_VOCABULARY_BYTES, NAMES: MOST_BYTES, TEMPLATE: MOST_BYTES}.items():
        if (place / name).is_file():
            (folder / name).write_bytes(read_bytes(place / name, limit))


def _write_from_gguf(folder: Path, tokenizer: Tokenizer) -> dict[str, Any]:
    if tokenizer.drops_first_space or tokenizer.encoder.pre_tokenizer is None:
        raise ModelFileError("its vocabulary is SentencePiece's, out of a GGUF file: convert the original folder")
    content = json.loads(tokenizer.encoder.to_str())
    content["decoder"] = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    if tokenizer.before or tokenizer.after:
        content["post_processor"] = _build_around(tokenizer)
    _write_json(folder / TOKENIZER, content)
    roles = {"bos_token": tokenizer.bos_id, "eos_token": tokenizer.eos_id}
    named = {role: tokenizer.names[token] for role, token in roles.items() if token is not None}
    return {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **named}


def _build_around(tokenizer: Tokenizer) -> dict[str, Any]:
    """The step that puts bos before a text, or eos after it."""

    def list_pieces(ids: tuple[int, ...]) -> list[dict[str, Any]]:
        return [{"SpecialToken": {"id": tokenizer.names[token], "type_id": 0}} for token in ids]

    single = [*list_pieces(tokenizer.before), {"Sequence": {"id": "A", "type_id": 0}}, *list_pieces(tokenizer.after)]
    pair = [*single, {"Sequence": {"id": "B", "type_id": 1}}]
    used = {tokenizer.names[token]: token for token in (*tokenizer.before, *tokenizer.after)}
    special = {name: {"id": name, "ids": [token], "tokens": [name]} for name, token in used.items()}
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special}


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
