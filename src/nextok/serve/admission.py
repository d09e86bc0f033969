"""How many requests may be in the house at once: those that run, and a bounded number that wait."""

from collections.abc import Iterator
from contextlib import contextmanager

from nextok.serve.errors import ApiError


class Admission:
    """Counts texts in flight on one event loop; beyond the limit a request is refused at once, to be sent again."""

    def __init__(self, seats: int, queue: int) -> None:
        self.seats = seats
        self.limit = seats + queue
        self.texts = 0
        self.refused = 0

    @contextmanager
    def enter(self, texts: int) -> Iterator[None]:
        """Be in the house with so many texts; ApiError (503) if it is full. One request alone is never too large."""
        if self.texts and self.texts + texts > self.limit:
            self.refused += 1
            raise ApiError(
                503, f"{self.texts} texts are being written or wait, of at most {self.limit}: try again soon"
            )
        self.texts += texts
        try:
            yield
        finally:
            self.texts -= texts
