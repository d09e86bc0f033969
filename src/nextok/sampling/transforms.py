"""Filters: what can be done to a row of logits before a token is drawn. Records of parameters, no arrays.

`readout.filters` says in numpy what each of them means. The other backends may know them too, and are faster then.
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nextok.checks import check_number, check_whole, is_number
from nextok.sampling.past import Past
from nextok.sampling.sampler import Transform


class Filter(Transform):
    """A change of a whole row. A removed token has the logit -inf; at least one token survives."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Temperature(Filter):
    """Divides the logits: above 1 flatter, below 1 sharper."""

    value: float

    def __post_init__(self) -> None:
        if not (is_number(self.value) and 0 < self.value < math.inf):
            raise ValueError(f"temperature must be a finite number, 0 or above (0 is greedy), got {self.value!r}")


@dataclass(frozen=True, slots=True)
class DynamicTemperature(Filter):
    """A temperature from `low`, where the model is sure, to `high`, where every token is as likely as the others.

    low + (high - low) * (entropy / its maximum over the tokens that are left) ** exponent, as in llama.cpp.
    """

    low: float
    high: float
    exponent: float = 1.0

    def __post_init__(self) -> None:
        if not (is_number(self.low) and is_number(self.high) and 0 < self.low <= self.high < math.inf):
            raise ValueError(
                f"a dynamic temperature goes from low to high, 0 < low <= high, got {self.low!r} and {self.high!r}"
            )
        check_number("exponent of a dynamic temperature", self.exponent, 0, 100)


@dataclass(frozen=True, slots=True)
class TopK(Filter):
    """Keeps exactly the k largest logits; ties go to the lowest token id."""

    k: int

    def __post_init__(self) -> None:
        check_whole("top_k", self.k, 1, advice="; leave it out to keep every token")


@dataclass(frozen=True, slots=True)
class TopP(Filter):
    """Keeps the smallest set of most probable tokens whose mass reaches p, the crossing token included."""

    p: float

    def __post_init__(self) -> None:
        if not (is_number(self.p) and 0 < self.p <= 1):
            raise ValueError(f"top_p must be above 0 and at most 1, got {self.p!r}")


@dataclass(frozen=True, slots=True)
class MinP(Filter):
    """Keeps the tokens at least p times as probable as the most probable one."""

    p: float

    def __post_init__(self) -> None:
        check_number("min_p", self.p, 0, 1)


@dataclass(frozen=True, slots=True)
class TypicalP(Filter):
    """Keeps the smallest set of mass p whose log-probabilities are nearest to minus the entropy.

    Locally typical sampling (Meister et al., arXiv 2202.00666); ties go to the lowest token id.
    """

    p: float

    def __post_init__(self) -> None:
        if not (is_number(self.p) and 0 < self.p <= 1):
            raise ValueError(f"typical_p must be above 0 and at most 1, got {self.p!r}")


@dataclass(frozen=True, slots=True)
class EpsilonCutoff(Filter):
    """Keeps the tokens with a probability of at least epsilon, and the best one (Hewitt et al., arXiv 2210.15191)."""

    epsilon: float

    def __post_init__(self) -> None:
        check_number("epsilon_cutoff", self.epsilon, 0, 1)


@dataclass(frozen=True, slots=True)
class EtaCutoff(Filter):
    """Keeps the tokens at least as probable as min(epsilon, sqrt(epsilon) * exp(-entropy)), and the best one.

    Eta sampling (Hewitt et al., arXiv 2210.15191).
    """

    epsilon: float

    def __post_init__(self) -> None:
        check_number("eta_cutoff", self.epsilon, 0, 1)


@dataclass(frozen=True, slots=True)
class TopNSigma(Filter):
    """Keeps the logits within n standard deviations (of those that are left) of the largest (arXiv 2411.07641)."""

    n: float

    def __post_init__(self) -> None:
        check_number("top_n_sigma", self.n, 0, 1e9)


@dataclass(frozen=True, slots=True)
class XTC(Filter):
    """With `probability`, removes all tokens of at least `threshold` but the least probable one of them.

    "Exclude top choices". Whether it does is drawn from the request's noise, as the tokens are.
    """

    probability: float
    threshold: float = 0.1

    def __post_init__(self) -> None:
        check_number("probability of XTC", self.probability, 0, 1)
        check_number("threshold of XTC", self.threshold, 0, 1)


@dataclass(frozen=True, slots=True)
class Custom(Filter):
    """Your own: `function(row)` gets the logits, a float64 array of the vocabulary's size, and returns such an array.

    A removed token is -inf. With two parameters it gets the token ids so far as well: `function(row, tokens)`.
    It must depend on nothing else, or the same seed will not give the same text. Runs in Python, so slowly.
    """

    function: Callable[..., Any]

    def __post_init__(self) -> None:
        if not callable(self.function) or not (self._takes(None) or self._takes(None, None)):
            raise ValueError(
                "a custom transform must be a function of a row of logits, or of a row and the tokens so far, "
                f"got {self.function!r}"
            )

    def at(self, past: Past) -> "Custom":
        """A function of the row alone."""
        if self._takes(None):
            return self
        function, tokens = self.function, past.tokens
        return Custom(lambda row: function(row, tokens))

    def _takes(self, *arguments: None) -> bool:
        try:
            inspect.signature(self.function).bind(*arguments)
        except TypeError:
            return False
        except ValueError:  # of something built in that does not tell
            return len(arguments) == 1
        return True


@dataclass(frozen=True, slots=True)
class Surprise(Filter):
    """Mirostat for one row: removes what carries more than about `mu` bits. See penalties.Mirostat."""

    version: int
    tau: float
    eta: float
    mu: float

    def mu_after(self, bits: float) -> float:
        """Mu for the next token, once one that surprised by so many bits has been taken."""
        return self.mu - self.eta * (bits - self.tau)
