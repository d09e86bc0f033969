"""The frequencies of rotary position embedding, which all backends share."""

import numpy as np
import numpy.typing as npt

from nextok.formats.tensor import ModelConfig


def compute_frequencies(config: ModelConfig) -> npt.NDArray[np.float64]:
    """Radians per position, float64 [rope_width / 2]: theta ** (-2i / width), divided as the model's scaling says."""
    exponents = -np.arange(0, config.rope_width, 2) / config.rope_width
    return np.asarray(config.rope_theta**exponents / np.array(config.rope_divisors or 1.0))
