"""Text in and out: tokens, stop strings and chat templates."""

import os
from pathlib import Path

from nextok.errors import ModelFileError
from nextok.text.held import HeldText
from nextok.text.template import render_chat
from nextok.text.tokenizer import Tokenizer

__all__ = ["HeldText", "Tokenizer", "load_tokenizer", "render_chat", "tokenizer_path"]

FILE = "tokenizer.json"
HAPPY_LLM_FOLDER = "tokenizer_k"
"""Name of the folder in which Happy-LLM keeps its tokenizer."""


def load_tokenizer(path: str | os.PathLike[str]) -> Tokenizer:
    """The tokenizer of a GGUF file (its vocabulary is enough), of a folder, or beside a torch file."""
    place = find_tokenizer(path)
    if place.is_dir():
        from nextok.text.from_folder import read_tokenizer

        return read_tokenizer(place)
    from nextok.formats.files import name_in_errors
    from nextok.formats.gguf import read_gguf
    from nextok.text.from_gguf import build_tokenizer

    metadata = read_gguf(path).metadata  # its errors begin with the file's name already
    with name_in_errors(os.path.basename(path) or os.fspath(path)):
        return build_tokenizer(metadata)


def find_tokenizer(path: str | os.PathLike[str]) -> Path:
    """The folder or the GGUF file that holds the tokenizer of the model at `path`.

    A torch file and a folder without tokenizer.json hold none: then it is looked for in that folder, in
    `tokenizer_k/` there, and in `tokenizer_k/` beside that folder. ModelFileError, with these places, if a torch file
    has none there.
    """
    from nextok.formats.torch_file import is_torch_file

    path = Path(path)
    if path.name == FILE:
        return path.parent
    if not path.is_dir() and not is_torch_file(path):
        return path
    folder = path if path.is_dir() else path.parent
    places = [folder, folder / HAPPY_LLM_FOLDER, folder.absolute().parent / HAPPY_LLM_FOLDER]
    found = next((place for place in places if (place / FILE).is_file()), None)
    if found is None and not path.is_dir():
        looked = ", ".join(f"{str(place)!r}" for place in places)
        raise ModelFileError(f"{path.name} has no {FILE} in {looked}: name its folder (tokenizer=, --tokenizer)")
    return found or path
