"""How long a pass takes, learnt from the passes that an engine makes anyway: there is no calibration, and no file.

A prediction is a stated prior times a factor. The factor comes from passes of this size, or else of the nearest one,
as far as they are recent, else from other passes of this model, else from passes of any model. What surprises makes
older times count less. So a busy minute spoils the next seconds only.
"""

import math
import time
from bisect import bisect_left
from collections.abc import Callable
from itertools import takewhile
from typing import Any
from weakref import WeakKeyDictionary, ref

from nextok.core.query import CONSTANT_SPEED, SpeedOf
from nextok.models.base import Model

PRIOR_BANDWIDTH = 1e10
"""Bytes of weights per second that a pass is taken to read as long as nothing has been measured."""
FEW_TOKENS = 8
"""Number of tokens up to which another token in a pass is taken to cost little."""
FEW_SHARE, MANY_SHARE = 0.05, 0.2
"""Cost of one more token up to and beyond FEW_TOKENS, as shares of a pass of one token, before measurements."""
SIZES = (*range(1, 9), 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""Upper ends, in tokens, of the classes of passes that are told apart."""
HALF_LIFE = 64
"""Number of passes of a model after which an observation counts half."""
MOST_TRUST = 3.0
"""Number of observations that a mean is worth at most, so that a new one always counts a quarter."""
DOUBT = 0.25
"""Number of observations that more general knowledge is worth beside those of a kind."""
SURPRISE = math.log(1.6)
"""Logarithm of the factor between a time and its prediction, from which on older observations are trusted less."""
KEPT_TRUST = 0.05
"""Share of their trust that older observations keep then."""
PLAIN_EVERY, PLAIN_AFTER_SURPRISE = 64, 8
"""Number of passes after which one without guesses is due, so that the others have something to be compared with."""

Clock = Callable[[], float]
"""Seconds since any fixed moment."""


class _Mean:
    """A mean of logarithms of factors, in which older observations count ever less."""

    __slots__ = ("seen_at", "trust", "value")

    def __init__(self) -> None:
        self.value = 0.0
        self.trust = 0.0  # how many observations it is worth
        self.seen_at = 0  # the pass of the last one

    def add(self, value: float, now: int) -> None:
        """Take in one observation, made in pass number `now`."""
        trust = self._trust_at(now) + 1.0
        self.value += (value - self.value) / trust
        self.trust = trust if trust < MOST_TRUST else MOST_TRUST
        self.seen_at = now

    def blend(self, value: float, now: int) -> float:
        """This mean as far as it can be trusted, for the rest `value`."""
        trust = self._trust_at(now)
        return (trust * self.value + DOUBT * value) / (trust + DOUBT)

    def _trust_at(self, now: int) -> float:
        return self.trust * math.exp2((self.seen_at - now) / HALF_LIFE)


class _Costs:
    """The means of one model: of all its passes, and of each class of them."""

    def __init__(self, model: Model) -> None:
        self.model = ref(model)
        self._one_token = max(model.bytes_per_token, 1) / PRIOR_BANDWIDTH  # seconds, before measurements
        self.passes = 0
        self.surprised = False  # since the last pass without guesses
        self.whole = _Mean()
        self.classes: dict[tuple[int, int], _Mean] = {}

    def prior(self, tokens: int) -> float:
        """Seconds of a pass of so many tokens, before measurements."""
        few, many = min(tokens, FEW_TOKENS) - 1, max(tokens - FEW_TOKENS, 0)
        return self._one_token * (1 + FEW_SHARE * few + MANY_SHARE * many)

    def factor(self, key: tuple[int, int], others: float) -> float:
        """What the prior of such a pass is multiplied by; `others`: what other models say."""
        factor = self.whole.blend(others, self.passes)
        mean = self.classes.get(key) or self._nearest(key)
        return mean.blend(factor, self.passes) if mean else factor

    def _nearest(self, key: tuple[int, int]) -> _Mean | None:
        """The mean of the class with the nearest number of tokens, among those that see as many slots."""
        alike = [each for each in self.classes if each[1] == key[1]]
        return self.classes[min(alike, key=lambda each: abs(each[0] - key[0]))] if alike else None

    def add(self, key: tuple[int, int], factor: float) -> None:
        """Take in one observation; one that was not expected makes all older ones less trusted."""
        mean = self.classes.get(key)
        if mean is None:
            mean = self.classes[key] = _Mean()
        elif abs(factor - mean.value) > SURPRISE:
            self.surprised = True
            for older in (self.whole, *self.classes.values()):
                older.trust *= KEPT_TRUST
        self.passes += 1
        self.whole.add(factor, self.passes)
        mean.add(factor, self.passes)

    def is_due(self, key: tuple[int, int]) -> bool:
        """Whether such a pass has to be made soon, to be measured."""
        if key not in self.classes:
            return self.passes > 0
        age = self.passes - self.classes[key].seen_at
        return age > PLAIN_EVERY or (self.surprised and age > PLAIN_AFTER_SURPRISE)


class Timing:
    """Seconds of a pass by model, number of tokens read, and slots that a token sees. One engine owns it."""

    def __init__(self, clock: Clock = time.perf_counter) -> None:
        self.clock = clock
        self._models: WeakKeyDictionary[Model, _Costs] = WeakKeyDictionary()
        self._latest: _Costs | None = None  # of the model that was measured last

    def learn(self, model: Model, tokens: int, slots: int, seconds: float) -> None:
        """A pass that read `tokens` tokens, each of which saw about `slots` slots, took so many seconds."""
        if seconds > 0:  # a clock that stands still, as in tests, says nothing
            self._latest = costs = self._costs(model)
            costs.add(_class_of(tokens, slots), math.log(seconds / costs.prior(tokens)))

    def seconds(self, model: Model, tokens: int, slots: int) -> float:
        """What such a pass is expected to take."""
        costs = self._costs(model)
        others = self._latest.whole.value if self._latest else 0.0
        return costs.prior(tokens) * math.exp(costs.factor(_class_of(tokens, slots), others))

    def speed_of(self, target: Model, draft: Any, rows: int, gained: int, slots: int) -> SpeedOf:
        """Tokens per second of a batch, by what one request guesses in it.

        `draft`: the model that guesses; None: guesses cost nothing. `rows` are in the target's pass without guesses,
        and the other requests gain `gained` tokens from it. When a pass without guesses is due, it is endlessly fast.
        """
        costs = self._costs(target)
        due = not gained and costs.is_due(_class_of(rows, slots))
        if due:
            costs.surprised = False
        per_pass = 0.0 if draft is None else self.seconds(draft, 1, slots)

        def seconds(guesses: int, passes: int) -> float:
            return self.seconds(target, rows + guesses, slots) + passes * per_pass

        return SpeedOf(seconds, gained, otherwise=math.inf if due else 0.0)

    def _costs(self, model: Model) -> _Costs:
        if (latest := self._latest) and latest.model() is model:  # the usual case, found sooner
            return latest
        costs = self._models.get(model)
        if costs is None:
            costs = self._models[model] = _Costs(model)
        return costs

    def most_tokens(self, model: Model, slots: int, seconds: float, most: int) -> int:
        """How many tokens, at most `most`, a pass may read that is to take no longer than `seconds`; at least 1."""
        sizes = [*(size for size in SIZES if size < most), most]
        quick = takewhile(lambda size: self.seconds(model, size, slots) <= seconds, sizes)
        return max(quick, default=1)


class FreeTiming(Timing):
    """Guesses cost nothing, so that as many are made as a draft may: for checks that must not depend on a clock."""

    def speed_of(self, target: Model, draft: Any, rows: int, gained: int, slots: int) -> SpeedOf:
        """The same speed for each number of guesses."""
        return CONSTANT_SPEED


def _class_of(tokens: int, slots: int) -> tuple[int, int]:
    return bisect_left(SIZES, tokens), (max(slots - 1, 0) >> 8).bit_length() + 1 >> 1
