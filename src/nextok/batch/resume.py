"""What an output holds already, up to where it is whole: all that is needed to go on after a process was killed."""

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from nextok.batch.lines import ID

Answer = tuple[str, bool]
"""The id of an answer, and whether it tells an error."""
CHUNK = 1 << 20
BEGINNING = b'{"id":"' + ID.encode()
"""How each answer begins."""


@dataclass(slots=True)
class Found:
    """The ids of the answers, how many tell an error, and where in the file the last one ends."""

    ids: set[str] = field(default_factory=set)
    errors: int = 0
    end: int = 0


def find_answers(name: str) -> Found:
    """The answers in a file on this machine; ValueError if it holds anything else, which nobody wants overwritten."""
    found = Found()
    with open(name, "rb") as file:
        for answers, end in _read_members(file, name) if name.endswith(".gz") else _read_lines(file, name):
            found.ids.update(made for made, _ in answers)
            found.errors += sum(is_wrong for _, is_wrong in answers)
            found.end = end
    return found


def _read_lines(file: BinaryIO, name: str) -> Iterator[tuple[list[Answer], int]]:
    end = 0
    for number, line in enumerate(file, 1):
        if not line.endswith(b"\n"):
            _check_beginning(line, name, number)
            return  # the process was killed while it wrote this line
        end += len(line)
        yield [_read_answer(line, name, number)], end


def _read_members(file: BinaryIO, name: str) -> Iterator[tuple[list[Answer], int]]:
    """The answers of each member that is whole."""
    place, number = 0, 0
    unpacker, answers, rest = zlib.decompressobj(31), list[Answer](), b""
    while data := file.read(CHUNK):
        while data:
            try:
                rest += unpacker.decompress(data, CHUNK)
            except zlib.error:
                raise _make_error(name, number + 1) from None
            left = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
            place += len(data) - len(left)
            data = left
            *lines, rest = rest.split(b"\n")
            for line in lines:
                number += 1
                answers.append(_read_answer(line, name, number))
            _check_beginning(rest, name, number + 1)
            if unpacker.eof:
                if rest:
                    raise _make_error(name, number + 1)
                yield answers, place
                unpacker, answers = zlib.decompressobj(31), []


def _read_answer(line: bytes, name: str, number: int) -> Answer:
    try:
        answer = json.loads(line)
        made, response = answer["id"], answer["response"]
        if isinstance(made, str) and made.startswith(ID):
            return made, response is None or response["status_code"] != 200
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    raise _make_error(name, number)


def _check_beginning(line: bytes, name: str, number: int) -> None:
    """ValueError unless this is the beginning of an answer."""
    if line[: len(BEGINNING)] != BEGINNING[: len(line)]:
        raise _make_error(name, number)


def _make_error(name: str, number: int) -> ValueError:
    return ValueError(f"{name}, line {number}, is no answer of a batch: name another file, or give --overwrite")
