"""The noise of `nextok.readout.noise` on the device: the same 52 bits for each seed, position and token id.

int64 multiplication wraps like the uint64 of the reference; a shift to the right must not repeat the sign bit.
"""

import torch

from nextok.sampling.seeds import GAMMA


def draw_uniform(keys: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Noise in (0, 1), float64 [rows, n], from `sampling.noise.key` [rows, 1] and token ids [rows, n], both int64."""
    x = keys + (tokens + 1) * _to_signed(GAMMA)
    x = (x ^ _shift_right(x, 30)) * _to_signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shift_right(x, 27)) * _to_signed(0x94D049BB133111EB)
    x = x ^ _shift_right(x, 31)
    return (_shift_right(x, 12).double() + 0.5) * 2.0**-52


def draw_gumbel(keys: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Standard Gumbel noise, float64 [rows, n]."""
    return -(-draw_uniform(keys, tokens).log()).log()


def _to_signed(bits: int) -> int:
    return bits - 2**64 if bits >= 2**63 else bits


def _shift_right(x: torch.Tensor, by: int) -> torch.Tensor:
    return (x >> by) & ((1 << (64 - by)) - 1)
