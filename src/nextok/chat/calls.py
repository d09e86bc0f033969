"""Tool calls in the text of an answer: what reads them tells."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Call:
    """A function's name and its arguments as JSON text, an object, as the model wrote it."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Begun:
    """A call of this function begins; the texts that follow are its arguments."""

    name: str


Part = Begun | str


class CallReader(Protocol):
    """Reads what follows an opening mark."""

    def feed(self, text: str) -> int | None:
        """How many characters of this text belong to what was read, once that is decided; None to go on."""
        ...

    def finish(self) -> None:
        """Nothing more comes."""
        ...

    def take(self) -> list[Part]:
        """What is certain by now, told once. Nothing, also after `finish`: there was no call."""
        ...
