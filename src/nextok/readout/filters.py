"""What each transform means, in numpy: the reference that every other backend must agree with.

A row arrives in float32 and is worked on in float64; a removed token is -inf. Ties go to the lowest token id.
A filter of your own is a record, a subclass of `Filter`, and a function that `apply_filter.register` is given.
"""

from collections.abc import Sequence
from functools import singledispatch
from typing import Any

import numpy as np
import numpy.typing as npt

from nextok.core.query import Row
from nextok.errors import LogitsError
from nextok.readout.noise import uniform
from nextok.sampling.edits import Add, Allow, Edit, Forbid, Scale
from nextok.sampling.sampler import Transform, not_a_transform
from nextok.sampling.transforms import (
    XTC,
    Custom,
    DynamicTemperature,
    EpsilonCutoff,
    EtaCutoff,
    MinP,
    Surprise,
    Temperature,
    TopK,
    TopNSigma,
    TopP,
    TypicalP,
)

Values = npt.NDArray[np.float64]  # [vocab]
Tokens = npt.NDArray[np.int64]

ESTIMATED_FROM = 100
"""Tokens from which mirostat 1 estimates Zipf's exponent."""


def transform(logits: npt.NDArray[Any], transforms: Sequence[Any], row: Row) -> Values:
    """A new row, float64, after the transforms in their order; `row` says for which draw."""
    values = logits.astype(np.float64)
    for each in transforms:
        if isinstance(each, Edit):
            values = edit(values, each)
        elif np.isfinite(values.max()):  # else nothing is left, or an edit made what cannot be read
            values = apply_filter(each, values, row)
    return values


@singledispatch
def apply_filter(each: Any, values: Values, row: Row) -> Values:
    """A new row, [vocab] as `values`, which has a finite largest value; `row` says for which draw.

    ValueError for what is no transform, or is one that no function has been registered for.
    """
    if not isinstance(each, Transform):
        raise not_a_transform(each)
    raise ValueError(
        f"{each!r:.80} has no function in numpy: register one with nextok.readout.filters.apply_filter.register"
    )


def log_softmax(values: Values) -> Values:
    """Natural log-probabilities of a row that has at least one finite value."""
    shifted = values - values.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))


def largest(values: Values, k: int) -> Tokens:
    """The ids of the k largest values, largest first; of equal ones the lowest ids are taken, lowest first."""
    if k <= 0:
        return np.empty(0, np.int64)
    if k < len(values):
        threshold = np.partition(values, len(values) - k)[len(values) - k]
        above = np.flatnonzero(values > threshold)
        level = np.flatnonzero(values == threshold)[: k - len(above)]
        ids = np.sort(np.concatenate([above, level]))
    else:
        ids = np.arange(len(values))
    return ids[np.argsort(-values[ids], kind="stable")]


@np.errstate(over="ignore")
def edit(values: Values, each: Edit) -> Values:
    """Single tokens changed, in float32, as the model writes its scores."""
    edited = values.astype(np.float32)
    match each:
        case Allow(mask):
            known = np.frombuffer(mask or b"\0", np.uint8)  # of none at all, numpy would make up bits
            bits = np.unpackbits(known, bitorder="little", count=len(edited))
            edited[bits == 0] = -np.inf
        case Forbid(tokens):
            edited[list(tokens)] = -np.inf
        case Add(tokens, amounts):
            ids = list(tokens)
            edited[ids] += np.array(amounts, np.float32)
        case Scale(tokens, factor):
            ids, by = list(tokens), np.float32(factor)
            edited[ids] = np.where(edited[ids] > 0, edited[ids] / by, edited[ids] * by)
        case _:
            raise ValueError(f"{each!r:.80} is not one of the edits Allow, Forbid, Add and Scale: use one of them")
    return edited.astype(np.float64)


@apply_filter.register
def _temperature(each: Temperature, values: Values, row: Row) -> Values:
    with np.errstate(over="ignore"):  # towards -inf only, as the largest is 0
        return np.asarray((values - values.max()) / each.value)


@apply_filter.register
def _dynamic_temperature(each: DynamicTemperature, values: Values, row: Row) -> Values:
    count = np.count_nonzero(values > -np.inf)
    if count < 2:
        return values
    share = min(1.0, max(0.0, _entropy(log_softmax(values)) / np.log(count)))
    value = each.low + (each.high - each.low) * share**each.exponent
    return _temperature(Temperature(float(value)), values, row)


@apply_filter.register
def _top_k(each: TopK, values: Values, row: Row) -> Values:
    return _only(values, largest(values, each.k)) if each.k < len(values) else values


@apply_filter.register
def _top_p(each: TopP, values: Values, row: Row) -> Values:
    return _only(values, _nucleus(values, each.p)) if each.p < 1 else values


def _nucleus(values: Values, p: float) -> Tokens:
    """The ids of the smallest set whose mass reaches p; the whole vocabulary is sorted only if it must be."""
    if values.min() == -np.inf:  # after a top-k most are removed, which are slow to look through
        left = np.flatnonzero(values > -np.inf)
        return left[_nucleus(values[left], p)]
    mass = np.exp(values - values.max())
    enough = p * mass.sum()
    for size in (64, 1024, len(values)):
        order = largest(values, size)
        reached = np.cumsum(mass[order])
        if reached[-1] >= enough:
            break
    return order[: int(np.searchsorted(reached, enough)) + 1]


@apply_filter.register
def _min_p(each: MinP, values: Values, row: Row) -> Values:
    return _from(values, values.max() + np.log(each.p)) if each.p > 0 else values


@apply_filter.register
def _typical_p(each: TypicalP, values: Values, row: Row) -> Values:
    if each.p == 1:
        return values
    logprobs = log_softmax(values)
    far = np.abs(-logprobs - _entropy(logprobs))
    order = np.argsort(far, kind="stable")
    reached = np.cumsum(np.exp(logprobs[order]))
    return _only(values, order[: int(np.searchsorted(reached, each.p)) + 1])


@apply_filter.register
def _epsilon_cutoff(each: EpsilonCutoff, values: Values, row: Row) -> Values:
    return _at_least(values, log_softmax(values), each.epsilon)


@apply_filter.register
def _eta_cutoff(each: EtaCutoff, values: Values, row: Row) -> Values:
    logprobs = log_softmax(values)
    return _at_least(values, logprobs, min(each.epsilon, np.sqrt(each.epsilon) * float(np.exp(-_entropy(logprobs)))))


@apply_filter.register
def _top_n_sigma(each: TopNSigma, values: Values, row: Row) -> Values:
    return _from(values, values.max() - each.n * values[values > -np.inf].std())


@apply_filter.register
def _xtc(each: XTC, values: Values, row: Row) -> Values:
    if uniform(row.seed, row.position, np.array([-1]))[0] >= each.probability:
        return values
    high = np.flatnonzero((values > -np.inf) & (np.exp(log_softmax(values)) >= each.threshold))
    if len(high) < 2:
        return values
    values = values.copy()
    values[np.delete(high, np.lexsort((high, -values[high]))[-1])] = -np.inf
    return values


@apply_filter.register
def _surprise(each: Surprise, values: Values, row: Row) -> Values:
    """Mirostat before the draw; core.mirostat says what follows it."""
    bits = -log_softmax(values) / np.log(2)
    if each.version == 2:
        kept = np.flatnonzero(bits <= each.mu)
        return _only(values, kept if len(kept) else largest(values, 1))
    return _only(values, largest(values, _zipf_k(bits, each.mu)))


def _zipf_k(bits: Values, mu: float) -> int:
    """The k whose tokens have a cross-entropy of about mu bits, by an estimate of Zipf's exponent s."""
    count = np.count_nonzero(np.isfinite(bits))
    best = np.sort(bits)[: min(ESTIMATED_FROM, count)]
    ranks = np.arange(1, len(best))
    t = np.log((ranks + 1) / ranks)
    s = float((t * np.diff(best)).sum() * np.log(2) / (t * t).sum()) if len(best) > 1 else 0.0
    with np.errstate(all="ignore"):
        spread = s - 1
        k = np.power(spread * np.power(2.0, mu) / (1 - np.power(float(len(bits)), -spread)), 1 / np.float64(s))
    return int(min(max(k, 1), len(bits))) if np.isfinite(k) else len(bits)


@apply_filter.register
def _custom(each: Custom, values: Values, row: Row) -> Values:
    answer = np.asarray(each.function(values.copy()))
    if answer.shape != values.shape or answer.dtype.kind not in "fiu":
        raise ValueError(
            f"a custom transform must return {len(values)} numbers as it got them, "
            f"got an array of {answer.dtype} of shape {answer.shape}"
        )
    if np.isnan(answer).any() or (answer == np.inf).any():
        raise LogitsError("a custom transform returned NaN or +inf; a removed token is -inf")
    return answer.astype(np.float64)


def _entropy(logprobs: Values) -> float:
    """In nats."""
    p = np.exp(logprobs)
    return float(-(p[p > 0] * logprobs[p > 0]).sum())


def _at_least(values: Values, logprobs: Values, probability: float) -> Values:
    kept = np.flatnonzero(np.exp(logprobs) >= probability)
    return _only(values, kept if len(kept) else largest(values, 1))


def _from(values: Values, least: float) -> Values:
    return np.where(values < least, -np.inf, values)


def _only(values: Values, ids: Tokens) -> Values:
    kept = np.full_like(values, -np.inf)
    kept[ids] = values[ids]
    return kept
