"""Seeds as 64-bit numbers: mixed, and made into as many independent ones as are needed."""

from collections.abc import Iterable

MASK = 2**64 - 1
GAMMA = 0x9E3779B97F4A7C15


def mix(x: int) -> int:
    """SplitMix64's finaliser (Steele et al. 2014): 64 bits in, 64 well-mixed bits out."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def stream(seed: int, index: int) -> int:
    """The seed of sample `index` of several; sample 0 has the seed itself."""
    return seed if index == 0 else mix((mix(seed & MASK) + index * GAMMA) & MASK)


def salt_seed(seed: int, tokens: Iterable[int]) -> int:
    """The seed of one path, so that noise after different texts is independent."""
    state = mix(seed & MASK)
    for token in tokens:
        state = mix((state ^ (token + 1)) + GAMMA & MASK)
    return state
