"""What a filter is to a row of scores, these are to single tokens. They write float32, as the model does."""

from dataclasses import dataclass

from nextok.sampling.sampler import Transform


class Edit(Transform):
    """A change of single tokens' scores; it may leave no token at all."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Allow(Edit):
    """Removes every token whose bit is 0; bit i of the little-endian `mask` belongs to token i, no bit means 0."""

    mask: bytes


@dataclass(frozen=True, slots=True)
class Forbid(Edit):
    """Removes these tokens."""

    tokens: frozenset[int]


@dataclass(frozen=True, slots=True)
class Add(Edit):
    """Adds amounts[i] to the logit of tokens[i]; tokens are distinct."""

    tokens: tuple[int, ...]
    amounts: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Scale(Edit):
    """Divides the positive and multiplies the negative logits of these distinct tokens by `factor`."""

    tokens: tuple[int, ...]
    factor: float
