"""How far is it worth guessing? As far as what the guesses gain is more than what the pass costs."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from nextok.core.query import SpeedOf

DECAY = 0.98
"""Factor by which the weight of old observations shrinks with each new one of the same kind."""
PRIOR_WEIGHT = 20.0
"""Number of observations that expected rates, measured on many texts, count for at first."""
MARGIN = 1.02
"""Smallest ratio of the speed with a further guess to the speed without any, at which it is made."""
TRIAL = 2
"""Number of tokens that a trial guesses: the first pass reads what the draft model missed, the second is timed."""
FIRST_WAIT, LONGEST_WAIT = 8, 128
"""Number of proposals without a guess before the first trial, and the largest number of them between two trials."""


class Pace:
    """The rate at which guesses come true, for each kind of place: the length of the match they are made from."""

    def __init__(self, rates: Sequence[float], weight: float = PRIOR_WEIGHT) -> None:
        self._true = [rate * weight for rate in rates]
        self._all = [weight] * len(rates)

    def rate(self, match: int) -> float:
        """The chance that the next token is as guessed after a match of so many tokens."""
        match = min(match, len(self._all) - 1)
        return self._true[match] / self._all[match]

    def learn(self, matches: Iterable[int], came_true: Iterable[bool]) -> None:
        """Whether the guess made at each of these was right; the first wrong one ends what can be learnt."""
        for match, right in zip(matches, came_true):
            at = min(match, len(self._all) - 1)
            self._true[at] = DECAY * self._true[at] + right
            self._all[at] = DECAY * self._all[at] + 1
            if not right:
                break

    def plan(self, match: int, most: int, speed_of: SpeedOf, guesses: Callable[[int], int] = int) -> "Plan":
        """How many tokens ahead to guess, from 0 to `most`; `guesses`: how many there are so far ahead."""
        best, best_speed = 0, MARGIN * speed_of(1.0, 0, 0)
        chance = expected = 1.0
        for length in range(1, most + 1):
            chance *= self.rate(match + length - 1)
            expected += chance
            promised = speed_of(expected, guesses(length), length)
            if promised <= best_speed:
                break
            best, best_speed = length, promised
        return Plan(best, best_speed)


class Plan(NamedTuple):
    """How many tokens ahead to guess, and the tokens per second, of all requests together, that this promises."""

    length: int
    speed: float


class Probing:
    """For guesses that cost a model's work: when they do not pay, one is tried now and then, ever more rarely."""

    def __init__(self, trial: int = TRIAL) -> None:
        self._trial = trial
        self._wait = self._left = FIRST_WAIT

    def length(self, best: int, most: int) -> int:
        """`best`, or when it has been 0 for long enough a short trial."""
        if best:
            self._wait = self._left = FIRST_WAIT
            return best
        self._left -= 1
        if self._left > 0:
            return 0
        self._wait = self._left = min(2 * self._wait, LONGEST_WAIT)
        return min(self._trial, most)
