"""Is one more guess of a draft model worth its work? That depends on how sure the model was of the last ones."""

from bisect import bisect_right
from math import exp

from nextok.core.query import SpeedOf
from nextok.drafts.pace import Pace, Plan

SURE = (0.4, 0.6, 0.75, 0.85, 0.93, 0.98)
"""Probabilities, as a draft model sees them, between which its guesses are told apart."""
SURE_RATES, SURE_WEIGHT = (0.35, 0.55, 0.72, 0.83, 0.92, 0.97, 0.99), 6.0
"""How often guesses of such probabilities are expected to come true, and how many observations that counts for."""
UNKNOWN = 3
"""What a guess of unknown probability counts as among them."""


class Worth:
    """Guesses of a draft model, one by one: another one is worth its work if the last ones are probable enough.

    That is if the tokens that it gains on average are more than `plan.speed` brings in the time that it takes.
    `sure`: how often guesses come true, by how probable the draft model finds them. `rate`: the same of a guess that
    has not been made yet. At least `least` and at most `most` are made.
    """

    def __init__(self, plan: Plan, speed_of: SpeedOf, sure: Pace, rate: float, least: int, most: int) -> None:
        self._speed = plan.speed
        self._seconds = speed_of.seconds
        self._sure = sure
        self._rate = rate
        self._least = least
        self._most = most
        self._chances = [1.0]  # that all guesses up to here come true
        self.kinds: list[int] = []  # of the guesses, by how probable they are

    def another(self) -> bool:
        """Whether to make one more guess."""
        made = len(self.kinds)
        if made < self._least or made >= self._most:
            return made < self._least
        seconds = self._seconds(made + 1, made + 1) - self._seconds(made, made)
        return self._chances[-1] * self._rate > self._speed * seconds

    def add(self, logprob: float | None) -> None:
        """A guess has been made that has this log-probability; None: it is not known."""
        self.kinds.append(UNKNOWN if logprob is None else bisect_right(SURE, exp(logprob)))
        self._chances.append(self._chances[-1] * self._sure.rate(self.kinds[-1]))

    def checked(self) -> int:
        """How many of the guesses are worth a row in the target's pass."""
        made = len(self.kinds)
        while made > self._least and self._chances[made] <= self._speed * (
            self._seconds(made, 0) - self._seconds(made - 1, 0)
        ):
            made -= 1
        return made
