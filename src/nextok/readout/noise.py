"""Noise that belongs to the request: a pure function of (seed, position, token id).

The draw `argmax(logit + g)` with independent Gumbel g follows softmax(logits) exactly (the Gumbel-max trick).
Because g comes from a counter-based hash and not from a stream, the same request draws the same token alone, in
a batch, and at a position that was only guessed.
"""

import numpy as np
import numpy.typing as npt

from nextok.sampling.seeds import GAMMA, MASK, mix


def key(seed: int, position: int) -> int:
    """What the noise of all tokens at one position has in common."""
    return mix((mix(seed & MASK) ^ position) + GAMMA & MASK)


def uniform(seed: int, position: int, tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Noise in (0, 1), float64, one number for each token id; token -1 is for what concerns the whole row."""
    x = np.uint64(key(seed, position)) + (tokens.astype(np.uint64) + np.uint64(1)) * np.uint64(GAMMA)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    # 52 bits and a half: exact in float64, never 0 and never 1, so both logarithms of `gumbel` are finite.
    return ((x >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def gumbel(seed: int, position: int, tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Standard Gumbel noise, float64, one number for each token id."""
    return -np.log(-np.log(uniform(seed, position, tokens)))
