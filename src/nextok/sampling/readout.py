"""What transforms and reads mean, in numpy: the reference that every other backend must agree with.

Logits arrive in float32 and are worked on in float64; a removed token is -inf. Ties go to the lowest token id.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nextok.errors import LogitsError
from nextok.query import Candidate, Choice, Pick, Row, Top
from nextok.sampling.noise import gumbel
from nextok.sampling.transforms import MinP, Temperature, TopK, TopP, Transform

Logits = npt.NDArray[np.float32]  # [rows, vocab]
Values = npt.NDArray[np.float64]  # [vocab]


def read(logits: Logits, rows: Sequence[Row], first: int = 0) -> list[Any]:
    """Answer each row from `logits` [rows, vocab], of which the first is row `first` of the pass.

    The answers are a Choice, Candidates, or the LogitsError of that row alone.
    """
    return [_read(logits[row.index - first], row) for row in rows]


def _read(logits: npt.NDArray[np.float32], row: Row) -> Choice | list[Candidate] | LogitsError:
    values: Any = logits
    if row.forbidden:
        values = logits.copy()
        values[list(row.forbidden)] = -np.inf
    best = int(np.argmax(values))  # the first NaN, if there is one
    if not np.isfinite(values[best]):
        return unreadable(row.position, values[best])
    if isinstance(row.read, Pick):
        sampler = row.read.sampler
        if sampler.noise:
            best = _draw(transform(values, sampler.transforms), row)
        return _choice(logits, best, row.logprobs)
    if isinstance(row.read, Top):
        logprobs = log_softmax(transform(values, row.read.transforms))
        return _candidates(logprobs, row.read.count)
    return _choice(logits, row.read.token, row.logprobs or 0)


def unreadable(position: int, best: float) -> LogitsError:
    """What is answered for a row whose largest score, or first NaN, is `best`."""
    return LogitsError(
        f"the model's scores for position {position} are {best} at best, so no token can be chosen; "
        "the model file is damaged, or its weights overflow"
    )


def _draw(values: Values, row: Row) -> int:
    survivors = np.flatnonzero(values > -np.inf)
    return int(survivors[np.argmax(values[survivors] + gumbel(row.seed, row.position, survivors))])


def _choice(logits: npt.NDArray[np.float32], token: int, alternatives: int | None) -> Choice:
    """The chosen token with its raw log-probability: that of the model's own logits, before any transform."""
    if alternatives is None:
        return Choice(token)
    logprobs = log_softmax(logits.astype(np.float64))
    return Choice(token, float(logprobs[token]), tuple(_candidates(logprobs, alternatives)))


def _candidates(logprobs: Values, count: int) -> list[Candidate]:
    tokens = largest(logprobs, count)
    return [Candidate(int(token), float(logprobs[token])) for token in tokens if logprobs[token] > -np.inf]


def log_softmax(values: Values) -> Values:
    """Natural log-probabilities of a row that has at least one finite value."""
    shifted = values - values.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))


def largest(values: Values, k: int) -> npt.NDArray[np.int64]:
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


def transform(logits: npt.NDArray[Any], transforms: Sequence[Transform]) -> Values:
    """A new row, float64, after the transforms in their order; at least one token survives each of them."""
    values = logits.astype(np.float64)
    for each in transforms:
        match each:
            case Temperature(value):
                with np.errstate(over="ignore"):  # towards -inf only, as the largest is 0
                    values = (values - values.max()) / value
            case TopK(k):
                if k < len(values):
                    values = _only(values, largest(values, k))
            case TopP(p):
                if p < 1:
                    values = _only(values, _nucleus(values, p))
            case MinP(p):
                if p > 0:
                    values[values < values.max() + np.log(p)] = -np.inf
    return values


def _only(values: Values, ids: npt.NDArray[np.int64]) -> Values:
    kept = np.full_like(values, -np.inf)
    kept[ids] = values[ids]
    return kept


def _nucleus(values: Values, p: float) -> npt.NDArray[np.int64]:
    """The ids of the smallest set whose mass reaches p; the whole vocabulary is sorted only if it must be."""
    mass = np.exp(values - values.max())
    enough = p * mass.sum()
    for size in (64, 1024, len(values)):
        order = largest(values, size)
        reached = np.cumsum(mass[order])
        if reached[-1] >= enough:
            break
    return order[: int(np.searchsorted(reached, enough)) + 1]
