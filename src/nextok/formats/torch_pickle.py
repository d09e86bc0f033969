"""What the pickle of a torch file says, read without running any of it.

A pickle is a program. This reader knows the few instructions that `torch.save` writes for a state dict, and makes of
them nothing but numbers, names and descriptions of tensors; at anything else it stops. The instructions are those of
protocol 2: https://peps.python.org/pep-0307/ and the standard library's `pickletools`.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nextok.errors import ModelFileError
from nextok.formats.files import AGAIN, quote

MOST_INSTRUCTIONS = 4 << 20
MOST_LETTERS = 1 << 16  # of a name or a setting
MOST_DIMENSIONS = 8

STORAGES = {  # the class that a pickle names: the kind of its values, if nextok reads them, and the bytes of one
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
    """A class or a function that the pickle names; only its name is known here."""

    text: str


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of numbers in a member of the archive, `data/<key>`."""

    type: str
    key: str
    length: int  # values

    @property
    def bytes(self) -> int:
        """Its size."""
        return self.length * STORAGES[self.type][1]


@dataclass(frozen=True, slots=True)
class TensorView:
    """A tensor: where in a storage it begins, and its shape, row after row without gaps."""

    storage: Storage
    start: int  # values
    shape: tuple[int, ...]


class _Mark:
    """What separates the items of a tuple or a mapping from what lies below them."""


MARK = _Mark()


def read_pickle(data: bytes) -> Any:
    """The object that a pickle describes: dict, list, tuple, text, numbers and View; ModelFileError for all else."""
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
    except Exception as error:  # a number that is not there, a text that is not UTF-8
        raise ModelFileError(f"its pickle cannot be read ({quote(str(error))}): {AGAIN}") from None
    raise ModelFileError(f"its pickle has no end: {AGAIN}")


class _Reader:
    """The stack of the pickle's program, and what it has put aside."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run_instruction(self, name: str, argument: Any) -> None:
        """One instruction."""
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _LITERALS:
            self.stack.append(_check_literal(argument))
        elif name in _STEPS:
            _STEPS[name](self, argument)
        else:
            raise ModelFileError(f"its pickle has the instruction {name}, which no state dict needs: {SAVE_AGAIN}")

    def pop(self) -> Any:
        """What lies on top, which is then gone."""
        if not self.stack or self.stack[-1] is MARK:
            raise ModelFileError(f"its pickle takes what is not there: {AGAIN}")
        return self.stack.pop()

    def pop_to_mark(self) -> list[Any]:
        """What lies above the last mark."""
        items: list[Any] = []
        while self.stack and self.stack[-1] is not MARK:
            items.append(self.stack.pop())
        if not self.stack:
            raise ModelFileError(f"its pickle takes what is not there: {AGAIN}")
        self.stack.pop()
        return items[::-1]

    def check_protocol(self, version: int) -> None:
        """Only 2, which is what torch writes."""
        if version != 2:
            raise ModelFileError(f"its pickle has protocol {version}, but torch writes 2: {SAVE_AGAIN}")

    def push_name(self, text: str) -> None:
        """A class or a function, by module and name."""
        if text not in ALLOWED:
            raise ModelFileError(
                f"its pickle names {quote(text.replace(' ', '.'))}, which is no part of a state dict and would "
                f"be run by other programs: {SAVE_AGAIN}"
            )
        self.stack.append(Name(text))

    def put(self, index: int) -> None:
        """Put what lies on top aside, too."""
        self.memo[index] = self.pop()
        self.stack.append(self.memo[index])

    def get(self, index: int) -> None:
        """What was put aside."""
        if index not in self.memo:
            raise ModelFileError(f"its pickle takes what is not there: {AGAIN}")
        self.stack.append(self.memo[index])

    def push_tuple(self, size: int | None) -> None:
        """The last `size` items, or those above the mark, as one."""
        items = self.pop_to_mark() if size is None else [self.pop() for _ in range(size)][::-1]
        self.stack.append(tuple(items))

    def set_items(self, items: list[Any]) -> None:
        """Keys and values, in turn, for the mapping below."""
        target = self.pop()
        if not isinstance(target, dict) or len(items) % 2:
            raise ModelFileError(f"its pickle sets items of what is no mapping: {AGAIN}")
        for key, value in zip(items[::2], items[1::2]):
            if type(key) not in (str, int):
                raise ModelFileError(f"a mapping has a key that is neither text nor a number: {SAVE_AGAIN}")
            target[key] = value
        self.stack.append(target)

    def append(self, items: list[Any]) -> None:
        """Items for the list below."""
        target = self.pop()
        if not isinstance(target, list):
            raise ModelFileError(f"its pickle appends to what is no list: {AGAIN}")
        target.extend(items)
        self.stack.append(target)

    def build(self, _: object) -> None:
        """The state of an object: torch keeps versions of modules there, which say nothing about weights."""
        state, target = self.pop(), self.pop()
        if not isinstance(target, dict) or not isinstance(state, dict) or set(state) != {"_metadata"}:
            raise ModelFileError(f"its pickle gives an object a state of its own: {SAVE_AGAIN}")
        self.stack.append(target)

    def push_storage(self, _: object) -> None:
        """The numbers of a tensor, by their place in the archive."""
        match self.pop():
            case ("storage", Name(type), str(key), str(), int(length)) if (
                type.startswith("torch ") and key.isdecimal() and len(key) < 10 and length >= 0
            ):
                self.stack.append(Storage(type.removeprefix("torch "), key, length))
            case _:
                raise ModelFileError(f"its pickle has a storage that torch does not write: {AGAIN}")

    def call(self, _: object) -> None:
        """What `torch.save` writes as a call: an empty mapping, or a tensor's description."""
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
