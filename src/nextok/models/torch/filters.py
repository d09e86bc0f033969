"""What each transform means for a block of rows, on any device: `nextok.readout.filters` is the reference.

A block is float64 [rows, n]; a removed token is -inf. Every row has parameters of its own, in columns [rows, 1].
The host never looks at a value, so the device need not be waited for.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import astuple
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nextok.core.query import Row
from nextok.models.torch.passes import copy_to_device
from nextok.readout.noise import uniform
from nextok.sampling.edits import Add, Allow, Edit, Forbid, Scale
from nextok.sampling.transforms import (
    XTC,
    DynamicTemperature,
    EpsilonCutoff,
    EtaCutoff,
    MinP,
    Temperature,
    TopK,
    TopNSigma,
    TopP,
    TypicalP,
)


def transform(values: Tensor, rows: Sequence[Row]) -> tuple[Tensor, Tensor, Tensor]:
    """The values after the transforms of `rows`, which are of the same kinds in the same order, for [rows, vocab].

    Also the token ids of the values, both [rows, n], ascending where a token is left, and the largest value of each
    row [rows]: where that is not finite, a row is empty or cannot be read, and its values say nothing.
    """
    ids = torch.arange(values.shape[-1], device=values.device).expand_as(values)
    steps = list(zip(*(row.read.transforms for row in rows)))
    columns = _columns(rows, values.device)
    settled = max((number for number, step in enumerate(steps, 1) if isinstance(step[0], Edit)), default=0)
    for step, parameters in zip(steps[:settled], columns):
        if isinstance(step[0], Edit):
            values = _apply_edit(values, step)
        else:  # a later edit may remove what cannot be read: such a row waits for it unfiltered
            readable = values.amax(-1, keepdim=True).isfinite()
            values = torch.where(readable, _apply_filter(values, step, parameters), values)
    best = values.amax(-1)  # a filter keeps it finite
    for step, parameters in zip(steps[settled:], columns[settled:]):
        if isinstance(step[0], TopK):
            values, ids = _narrow(values, ids, _top_k(values, step, *parameters), _most(step, values))
        else:
            values = _apply_filter(values, step, parameters)
    return values, ids, best


def log_softmax(values: Tensor) -> Tensor:
    """Natural log-probabilities of rows that have at least one finite value."""
    shifted = values - values.amax(-1, keepdim=True)
    return shifted - shifted.exp().sum(-1, keepdim=True).log()


def largest(values: Tensor, count: int) -> Tensor:
    """Where the `count` largest of each row are, [rows, min(count, n)], best first; of equal ones the first is."""
    places = torch.arange(values.shape[-1], device=values.device).expand_as(values)
    count = min(count, values.shape[-1])
    if not count:
        return places.narrow(-1, 0, 0)
    kept = _first(values, values.topk(count).values, torch.full_like(places.narrow(-1, 0, 1), count))
    values, places = _narrow(values, places, kept, count)
    return places.gather(-1, values.sort(dim=-1, descending=True, stable=True).indices)


def _columns(rows: Sequence[Row], device: torch.device) -> list[tuple[Tensor, ...]]:
    """The parameters of each step, one column for each."""
    numbers = [[_numbers(each, row) for each in row.read.transforms] for row in rows]
    table = copy_to_device(np.array([list(chain(*steps)) for steps in numbers], np.float64), device)
    columns = iter(table.unsqueeze(-1).unbind(1))
    return [tuple(next(columns) for _ in step) for step in numbers[0]]


def _numbers(each: Any, row: Row) -> tuple[float, ...]:
    match each:
        case Allow() | Forbid() | Add() | Scale():
            return ()
        case TopK(k):
            return (float(min(k, 2**53)),)
        case XTC(probability, threshold):  # its coin is tossed here; no token is as probable as infinity
            return (threshold if uniform(row.seed, row.position, np.array([-1]))[0] < probability else math.inf,)
    return astuple(each)


def _apply_edit(values: Tensor, step: Sequence[Any]) -> Tensor:
    """Single tokens changed, in float32, as the model writes its scores; `step` has one edit for each row."""
    scores = values.float()
    if isinstance(step[0], Allow):
        return scores.where(_bits([each.mask for each in step], values), -math.inf).double()
    cells, flat = _cells([each.tokens for each in step], values), scores.view(-1)
    match step[0]:
        case Forbid():
            flat.index_fill_(0, cells, -math.inf)
        case Add():
            amounts = np.fromiter(chain(*(each.amounts for each in step)), np.float64)
            flat.index_add_(0, cells, copy_to_device(amounts, values.device).float())
        case Scale():
            factors = np.repeat([float(each.factor) for each in step], [len(each.tokens) for each in step])
            at, by = flat.take(cells), copy_to_device(factors, values.device).float()
            flat.index_copy_(0, cells, torch.where(at > 0, at / by, at * by))
    return scores.double()


def _bits(masks: Sequence[bytes], values: Tensor) -> Tensor:
    """Little-endian masks, one a row, as bool [rows, vocab]."""
    width = (values.shape[-1] + 7) // 8
    known = b"".join(mask[:width].ljust(width, b"\0") for mask in masks)
    octets = copy_to_device(np.frombuffer(bytearray(known), np.uint8).reshape(-1, width, 1), values.device)
    bits = (octets >> torch.arange(8, dtype=torch.uint8, device=values.device)) & 1
    return bits.flatten(1).narrow(1, 0, values.shape[-1]).bool()


def _cells(tokens: Sequence[Sequence[int]], values: Tensor) -> Tensor:
    """Where the tokens of each row are in the flattened block, int64."""
    flat = np.fromiter(chain(*tokens), np.int64)
    check_tokens(flat, values.shape[-1])
    rows = np.repeat(np.arange(len(tokens)), [len(each) for each in tokens])
    return copy_to_device(rows * values.shape[-1] + flat, values.device)


def check_tokens(tokens: np.ndarray[Any, Any], vocab: int) -> None:
    """ValueError unless all are ids of the vocabulary: a GPU does not survive a look beyond its memory."""
    for token in (tokens.min(initial=0), tokens.max(initial=0)):
        if not 0 <= token < vocab:
            raise ValueError(f"token {token} is none of this model's; its token ids are 0 to {vocab - 1}")


def _apply_filter(values: Tensor, step: Sequence[Any], parameters: Sequence[Tensor]) -> Tensor:
    if isinstance(step[0], TopK):
        return _only(values, _top_k(values, step, *parameters))
    return FILTERS[type(step[0])](values, *parameters)


def _most(step: Sequence[TopK], values: Tensor) -> int:
    return min(max(each.k for each in step), values.shape[-1])


def _top_k(values: Tensor, step: Sequence[TopK], k: Tensor) -> Tensor:
    """Which to keep, bool [rows, n]: only the host knows, without waiting, how many that are at most."""
    most = _most(step, values)
    return _first(values, values.topk(most).values, k.clamp(max=most).long())


def _first(values: Tensor, descending: Tensor, count: Tensor) -> Tensor:
    """Which are the `count` [rows, 1] largest, given enough of the values in descending order.

    Exactly so many: of those on the threshold the first, which have the lowest ids.
    """
    threshold = descending.gather(-1, count - 1)
    above, level = values > threshold, values == threshold
    room = count.int() - above.sum(-1, keepdim=True, dtype=torch.int32)
    return above | (level & (level.cumsum(-1, dtype=torch.int32) <= room))


def _narrow(values: Tensor, ids: Tensor, kept: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """What is kept, at most `count` in each row, as a block of that width and its ids; the order stays."""
    size = values.shape[-1]
    if count == size:
        return _only(values, kept), ids
    early = torch.arange(size, 0, -1, dtype=torch.int32, device=values.device)
    places = early.where(kept, 0).topk(count).indices
    return _only(values.gather(-1, places), kept.gather(-1, places)), ids.gather(-1, places)


def _temperature(values: Tensor, value: Tensor) -> Tensor:
    return (values - values.amax(-1, keepdim=True)) / value


def _dynamic_temperature(values: Tensor, low: Tensor, high: Tensor, exponent: Tensor) -> Tensor:
    count = (values > -math.inf).sum(-1, keepdim=True)
    share = (_entropy(log_softmax(values)) / count.double().log()).clamp(0, 1)
    return torch.where(count < 2, values, _temperature(values, low + (high - low) * share**exponent))


def _top_p(values: Tensor, p: Tensor) -> Tensor:
    descending = values.sort(dim=-1, descending=True).values
    reached = (descending - descending.narrow(-1, 0, 1)).exp().cumsum(-1)
    count = (reached < p * reached.narrow(-1, -1, 1)).sum(-1, keepdim=True) + 1
    return _only(values, _first(values, descending, count) | (p == 1))


def _min_p(values: Tensor, p: Tensor) -> Tensor:
    return _from(values, values.amax(-1, keepdim=True) + p.log())


def _typical_p(values: Tensor, p: Tensor) -> Tensor:
    logprobs = log_softmax(values)
    nearest = (logprobs + _entropy(logprobs)).abs().sort(dim=-1, stable=True).indices
    reached = logprobs.exp().gather(-1, nearest).cumsum(-1)
    count = (reached < p).sum(-1, keepdim=True) + 1
    early = torch.arange(values.shape[-1], device=values.device) < count
    return _only(values, early.scatter(-1, nearest, early) | (p == 1))


def _epsilon_cutoff(values: Tensor, epsilon: Tensor) -> Tensor:
    return _at_least(values, log_softmax(values), epsilon)


def _eta_cutoff(values: Tensor, epsilon: Tensor) -> Tensor:
    logprobs = log_softmax(values)
    return _at_least(values, logprobs, torch.minimum(epsilon, epsilon.sqrt() * (-_entropy(logprobs)).exp()))


def _top_n_sigma(values: Tensor, n: Tensor) -> Tensor:
    left = values > -math.inf
    count = left.sum(-1, keepdim=True)
    mean = values.where(left, 0).sum(-1, keepdim=True) / count
    variance = (values - mean).square().where(left, 0).sum(-1, keepdim=True) / count
    return _from(values, values.amax(-1, keepdim=True) - n * variance.sqrt())


def _xtc(values: Tensor, threshold: Tensor) -> Tensor:
    high = (values > -math.inf) & (log_softmax(values).exp() >= threshold)
    least = high & (values == values.where(high, math.inf).amin(-1, keepdim=True))
    last = least.flip(-1).cumsum(-1).flip(-1) == 1  # of equal ones the one with the highest id stays
    return _only(values, high.logical_not() | (least & last))


def _entropy(logprobs: Tensor) -> Tensor:
    """In nats, [rows, 1]."""
    p = logprobs.exp()
    return -(p * logprobs).where(p > 0, 0).sum(-1, keepdim=True)


def _at_least(values: Tensor, logprobs: Tensor, probability: Tensor) -> Tensor:
    kept = logprobs.exp() >= probability
    return _only(values, kept.scatter(-1, values.argmax(-1, keepdim=True), True))


def _from(values: Tensor, least: Tensor) -> Tensor:
    return values.masked_fill(values < least, -math.inf)


def _only(values: Tensor, kept: Tensor) -> Tensor:
    return values.where(kept, -math.inf)


FILTERS: dict[type, Callable[..., Tensor]] = {
    Temperature: _temperature,
    DynamicTemperature: _dynamic_temperature,
    TopP: _top_p,
    MinP: _min_p,
    TypicalP: _typical_p,
    EpsilonCutoff: _epsilon_cutoff,
    EtaCutoff: _eta_cutoff,
    TopNSigma: _top_n_sigma,
    XTC: _xtc,
}
KNOWN = frozenset({Allow, Forbid, Add, Scale, TopK, *FILTERS})
"""The kinds of transforms that a block can be given."""
