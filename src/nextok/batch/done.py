"""What a file of answers holds already, and where its last whole line ends."""

import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import IO

from nextok.api.errors import ApiError
from nextok.api.json_body import parse_json
from nextok.batch.answers import HEAD

MOST_ANSWER = 1 << 28
"""Longest line of answers, in bytes."""
ID = re.compile("batch_req_([0-9a-f]{24})")


@dataclass(slots=True)
class Done:
    """Answered lines: their keys, how many are errors, the models that wrote them, and the bytes that they take."""

    keys: set[str] = field(default_factory=set)
    errors: int = 0
    models: set[str] = field(default_factory=set)
    end: int = 0

    def add(self, answers: Iterable[tuple[str, str | None]]) -> None:
        """Take in answers: the key of each and the model that wrote it, None for an error."""
        for key, model in answers:
            self.keys.add(key)
            self.errors += model is None
            self.models |= {model} if model else set()

    def check_model(self, name: str, output: str) -> None:
        """ValueError if another model than this one has answered."""
        if others := self.models - {name}:
            line = f"{output!r:.200} has answers of {', '.join(sorted(others)):.200}, and the model is {name}"
            raise ValueError(f"{line}: choose another OUT, or add --overwrite to drop it")


def read_done(name: str) -> Done:
    """What is whole in a file of answers; a line, or in a `.gz` file a member, that was cut is left out.

    ValueError if the file holds anything else.
    """
    done, waiting, rest, number = Done(), [], b"", 0
    with open(name, "rb") as file:
        for text, end in _read_members(file, name) if name.endswith(".gz") else _read_lines(file):
            *lines, rest = (rest + text).split(b"\n")
            for line in lines:
                number += 1
                waiting.append(_read_answer(line, f"line {number} of {name!r:.200}"))
            if len(rest) > MOST_ANSWER or not rest.startswith(HEAD[: len(rest)]):
                raise _make_kind_error(f"line {number + 1} of {name!r:.200}")
            if end > done.end and not rest:
                done.add(waiting)
                waiting, done.end = [], end
    return done


def _read_lines(file: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """The lines, each with the place where the last whole one ends."""
    end = 0
    while line := file.readline(MOST_ANSWER):
        end += len(line) if line.endswith(b"\n") else 0
        yield line, end


def _read_members(file: IO[bytes], name: str) -> Iterator[tuple[bytes, int]]:
    """Text of a gzip file in parts, each with the place where the last whole member before it ends."""
    unpacker, end = zlib.decompressobj(31), 0
    try:
        while data := file.read(1 << 16):
            while data:
                yield unpacker.decompress(data), end
                data = unpacker.unused_data
                if unpacker.eof:
                    end = file.tell() - len(data)
                    yield b"", end
                    unpacker = zlib.decompressobj(31)
    except zlib.error as error:
        raise ValueError(f"{name!r:.200} is damaged, or no gzip file ({error}): add --overwrite to drop it") from None


def _read_answer(line: bytes, where: str) -> tuple[str, str | None]:
    """The key of an answer, and the model that wrote it; None for an error."""
    try:
        value = parse_json(line)
        [key] = ID.fullmatch(value["id"]).groups()  # type: ignore[union-attr]  # None has no groups
        response, _, _ = value["response"], value["error"], value["custom_id"]
        is_error = response is None or response["status_code"] != 200
        return key, None if is_error else str(response["body"]["model"])
    except (ApiError, LookupError, TypeError, AttributeError):
        raise _make_kind_error(where) from None


def _make_kind_error(where: str) -> ValueError:
    return ValueError(f"{where} is no answer of nextok batch: choose another OUT, or add --overwrite to drop it")
