"""Whether two ways to compute the same logits agree, but for rounding."""

import torch
from torch import Tensor

TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-3, torch.float16: 0.05}
"""Largest difference that may be rounding, in standard deviations of the expected logits, by their type."""
WIDEST_TOLERANCE = 0.25
"""Tolerance for types that are not named above, such as bfloat16, which has eight bits."""


def measure_difference(found: Tensor, expected: Tensor) -> float:
    """The largest difference, in standard deviations of what is expected; NaN if either holds NaN.

    Scores that the model itself rules out, which are -inf or the lowest number of its type, must be so in both.
    """
    lowest = torch.finfo(torch.float16).min
    ruled_out = expected <= lowest
    if not ruled_out.equal(found <= lowest):
        return torch.inf
    difference = (found - expected)[~ruled_out].abs().max()
    return float(difference / expected[~ruled_out].std()) if difference else 0.0


def find_tolerance(dtype: torch.dtype) -> float:
    """How far apart logits of a model of this type may be, in standard deviations."""
    return TOLERANCES.get(dtype, WIDEST_TOLERANCE)
