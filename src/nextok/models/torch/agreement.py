"""Whether two ways to compute the same logits agree, but for rounding."""

import torch
from torch import Tensor

NEAR = {torch.float64: 1e-6, torch.float32: 1e-3, torch.float16: 0.05}
"""How far the ones may lie from the others, in standard deviations of these; for types not named here, `FAR`."""
FAR = 0.25  # bfloat16 has eight bits


def apart(found: Tensor, expected: Tensor) -> float:
    """The largest difference, in standard deviations of what is expected; NaN if either holds NaN.

    Scores that the model itself rules out, which are -inf or the lowest number of its type, must be so in both.
    """
    lowest = torch.finfo(torch.float16).min
    ruled_out = expected <= lowest
    if not ruled_out.equal(found <= lowest):
        return torch.inf
    difference = (found - expected)[~ruled_out].abs().max()
    return float(difference / expected[~ruled_out].std()) if difference else 0.0


def rounding(dtype: torch.dtype) -> float:
    """How far apart logits of a model of this type may be."""
    return NEAR.get(dtype, FAR)
