"""Noise that belongs to the request: a pure function of (seed, position, token id).

The draw `argmax(logit + g)` with independent Gumbel g follows softmax(logits) exactly (the Gumbel-max trick).
Because g comes from a counter-based hash and not from a stream, the same request draws the same token alone, in
a batch, and at a position that was only guessed.
"""

import numpy as np
import numpy.typing as npt

_MASK = 2**64 - 1
_GAMMA = 0x9E3779B97F4A7C15


def mix(x: int) -> int:
    """SplitMix64's finaliser (Steele et al. 2014): 64 bits in, 64 well-mixed bits out."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def stream(seed: int, index: int) -> int:
    """The seed of sample `index` of several; sample 0 has the seed itself."""
    return seed if index == 0 else mix((mix(seed & _MASK) + index * _GAMMA) & _MASK)


def gumbel(seed: int, position: int, tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Standard Gumbel noise, float64, one number for each token id."""
    key = mix((mix(seed & _MASK) ^ position) + _GAMMA & _MASK)
    x = np.uint64(key) + (tokens.astype(np.uint64) + np.uint64(1)) * np.uint64(_GAMMA)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    # 52 bits and a half: exact in float64, never 0 and never 1, so both logarithms are finite.
    u = ((x >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
    return -np.log(-np.log(u))
