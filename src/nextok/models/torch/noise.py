"""The noise of `nextok.readout.noise` on the device: the same 52 bits for each seed, position and token id.

int64 multiplication wraps like the uint64 of the reference; a shift to the right must not drag the sign along.
"""

import torch

from nextok.sampling.seeds import GAMMA


def uniform(keys: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Noise in (0, 1), float64 [rows, n], from `sampling.noise.key` [rows, 1] and token ids [rows, n], both int64."""
    x = keys + (tokens + 1) * _signed(GAMMA)
    x = (x ^ _shifted(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shifted(x, 27)) * _signed(0x94D049BB133111EB)
    x = x ^ _shifted(x, 31)
    return (_shifted(x, 12).double() + 0.5) * 2.0**-52


def gumbel(keys: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Standard Gumbel noise, float64 [rows, n]."""
    return -(-uniform(keys, tokens).log()).log()


def _signed(bits: int) -> int:
    return bits - 2**64 if bits >= 2**63 else bits


def _shifted(x: torch.Tensor, by: int) -> torch.Tensor:
    return (x >> by) & ((1 << (64 - by)) - 1)
