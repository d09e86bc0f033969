"""Text in and out: tokens, stop strings and chat templates."""

import os

from nextok.text.held import HeldText
from nextok.text.template import render_chat
from nextok.text.tokenizer import Tokenizer

__all__ = ["HeldText", "Tokenizer", "load_tokenizer", "render_chat"]


def load_tokenizer(path: str | os.PathLike[str]) -> Tokenizer:
    """The tokenizer of a GGUF file (its vocabulary is enough) or of a Hugging Face folder."""
    if os.path.isdir(path):
        from nextok.text.from_folder import tokenizer_from_folder

        return tokenizer_from_folder(path)
    from nextok.formats.files import within
    from nextok.formats.gguf import read_gguf
    from nextok.text.from_gguf import tokenizer_from_metadata

    metadata = read_gguf(path).metadata  # whose faults are told with the file's name already
    with within(os.path.basename(path) or os.fspath(path)):
        return tokenizer_from_metadata(metadata)
