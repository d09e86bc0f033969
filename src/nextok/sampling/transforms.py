"""What can be done to a row of logits before a token is drawn: records of parameters, no arrays.

Each backend implements them for blocks of rows in which every row has parameters of its own.
"""

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any


def is_number(value: Any) -> bool:
    """Whether this is a real number; True and False are not."""
    return isinstance(value, Real) and not isinstance(value, bool)


@dataclass(frozen=True, slots=True)
class Temperature:
    """Divides the logits: above 1 flatter, below 1 sharper."""

    value: float

    def __post_init__(self) -> None:
        if not (is_number(self.value) and 0 < self.value < math.inf):
            raise ValueError(f"temperature must be a finite number, 0 or above (0 is greedy), got {self.value!r}")


@dataclass(frozen=True, slots=True)
class TopK:
    """Keeps exactly the k largest logits; ties go to the lowest token id."""

    k: int

    def __post_init__(self) -> None:
        if type(self.k) is not int or self.k < 1:
            raise ValueError(
                f"top_k must be a whole number from 1 up, got {self.k!r}; leave it out to keep every token"
            )


@dataclass(frozen=True, slots=True)
class TopP:
    """Keeps the smallest set of most probable tokens whose mass reaches p, the crossing token included."""

    p: float

    def __post_init__(self) -> None:
        if not (is_number(self.p) and 0 < self.p <= 1):
            raise ValueError(f"top_p must be above 0 and at most 1, got {self.p!r}")


@dataclass(frozen=True, slots=True)
class MinP:
    """Keeps the tokens at least p times as probable as the most probable one."""

    p: float

    def __post_init__(self) -> None:
        if not (is_number(self.p) and 0 <= self.p <= 1):
            raise ValueError(f"min_p must be from 0 to 1, got {self.p!r}")


Transform = Temperature | TopK | TopP | MinP


@dataclass(frozen=True, slots=True)
class Sampler:
    """An ordered choice of transforms, then the draw; without noise the draw is the largest logit."""

    transforms: tuple[Transform, ...] = ()
    noise: bool = True
