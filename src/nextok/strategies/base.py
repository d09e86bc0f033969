"""What a strategy is."""

from typing import Protocol

from nextok.query import Decoding
from nextok.request import Request


class Strategy(Protocol):
    """A way to turn scores into text: a frozen record of its settings, whose `decode` is the algorithm."""

    def decode(self, request: Request) -> Decoding[None]:
        """Ask and tell until the request is finished."""
        ...
