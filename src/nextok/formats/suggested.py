"""How the makers of a model suggest to sample from it: numbers that its files may hold."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nextok.checks import is_number
from nextok.formats.files import locate_file, name_in_errors, read_json
from nextok.formats.tensor import Checkpoint

FILE = "generation_config.json"
MOST_BYTES = 1 << 20
# Setting -> its key in a GGUF file after `general.sampling.`, and the least and the largest value that is believed.
SETTINGS = {
    "temperature": ("temp", 0, 2),
    "top_k": ("top_k", 1, 1 << 20),
    "top_p": ("top_p", 0.01, 1),
    "min_p": ("min_p", 0, 1),
    "repetition_penalty": ("penalty_repeat", 0.01, 100),
}


def read_suggested(checkpoint: Checkpoint, path: Path) -> dict[str, float]:
    """The settings that the model suggests which was opened at `path`, under the names of Sample's fields.

    They are in a GGUF file's metadata, or in a folder's `generation_config.json` unless that says not to sample.
    What is no number, or out of range, is left out.
    """
    given: Mapping[str, Any]
    if path.is_dir():
        given = _read_folder(path)
    else:
        given = {name: checkpoint.metadata.get(f"general.sampling.{key}") for name, (key, _, _) in SETTINGS.items()}
    found = {}
    for name, (_, least, most) in SETTINGS.items():
        value: Any = given.get(name)
        if is_number(value) and least <= value <= most and (name != "top_k" or type(value) is int):
            found[name] = value if type(value) is int else round(float(value), 6)  # a GGUF file has single precision
    return found


def _read_folder(folder: Path) -> Mapping[str, Any]:
    if not (folder / FILE).is_file():
        return {}
    with name_in_errors(str(folder / FILE)):
        settings = read_json(locate_file(folder, FILE), MOST_BYTES)
    return {} if settings.get("do_sample") is False else settings
