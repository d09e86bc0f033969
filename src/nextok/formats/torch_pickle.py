"""The pickle of a torch file, read without running any of it.

A pickle is a program. This reader knows the few instructions that `torch.save` writes for a state dict, and builds
only numbers, names and descriptions of tensors from them; anything else is an error. The instructions are those of
protocol 2: https://peps.python.org/pep-0307/ and the standard library's `pickletools`.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nextok.errors import ModelFileError
from nextok.formats.files import AGAIN, quote

MOST_INSTRUCTIONS = 4 << 20
"""Largest number of instructions of a pickle."""
MOST_LETTERS = 1 << 16
"""Largest number of letters of a text."""
MOST_DIMENSIONS = 8
"""Largest number of dimensions of a tensor."""

# Each class of storage: the kind of its values, empty if nextok does not read it, and the bytes of one value.
STORAGES = {
    "FloatStorage": ("F32", 4),
    "HalfStorage": ("F16", 2),
    "BFloat16Storage": ("BF16", 2),
    "DoubleStorage": ("", 8),
    "LongStorage": ("", 8),
    "IntStorage": ("", 4),
    "ShortStorage": ("", 2),
    "CharStorage": ("", 1),
    "ByteStorage": ("", 1),
    "BoolStorage": ("", 1),
}
ORDERED_DICT, TENSOR, PARAMETER = (
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
)
ALLOWED = {ORDERED_DICT, TENSOR, PARAMETER} | {f"torch {name}" for name in STORAGES}
SAVE_AGAIN = "save model.state_dict() alone, with torch.save, and give that file"


@dataclass(frozen=True, slots=True)
class Name:
    """The name of a class or a function in the pickle; the object itself is never looked up."""

    text: str


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of numbers in a member of the archive, `data/<key>`."""

    type: str
    key: str
    length: int  # number of values

    @property
    def bytes(self) -> int:
        """Size of all values, in bytes."""
        return self.length * STORAGES[self.type][1]


@dataclass(frozen=True, slots=True)
class TensorView:
    """A tensor: where in a storage it begins, and its shape, row after row without gaps."""

    storage: Storage
    start: int  # number of values of the storage before the first
    shape: tuple[int, ...]


class _Mark:
    """The mark on the stack below the items of a tuple or a mapping."""


MARK = _Mark()


def read_pickle(data: bytes) -> Any:
    """The object of a pickle: dict, list, tuple, text, numbers and TensorView; ModelFileError for all else."""
    reader = _Reader()
    count = 0
    try:
        for opcode, argument, _ in pickletools.genops(data):
            count += 1
            if count > MOST_INSTRUCTIONS:
                raise ModelFileError(f"its pickle has more than {MOST_INSTRUCTIONS:,} instructions: {AGAIN}")
            if opcode.name == "STOP":
                return reader.pop()
            reader.run_instruction(opcode.name, argument)
    except ModelFileError:
        raise
    except Exception as error:  # such as for a truncated number or a text that is not UTF-8
        raise ModelFileError(f"its pickle cannot be read ({quote(str(error))}): {AGAIN}") from None
    raise ModelFileError(f"its pickle has no end: {AGAIN}")


class _Reader:
    """The stack and the memo of the pickle's program."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run_instruction(self, name: str, argument: Any) -> None:
        """Run one instruction; ModelFileError if no state dict needs it."""
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _LITERALS:
            self.stack.append(_check_literal(argument))
        elif name in _STEPS:
            _STEPS[name](self, argument)
        else:
            raise ModelFileError(f"its pickle has the instruction {name}, which no state dict needs: {SAVE_AGAIN}")

    def pop(self) -> Any:
        """Take the top of the stack."""
        if not self.stack or self.stack[-1] is MARK:
            raise ModelFileError(f"its pickle takes what is not there: {AGAIN}")
        return self.stack.pop()

    def pop_to_mark(self) -> list[Any]:
        """Take everything above the last mark, and the mark."""
        items: list[Any] = []
        while self.stack and self.stack[-1] is not MARK:
            items.append(self.stack.pop())
        if not self.stack:
            raise ModelFileError(f"its pickle takes what is not there: {AGAIN}")
        self.stack.pop()
        return items[::-1]

    def check_protocol(self, version: int) -> None:
        """ModelFileError unless the protocol is 2, which torch writes."""
        if version != 2:
            raise ModelFileError(f"its pickle has protocol {version}, but torch writes 2: {SAVE_AGAIN}")

    def push_name(self, text: str) -> None:
        """Push a class or a function, given as module and name; ModelFileError for one that no state dict needs."""
        if text not in ALLOWED:
            raise ModelFileError(
                f"its pickle names {quote(text.replace(' ', '.'))}, which is no part of a state dict and would "
                f"be run by other programs: {SAVE_AGAIN}"
            )
        self.stack.append(Name(text))

    def put(self, index: int) -> None:
        """Store the top of the stack in the memo; it stays on the stack."""
        self.memo[index] = self.pop()
        self.stack.append(self.memo[index])

    def get(self, index: int) -> None:
        """Push an object of the memo."""
        if index not in self.memo:
            raise ModelFileError(f"its pickle takes what is not there: {AGAIN}")
        self.stack.append(self.memo[index])

    def push_tuple(self, size: int | None) -> None:
        """Replace the last `size` items, or those above the mark, by one tuple."""
        items = self.pop_to_mark() if size is None else [self.pop() for _ in range(size)][::-1]
        self.stack.append(tuple(items))

    def set_items(self, items: list[Any]) -> None:
        """Set items of the mapping on top of the stack, from keys and values in turn."""
        target = self.pop()
        if not isinstance(target, dict) or len(items) % 2:
            raise ModelFileError(f"its pickle sets items of what is no mapping: {AGAIN}")
        for key, value in zip(items[::2], items[1::2]):
            if type(key) not in (str, int):
                raise ModelFileError(f"a mapping has a key that is neither text nor a number: {SAVE_AGAIN}")
            target[key] = value
        self.stack.append(target)

    def append(self, items: list[Any]) -> None:
        """Append items to the list on top of the stack."""
        target = self.pop()
        if not isinstance(target, list):
            raise ModelFileError(f"its pickle appends to what is no list: {AGAIN}")
        target.extend(items)
        self.stack.append(target)

    def build(self, _: object) -> None:
        """Drop the state of an object, which may hold only torch's versions of modules."""
        state, target = self.pop(), self.pop()
        if not isinstance(target, dict) or not isinstance(state, dict) or set(state) != {"_metadata"}:
            raise ModelFileError(f"its pickle gives an object a state of its own: {SAVE_AGAIN}")
        self.stack.append(target)

    def push_storage(self, _: object) -> None:
        """Push the description of a tensor's numbers, by their place in the archive."""
        match self.pop():
            case ("storage", Name(type), str(key), str(), int(length)) if (
                type.startswith("torch ") and key.isdecimal() and len(key) < 10 and length >= 0
            ):
                self.stack.append(Storage(type.removeprefix("torch "), key, length))
            case _:
                raise ModelFileError(f"its pickle has a storage that torch does not write: {AGAIN}")

    def call(self, _: object) -> None:
        """Push the result of a call that `torch.save` writes: an empty mapping, or the description of a tensor."""
        arguments, function = self.pop(), self.pop()
        match function, arguments:
            case Name(text), () if text == ORDERED_DICT:
                self.stack.append({})
            case Name(text), (TensorView() as view, bool(), {}) if text == PARAMETER:
                self.stack.append(view)
            case Name(text), (Storage() as storage, int(start), tuple(shape), tuple(stride), bool(), dict(hooks)) if (
                text == TENSOR and not hooks
            ):
                self.stack.append(_build_view(storage, start, shape, stride))
            case _:
                what = function.text.split()[-1] if isinstance(function, Name) else "an object"
                raise ModelFileError(f"its pickle calls {what} as torch does not: {SAVE_AGAIN}")


def _check_literal(value: Any) -> Any:
    if isinstance(value, str) and len(value) > MOST_LETTERS:
        raise ModelFileError(f"a name has {len(value):,} letters, more than {MOST_LETTERS:,}: {AGAIN}")
    if type(value) is int and not -(1 << 63) <= value < 1 << 63:
        raise ModelFileError(f"a number is larger than 64 bits: {AGAIN}")
    return value


def _build_view(storage: Storage, start: int, shape: tuple[Any, ...], stride: tuple[Any, ...]) -> TensorView:
    """A tensor whose values lie in its storage one after the other, and not beyond its end."""
    sizes = (*shape, *stride)
    if len(shape) != len(stride) or len(shape) > MOST_DIMENSIONS or any(type(each) is not int for each in sizes):
        raise ModelFileError(f"a tensor has the shape {quote(shape)} and the strides {quote(stride)}: {AGAIN}")
    if min(start, *sizes, 0) < 0:
        raise ModelFileError(f"a tensor of shape {quote(shape)} has a negative size, stride or start: {AGAIN}")
    count = 1
    for size, step in zip(shape[::-1], stride[::-1]):
        if size > 1 and step != count:
            raise ModelFileError(
                f"a tensor of shape {quote(shape)} has the strides {quote(stride)}, as if it were expanded, cut or "
                "turned: save its contiguous() copy"
            )
        count *= size
    if start + count > storage.length:
        raise ModelFileError(
            f"a tensor of shape {quote(shape)} takes {start + count} values out of {storage.length}: {AGAIN}"
        )
    return TensorView(storage, start, shape)


_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": (), "MARK": MARK}
_LITERALS = {"BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
_STEPS: dict[str, Callable[[_Reader, Any], None]] = {
    "PROTO": _Reader.check_protocol,
    "GLOBAL": _Reader.push_name,
    "BINPUT": _Reader.put,
    "LONG_BINPUT": _Reader.put,
    "BINGET": _Reader.get,
    "LONG_BINGET": _Reader.get,
    "EMPTY_DICT": lambda reader, _: reader.stack.append({}),
    "EMPTY_LIST": lambda reader, _: reader.stack.append([]),
    "TUPLE": lambda reader, _: reader.push_tuple(None),
    "TUPLE1": lambda reader, _: reader.push_tuple(1),
    "TUPLE2": lambda reader, _: reader.push_tuple(2),
    "TUPLE3": lambda reader, _: reader.push_tuple(3),
    "SETITEM": lambda reader, _: reader.set_items([reader.pop(), reader.pop()][::-1]),
    "SETITEMS": lambda reader, _: reader.set_items(reader.pop_to_mark()),
    "APPEND": lambda reader, _: reader.append([reader.pop()]),
    "APPENDS": lambda reader, _: reader.append(reader.pop_to_mark()),
    "BUILD": _Reader.build,
    "BINPERSID": _Reader.push_storage,
    "REDUCE": _Reader.call,
}
