"""Conversion of any model that nextok reads to a GGUF file or a Hugging Face folder, which other programs read."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from nextok.errors import ModelFileError, NextokError
from nextok.formats import is_torch_file, open_model
from nextok.formats.conversion import TARGETS
from nextok.formats.files import name_in_errors, quote
from nextok.formats.quantize import FLOATING, PACKERS
from nextok.formats.tensor import Checkpoint
from nextok.formats.write_folder import DTYPES, WEIGHTS, write_folder
from nextok.formats.write_gguf import write_gguf
from nextok.hub import Report, resolve
from nextok.loading import check_size
from nextok.text import Tokenizer, find_tokenizer, load_tokenizer
from nextok.text.from_gguf import HUGGING_FACE
from nextok.text.to_folder import ENDS, NAMES, SETTINGS, TEMPLATE, TOKENIZER, list_token_ids, write_tokenizer
from nextok.text.to_gguf import build_gguf_settings

FILES_WRITTEN = {"config.json", WEIGHTS, TOKENIZER, SETTINGS, NAMES, TEMPLATE, ENDS}
"""Files of a folder that a conversion may overwrite."""
MOST_NAMES_TRIED = 300
"""Largest number of control tokens whose names are put into test texts."""
PROBES = (
    "Hello, world! It's what we'd've said: they're here, I'LL go. (1961) $1,234.56 for 3.5kg at 5:45",
    "  two  spaces\tand\ttabs \n\n lines\r\n and   more   ",
    "天地玄黄，宇宙洪荒。１２３ ﬁne Å é e\u0301 ½ ™ ㌔ Größe İstanbul Ёлка नमस्ते שלום สวัสดี 각 ㄱㅏ",
    "👩‍👩‍👧 🇩🇪 ✊🏿 \u200b\ufeff\u00a0 def f(x):\n    return x**2 # 100000 == 1e5\n",
)


@dataclass(frozen=True, slots=True)
class Conversion:
    """What was written: the model's name, how many tensors and bytes, and a note for the user."""

    path: Path
    name: str
    tensors: int
    bytes: int
    kind: str
    note: str = ""


def write_model(
    model: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    to: str | None = None,
    tokenizer: str | os.PathLike[str] | None = None,
    force: bool = False,
    progress: Report | None = None,
) -> Conversion:
    """Write a model to `out`: a GGUF file if its name ends in .gguf, else a folder that transformers reads.

    `to`: f32, f16, q8_0 or q4_1 (f16 for GGUF by default, f32 for a folder, which has only the first two). The
    tokenizer is the model's or the one named; a result that gives test texts other ids is not written. What is
    there is overwritten only with `force`, and only when all is done. `progress` is called while files come.
    Raises ModelFileError, NextokError without the package gguf or room on the disk, ValueError for an option.
    """
    out = Path(os.path.expanduser(out)).absolute()
    is_gguf = _is_gguf(out)
    to = _check_target(to, is_gguf)
    source = resolve(model, report=progress)
    place = source.path if tokenizer is None else resolve(tokenizer, report=progress).path
    place = find_tokenizer(place)
    _check_origins(out, source.path, place)
    _check_free(out, is_gguf, force)
    checkpoint = open_model(source.path)
    _check_kinds(checkpoint, to)
    tokens = load_tokenizer(place)
    check_size(tokens, checkpoint, source.path)
    write = _write_gguf_file if is_gguf else _write_model_folder
    with _replace_when_done(out, is_gguf, force) as part:
        note = write(part, checkpoint, source.name, place, tokens, to)
    files = [out] if is_gguf else list(out.iterdir())
    size = sum(path.stat().st_size for path in files)
    return Conversion(out, source.name, len(checkpoint.tensors), size, to, note)


def _check_target(to: str | None, is_gguf: bool) -> str:
    if to is None:
        return "f16" if is_gguf else "f32"
    if to not in TARGETS:
        raise ValueError(f"--to must be one of {', '.join(TARGETS)}, got {to!r}")
    if not is_gguf and to not in DTYPES:
        raise ValueError(
            f"--to {to} is for GGUF files: give an OUT that ends in .gguf, or --to {' or '.join(DTYPES)}"
        )
    return to


def _check_kinds(checkpoint: Checkpoint, to: str) -> None:
    """ValueError where no tensor would become `to`, since all are quantised in another way already."""
    kinds = {tensor.kind for tensor in checkpoint.tensors.values() if len(tensor.shape) == 2}
    if to in PACKERS and not kinds & {to.upper(), *FLOATING}:
        raise ValueError(
            f"its weights are in {', '.join(sorted(kinds))} already: leave --to out, or choose f32 or f16"
        )


def _is_gguf(out: Path) -> bool:
    suffix = out.suffix.lower()
    if suffix == ".safetensors" or is_torch_file(out.name.lower()):
        raise ValueError(f"{str(out)!r} would be a folder: choose a folder's name, or a name that ends in .gguf")
    return suffix == ".gguf"


def _check_origins(out: Path, model: Path, tokenizer: Path) -> None:
    """ValueError if `out` is, holds or lies in what is read."""
    there, origin, tokens = (Path(os.path.realpath(path)) for path in (out, model, tokenizer))
    if there == origin or (origin.is_dir() and there.is_relative_to(origin)) or origin.is_relative_to(there):
        raise ValueError(f"{str(out)!r} is the model itself, or within it: choose another place for the result")
    if tokens.is_relative_to(there):
        raise ValueError(f"{str(out)!r} is the tokenizer itself, or holds it: choose another place for the result")


def _check_free(out: Path, is_gguf: bool, force: bool) -> None:
    """ValueError if what is at `out` must not be overwritten."""
    if not out.parent.is_dir():
        raise ValueError(f"there is no folder {str(out.parent)!r}: make it first")
    if not os.path.lexists(out):
        return
    if out.is_symlink() or not (out.is_file() if is_gguf else out.is_dir()):
        raise ValueError(f"{str(out)!r} is there already, and of another kind than the result: choose another name")
    if not force:
        raise ValueError(f"{str(out)!r} is there already: --force overwrites it")
    others = [] if is_gguf else sorted({path.name for path in out.iterdir()} - FILES_WRITTEN)
    if others:
        raise ValueError(f"{str(out)!r} holds {quote(others[0])}, which no conversion wrote: choose another name")


@contextmanager
def _replace_when_done(out: Path, is_gguf: bool, force: bool) -> Iterator[Path]:
    """A place beside `out` for a new file or folder: it replaces `out` when it is whole, else it is removed."""
    try:
        with TemporaryDirectory(prefix=".nextok-", dir=out.parent) as aside:
            part, old = Path(aside, "part"), Path(aside, "old")
            yield part
            _check_free(out, is_gguf, force)  # again, as the conversion takes time
            try:
                if out.is_dir():
                    out.rename(old)
                part.replace(out)
            finally:
                if old.exists() and not os.path.lexists(out):
                    old.rename(out)
    except OSError as error:
        reason = error.strerror or str(error)
        raise NextokError(f"{str(out)!r} cannot be written ({reason}): make room, or choose another place") from None


def _write_gguf_file(path: Path, checkpoint: Checkpoint, name: str, place: Path, tokens: Tokenizer, to: str) -> str:
    settings = build_gguf_settings(place, tokens, checkpoint.config.vocab_size)
    write_gguf(path, checkpoint, name, settings, to)
    _check_tokens(tokens, load_tokenizer(path))
    if HUGGING_FACE in settings:
        return (
            "GGUF cannot express how its texts are normalised: nextok reads it from the file, llama.cpp leaves it "
            "out, and may give full-width letters and punctuation (，！？) other tokens"
        )
    return ""


def _write_model_folder(
    folder: Path, checkpoint: Checkpoint, name: str, place: Path, tokens: Tokenizer, to: str
) -> str:
    folder.mkdir()
    with name_in_errors(name):
        write_tokenizer(folder, place, tokens)
        _check_tokens(tokens, load_tokenizer(folder))
        write_folder(folder, checkpoint, to, list_token_ids(tokens))
    return ""


def _check_tokens(before: Tokenizer, after: Tokenizer) -> None:
    """ModelFileError unless both tokenizers give the same ids for all test texts, and the same settings."""
    size = before.vocab_size
    alike = (
        (before.token_bytes, after.token_bytes[:size]),
        (before.control_ids, after.control_ids),
        (before.bos_id, after.bos_id),
        (before.eos_id, after.eos_id),
        (before.eos_ids, after.eos_ids),
        (before.before, after.before),
        (before.after, after.after),
        (before.chat_template, after.chat_template),
    )
    if any(one != other for one, other in alike):
        raise ModelFileError("its tokens would mean something else in the new file: choose the other kind of result")
    names = [before.names[token] for token in sorted(before.control_ids)[:MOST_NAMES_TRIED]]
    for text in (*PROBES, *(f"a {name} b{name}c" for name in names)):
        for special in (True, False):
            if before.encode(text, special) != after.encode(text, special):
                raise ModelFileError(
                    f"{quote(text)} would have other tokens in the new file: choose the other kind of result"
                )
