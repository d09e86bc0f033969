"""A causal language model of transformers that is already in memory, as an LM."""

import os
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nextok.errors import ModelFileError
from nextok.lm import LM
from nextok.loading import load_tokenizer
from nextok.text import Tokenizer
from nextok.text import load_tokenizer as load_local_tokenizer


def wrap(hf_model: Any, tokenizer: Any = None) -> LM:
    """An LM that writes with `hf_model`, which is not changed or copied.

    `tokenizer`: nextok's, a fast one of transformers, an argument of `nt.load_tokenizer`, or None for the one in the
    local folder from which the model was loaded. A text ends with the end tokens of the tokenizer and of
    `hf_model.generation_config`. Raises ValueError, with the class's name, for a model or tokenizer that cannot be
    used.
    """
    from nextok.models.torch.huggingface import HuggingFace

    kind, source = type(hf_model).__name__, getattr(getattr(hf_model, "config", None), "name_or_path", "")
    model = HuggingFace(hf_model)
    own = _read_tokenizer(tokenizer, kind, source)
    if own.vocab_size > model.vocab_size:
        raise ValueError(
            f"the tokenizer has {own.vocab_size} ids, but {kind} scores {model.vocab_size}; pass the tokenizer that "
            "the model was trained with, or call model.resize_token_embeddings(len(tokenizer))"
        )
    declared = _read_ends(hf_model, kind, model.vocab_size)
    return LM(model, replace(own, eos_ids=own.eos_ids | declared), Path(source).name or kind)


def _read_tokenizer(tokenizer: Any, kind: str, source: str) -> Tokenizer:
    """The tokenizer that the argument of `wrap` stands for."""
    if isinstance(tokenizer, Tokenizer):
        return tokenizer
    if isinstance(tokenizer, str | os.PathLike):
        return load_tokenizer(tokenizer)
    if tokenizer is None:
        if not Path(source, "tokenizer.json").is_file():
            raise ValueError(
                f"{kind} came without a tokenizer: its name_or_path {source!r} is no local folder with a "
                "tokenizer.json; pass wrap(model, tokenizer), with a tokenizer of transformers or the path of one"
            )
        return load_local_tokenizer(source)
    name = type(tokenizer).__name__
    if getattr(tokenizer, "is_fast", None) is not True:
        raise ValueError(
            f"{name} is no fast tokenizer of transformers, and nextok reads only those; pass one whose is_fast is "
            "true, or the path of a folder with a tokenizer.json"
        )
    with TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        try:
            return load_local_tokenizer(folder)
        except ModelFileError as error:  # its message names the temporary folder
            raise ModelFileError(str(error).replace(folder, name)) from None


def _read_ends(hf_model: Any, kind: str, vocab_size: int) -> frozenset[int]:
    """The ids that the model's generation settings end a text with."""
    value = getattr(hf_model.generation_config, "eos_token_id", None)
    ids = [] if value is None else value if isinstance(value, list) else [value]
    if wrong := [each for each in ids if type(each) is not int or not 0 <= each < vocab_size]:
        raise ValueError(
            f"{kind}'s generation_config.eos_token_id is {wrong[0]!r}, but ids go from 0 to {vocab_size - 1}; "
            "set it to the token that ends a text, or None"
        )
    return frozenset(ids)
