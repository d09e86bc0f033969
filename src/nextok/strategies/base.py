"""What a strategy is."""

from typing import Any, Protocol, runtime_checkable

from nextok.core.query import Decoding
from nextok.core.request import Request
from nextok.drafts.base import HasModel


@runtime_checkable
class Decodes(Protocol):
    """All that an engine needs of a strategy."""

    def decode(self, request: Request) -> Decoding[None]:
        """As in Strategy."""
        ...


class Strategy:
    """A way to turn scores into text: a frozen record of its settings, whose `decode` is the algorithm.

    The other methods tell what others need to know of it. A plain class with a `decode` method is a strategy too,
    of which all holds that these methods say here.
    """

    def decode(self, request: Request) -> Decoding[None]:
        """Ask and tell until the request is finished; called once for each request, by the engine."""
        raise NotImplementedError(f"{type(self).__name__} must have a method decode(request)")

    def texts(self) -> int:
        """How many texts are returned: the best of its last Beams event; 0: the one that is committed."""
        return 0

    def is_random(self) -> bool:
        """Whether a seed changes the text."""
        return False

    def models(self) -> tuple[HasModel, ...]:
        """What it takes models from besides the target: their vocabulary must be the target's."""
        return ()


class _Plain(Strategy):
    """The facts of a class with nothing but `decode`."""


def facts_of(strategy: Any) -> Strategy:
    """What tells the facts of a strategy: itself, or of a plain class the defaults; ValueError for anything else."""
    if isinstance(strategy, Strategy):
        return strategy
    if isinstance(strategy, type) or not isinstance(strategy, Decodes):
        raise ValueError(f"strategy must be one of Greedy(), Sample(), Beam(), Speculate(), got {strategy!r}")
    return _Plain()
