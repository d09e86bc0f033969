"""Assembles pickles by hand, and the torch archives around them: right ones, and those that would run code."""

import struct
import zipfile
from pathlib import Path
from typing import Any

STOP, MARK, REDUCE, TUPLE, BUILD, PERSID = b".", b"(", b"R", b"t", b"b", b"Q"
PROTO = b"\x80\x02"
EMPTY_TUPLE, EMPTY_DICT, EMPTY_LIST, APPEND, SETITEM, SETITEMS = b")", b"}", b"]", b"a", b"s", b"u"


def name(module: str, attribute: str) -> bytes:
    """A class or a function."""
    return f"c{module}\n{attribute}\n".encode()


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def plain(value: Any) -> bytes:
    """A value of Python's simplest types."""
    if isinstance(value, bytes):  # an instruction already
        return value
    if isinstance(value, str):
        return text(value)
    if isinstance(value, bool):
        return b"\x88" if value else b"\x89"
    if isinstance(value, int):
        data = value.to_bytes(9, "little", signed=True)
        return b"\x8a\x09" + data
    if isinstance(value, tuple):
        return MARK + b"".join(map(plain, value)) + TUPLE
    if isinstance(value, dict):
        return EMPTY_DICT + MARK + b"".join(plain(key) + plain(each) for key, each in value.items()) + SETITEMS
    assert value is None
    return b"N"


def call(function: bytes, *arguments: Any) -> bytes:
    """The function called with these arguments."""
    return function + plain(arguments) + REDUCE


ORDERED_DICT = call(name("collections", "OrderedDict"))


def storage(key: str = "0", length: Any = 4, kind: bytes = b"ctorch\nFloatStorage\n", word: Any = "storage") -> bytes:
    return plain((word, kind, key, "cpu", length)) + PERSID


def tensor(
    shape: Any = (4,), stride: Any = (1,), start: Any = 0, source: bytes | None = None, hooks: Any = ORDERED_DICT
) -> bytes:
    """What `torch.save` writes for a tensor."""
    rebuild = name("torch._utils", "_rebuild_tensor_v2")
    return call(rebuild, storage() if source is None else source, start, shape, stride, False, hooks)


def pickled(content: Any) -> bytes:
    return PROTO + plain(content) + STOP


def write_archive(path: Path, pickle: bytes, members: dict[str, bytes] | None = None, root: str = "m") -> Path:
    """A torch file with this pickle, and one storage of four float32 unless `members` says otherwise."""
    members = {"byteorder": b"little", "data/0": bytes(16), "version": b"3\n"} if members is None else members
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{root}/data.pkl", pickle)
        for each, data in members.items():
            archive.writestr(f"{root}/{each}", data)
    return path
