"""What a strategy is."""

from typing import Protocol, runtime_checkable

from nextok.core.query import Decoding
from nextok.core.request import Request


class Strategy(Protocol):
    """A way to turn scores into text: a frozen record of its settings, whose `decode` is the algorithm."""

    def decode(self, request: Request) -> Decoding[None]:
        """Ask and tell until the request is finished."""
        ...


@runtime_checkable
class Several(Strategy, Protocol):
    """A strategy that looks for several texts at once; the `n` best are returned, and the best is the one committed.

    Its last Beams event tells them, the finished ones first.
    """

    @property
    def n(self) -> int:
        """How many, if there are as many."""
        ...
