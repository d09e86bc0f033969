"""The tensors of a torch file (`.pth`, `.pt`, `.bin`), which is a pickle with its numbers beside it in a zip archive.

A pickle can run code when it is read. So it is first read here as data (`torch_pickle`) and compared with the
contents of the file; only a plain state dict goes on to `torch.load(weights_only=True)`.
"""

import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nextok.errors import ModelFileError
from nextok.formats.archive import Member, read_members
from nextok.formats.files import AGAIN, map_file, name_in_errors, open_file, quote
from nextok.formats.quants import KINDS
from nextok.formats.tensor import Tensor
from nextok.formats.torch_pickle import SAVE_AGAIN, STORAGES, TensorView, read_pickle

if TYPE_CHECKING:
    import torch

SUFFIXES = (".pth", ".pt", ".bin")
"""Ends of the names of torch files."""
NESTED = ("model_state_dict", "state_dict", "model")
"""Keys under which a training checkpoint may keep the weights."""
OLDEST_TORCH = (2, 10)
"""Oldest version of torch that reads files safely."""
MOST_PICKLE_BYTES = 16 << 20
"""Largest size of the pickle, in bytes."""
MOST_TENSORS = 65_536
"""Largest number of tensors."""
MOST_NAME_LETTERS = 1024
"""Largest number of letters of a tensor's name."""
PICKLE = "data.pkl"
SMALL = {"byteorder", "version", ".data/serialization_id", ".format_version", ".storage_alignment"}
DATA = re.compile(r"data/[0-9]{1,9}")


def is_torch_file(path: str | os.PathLike[str]) -> bool:
    """Whether the name of a file ends as those of torch files do."""
    return Path(path).suffix in SUFFIXES


@dataclass(frozen=True, slots=True)
class StateDict:
    """Every tensor by its own name, still on disk, and the other entries of a training checkpoint."""

    tensors: dict[str, Tensor]
    beside: Mapping[str, Any]


def read_torch_file(path: Path) -> dict[str, Tensor]:
    """The tensors of `read_state_dict` alone."""
    return read_state_dict(path).tensors


def read_state_dict(path: Path) -> StateDict:
    """The state dict in a torch file; ModelFileError for anything else.

    It may lie in a training checkpoint, under "model_state_dict", "state_dict" or "model".
    """
    with name_in_errors(path.name):
        version = _identify(path)
        buffer = map_file(path)
        members = read_members(path, buffer)
        content = _read_content(buffer, members)
        views, place = _find_state_dict(content)
        _check_storages(views, members, len(buffer))
        loaded = _load_with_torch(path)
        if _identify(path) != version:  # torch has opened it a second time
            raise ModelFileError("it was changed while it was read: load it again")
        tensors = {name: _build_tensor(name, view, _look_up(loaded, (*place, name))) for name, view in views.items()}
        return StateDict(tensors, {key: content[key] for key in content if key not in place} if place else {})


def _identify(path: Path) -> tuple[int, ...]:
    """Numbers that change when another file takes this name, and when the file is written to."""
    with open_file(path) as file:
        facts = os.fstat(file.fileno())
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns


def _read_content(buffer: Any, members: Mapping[str, Member]) -> Any:
    """The object that the pickle describes; ModelFileError if there is none, or a member that no state dict has."""
    for name in members:
        if name not in SMALL and name != PICKLE and not DATA.fullmatch(name):
            code = "it is a program (TorchScript)" if name.startswith(("code/", "constants")) else "no state dict"
            raise ModelFileError(f"it has a member {quote(name)}, {code}: {SAVE_AGAIN}")
    order = members.get("byteorder", Member(0, 0))
    if order.size and buffer[order.start : order.start + order.size] != b"little":
        raise ModelFileError("its numbers are big-endian: save it again on the usual kind of machine")
    if PICKLE not in members or members[PICKLE].size > MOST_PICKLE_BYTES:
        raise ModelFileError(f"its {PICKLE} is missing, or larger than {MOST_PICKLE_BYTES:,} bytes: {AGAIN}")
    member = members[PICKLE]
    return read_pickle(buffer[member.start : member.start + member.size])


def _find_state_dict(content: Any) -> tuple[dict[str, TensorView], list[str]]:
    """The tensors by name, and under which key of the content they lie."""
    place = [key for key in NESTED if isinstance(content, dict) and isinstance(content.get(key), dict)][:1]
    values = content[place[0]] if place else content
    if not isinstance(values, dict) or not 0 < len(values) <= MOST_TENSORS:
        raise ModelFileError(f"it holds no state dict of 1 to {MOST_TENSORS:,} tensors: {SAVE_AGAIN}")
    for name, value in values.items():
        if not isinstance(name, str) or not name.isprintable() or len(name) > MOST_NAME_LETTERS:
            raise ModelFileError(f"{quote(name)} is no name of a tensor: {SAVE_AGAIN}")
        if not isinstance(value, TensorView):
            what = "a mapping" if isinstance(value, dict) else quote(value)
            raise ModelFileError(f"{quote(name)} is {what}, no tensor, so this is no state dict: {SAVE_AGAIN}")
        with name_in_errors(f"tensor {quote(name)}"):
            if not STORAGES[value.storage.type][0]:
                kind = value.storage.type.removesuffix("Storage").lower()
                raise ModelFileError(f"its type is {kind}, but weights are float32, float16 or bfloat16: convert it")
            if not value.shape or 0 in value.shape:
                raise ModelFileError(f"its shape is {value.shape}, a weight has values in rows: {AGAIN}")
    return values, place


def _check_storages(views: Mapping[str, TensorView], members: Mapping[str, Member], size: int) -> None:
    """ModelFileError unless each storage is exactly a member, and all tensors take at most twice the file's size."""
    taken = 0
    for name, view in views.items():
        member = members.get(f"data/{view.storage.key}")
        if member is None or member.size != view.storage.bytes:
            there = "not there" if member is None else f"of {member.size:,}"
            raise ModelFileError(
                f"tensor {quote(name)} needs a storage of {view.storage.bytes:,} bytes, which is {there}: {AGAIN}"
            )
        kind = STORAGES[view.storage.type][0]
        taken += KINDS[kind].count_bytes(view.shape)
    if taken > 2 * size:  # a head that is tied to the embedding shares it, so some sharing is usual
        raise ModelFileError(f"its tensors take {taken:,} bytes out of a file of {size:,}: {SAVE_AGAIN}")


def _load_with_torch(path: Path) -> Any:
    """The file as torch reads it, mapped into memory; ModelFileError if torch refuses it."""
    torch = _import_torch()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        message = str(error).strip().partition("\n")[0]
        raise ModelFileError(f"torch refuses it ({quote(message)}): {AGAIN}") from None


def _import_torch() -> Any:
    try:
        import torch
    except ImportError:
        raise ModelFileError('torch files are read with torch: pip install "nextok[torch]"') from None
    version = re.match(r"(\d+)\.(\d+)", torch.__version__)
    if version is None or (int(version[1]), int(version[2])) < OLDEST_TORCH:
        raise ModelFileError(
            f"torch {torch.__version__} does not read files safely (CVE-2025-32434, CVE-2026-24747): "
            'pip install "torch>=2.10"'
        )
    return torch


def _look_up(content: Any, place: tuple[str, ...]) -> Any:
    """The value at a path of keys in nested mappings; None if there is none."""
    for key in place:
        content = content.get(key) if isinstance(content, dict) else None
    return content


def _build_tensor(name: str, view: TensorView, found: "torch.Tensor") -> Tensor:
    """A tensor over the bytes that torch has mapped; ModelFileError unless they are as the pickle describes them."""
    import torch

    kind = KINDS[STORAGES[view.storage.type][0]]
    wanted = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[kind.name]
    alike = isinstance(found, torch.Tensor) and (found.dtype, found.shape) == (wanted, view.shape)
    if not alike or found.layout != torch.strided or not found.is_contiguous():
        raise ModelFileError(f"tensor {quote(name)} is another one for torch than for nextok: {AGAIN}")
    data: npt.NDArray[np.uint8] = found.detach().reshape(-1).view(torch.uint8).numpy()
    data.flags.writeable = False
    return kind.make_tensor(name, view.shape, data)
