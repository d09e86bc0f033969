"""From any model that nextok reads to a file or a folder that other programs read too: GGUF or Hugging Face."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nextok.errors import ModelFileError
from nextok.formats import open_model
from nextok.formats.files import shown, within
from nextok.formats.quantize import FLOATING, PACKERS
from nextok.formats.tensor import Checkpoint
from nextok.formats.write_folder import DTYPES, WEIGHTS, write_folder
from nextok.formats.write_gguf import write_gguf
from nextok.formats.written import TARGETS
from nextok.hub import progress_bar, resolve
from nextok.loading import check_size
from nextok.text import Tokenizer, load_tokenizer, tokenizer_path
from nextok.text.from_gguf import HUGGING_FACE
from nextok.text.to_folder import ENDS, NAMES, SETTINGS, TEMPLATE, TOKENIZER, token_ids, write_tokenizer
from nextok.text.to_gguf import gguf_settings

WRITTEN = {"config.json", WEIGHTS, TOKENIZER, SETTINGS, NAMES, TEMPLATE, ENDS}
MOST_NAMES_TRIED = 300
PROBES = (
    "Hello, world! It's what we'd've said: they're here, I'LL go. (1961) $1,234.56 for 3.5kg at 5:45",
    "  two  spaces\tand\ttabs \n\n lines\r\n and   more   ",
    "天地玄黄，宇宙洪荒。１２３ ﬁne Å é e\u0301 ½ ™ ㌔ Größe İstanbul Ёлка नमस्ते שלום สวัสดี 각 ㄱㅏ",
    "👩‍👩‍👧 🇩🇪 ✊🏿 \u200b\ufeff\u00a0 def f(x):\n    return x**2 # 100000 == 1e5\n",
)


@dataclass(frozen=True, slots=True)
class Conversion:
    """What was written: the model's name, how many tensors and bytes, and what a reader should be told."""

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
) -> Conversion:
    """Write a model to `out`: a GGUF file if its name ends in .gguf, else a folder that transformers reads.

    `to`: f32, f16, q8_0 or q4_1 (f16 for GGUF by default, f32 for a folder, which has only the first two). The
    tokenizer is the model's or the one named; a result that gives test texts other ids is not written. What is
    there is overwritten only with `force`, and only when all is done.
    Raises ModelFileError, NextokError without the package gguf, ValueError for an option.
    """
    out = Path(os.path.expanduser(out)).absolute()
    is_gguf = out.suffix == ".gguf"
    to = _checked_target(to, is_gguf)
    with progress_bar() as report:
        source = resolve(model, report=report)
        place = source.path if tokenizer is None else resolve(tokenizer, report=report).path
    _check_out(out, source.path, is_gguf, force)
    checkpoint = open_model(source.path)
    _check_kinds(checkpoint, to)
    tokens = load_tokenizer(place)
    check_size(tokens, checkpoint, source.path)
    write = _to_gguf if is_gguf else _to_folder
    note = _replacing(out, lambda part: write(part, checkpoint, source.name, tokenizer_path(place), tokens, to))
    files = [out] if is_gguf else list(out.iterdir())
    size = sum(path.stat().st_size for path in files)
    return Conversion(out, source.name, len(checkpoint.tensors), size, to, note)


def _checked_target(to: str | None, is_gguf: bool) -> str:
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
    """ValueError where nothing would become `to`, since all is quantised in another way already."""
    kinds = {tensor.kind for tensor in checkpoint.tensors.values() if len(tensor.shape) == 2}
    if to in PACKERS and not kinds & {to.upper(), *FLOATING}:
        raise ValueError(
            f"its weights are in {', '.join(sorted(kinds))} already: leave --to out, or choose f32 or f16"
        )


def _check_out(out: Path, source: Path, is_gguf: bool, force: bool) -> None:
    """ValueError if what is at `out` must not be overwritten."""
    there, origin = out.resolve(), source.resolve()
    if there == origin or (origin.is_dir() and there.is_relative_to(origin)) or origin.is_relative_to(there):
        raise ValueError(f"{str(out)!r} is the model itself, or within it: choose another place for the result")
    if not out.parent.is_dir():
        raise ValueError(f"there is no folder {str(out.parent)!r}: make it first")
    if not os.path.lexists(out):
        return
    if out.is_symlink() or not (out.is_file() if is_gguf else out.is_dir()):
        raise ValueError(f"{str(out)!r} is there already, and of another kind than the result: choose another name")
    if not force:
        raise ValueError(f"{str(out)!r} is there already: --force overwrites it")
    others = [] if is_gguf else sorted({path.name for path in out.iterdir()} - WRITTEN)
    if others:
        raise ValueError(f"{str(out)!r} holds {shown(others[0])}, which no conversion wrote: choose another name")


def _replacing(out: Path, write: Callable[[Path], str]) -> str:
    """Let `write` make a file or folder beside `out`, which takes its name when it is whole and else is removed."""
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    old = out.with_name(f".{out.name}.{os.getpid()}.old")
    try:
        note = write(part)
        if out.is_dir():
            out.rename(old)
        part.replace(out)
    finally:
        if old.exists() and not out.exists():
            old.rename(out)
        for left in (part, old):
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink(missing_ok=True)
    return note


def _to_gguf(path: Path, checkpoint: Checkpoint, name: str, place: Path, tokens: Tokenizer, to: str) -> str:
    settings = gguf_settings(place, tokens, checkpoint.config.vocab_size)
    write_gguf(path, checkpoint, name, settings, to)
    _check_tokens(tokens, load_tokenizer(path))
    if HUGGING_FACE in settings:
        return "GGUF cannot say how its texts are normalised: nextok reads it from the file, llama.cpp leaves it out"
    return ""


def _to_folder(folder: Path, checkpoint: Checkpoint, name: str, place: Path, tokens: Tokenizer, to: str) -> str:
    folder.mkdir()
    with within(name):
        write_tokenizer(folder, place, tokens)
        _check_tokens(tokens, load_tokenizer(folder))
        write_folder(folder, checkpoint, to, token_ids(tokens))
    return ""


def _check_tokens(before: Tokenizer, after: Tokenizer) -> None:
    """ModelFileError unless both cut and spell texts alike."""
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
                    f"{shown(text)} would have other tokens in the new file: choose the other kind of result"
                )
