"""From rows of logits to answers, in numpy: the reference that every other backend must agree with."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nextok.core.mirostat import bits_of, follow, last_surprise
from nextok.core.query import Candidate, Choice, Drawn, Draws, Pick, Row, Score, Top
from nextok.errors import DeadEndError, LogitsError
from nextok.readout.filters import Values, largest, log_softmax, transform
from nextok.readout.noise import gumbel

Logits = npt.NDArray[np.float32]  # [rows, vocab]
Answer = Choice | list[Candidate] | list[Drawn] | Exception


def read(logits: Logits, rows: Sequence[Row], first: int = 0) -> list[Any]:
    """Answer each row from `logits` [rows, vocab], of which the first is row `first` of the pass.

    The answers are a Choice, Candidates, Drawns, or the exception of that row alone.
    """
    settled: list[Row] = []
    answers: list[Any] = []
    for row in rows:
        settled.append(follow(row, settled, answers))
        answers.append(_read(logits[row.index - first], settled[-1]))
    return answers


def _read(logits: npt.NDArray[np.float32], row: Row) -> Answer:
    first = int(np.argmax(logits))  # the first NaN, if there is one
    if not np.isfinite(logits[first]):
        return unreadable(row.position, logits[first])
    match row.read:
        case Pick(sampler) if not (sampler.transforms or sampler.noise):
            return (
                Choice(first) if row.logprobs is None else _make_choice(logits, logits.astype(np.float64), first, row)
            )
    try:
        values = transform(logits, row.read.transforms, row)
    except Exception as error:  # a custom transform's own
        return error
    best = int(np.argmax(values))
    if np.isnan(values[best]) or values[best] == np.inf:
        return unreadable(row.position, values[best])
    return _answer(logits, values, best, row)


def _answer(logits: npt.NDArray[np.float32], values: Values, best: int, row: Row) -> Answer:
    """What the transformed values of a row say; nothing may be left of them."""
    empty = values[best] == -np.inf
    match row.read:
        case Pick():
            return dead_end(row.position) if empty else _make_choice(logits, values, _choose(values, best, row), row)
        case Score(token):
            return _make_choice(logits, values, token, row)
        case Top(count):
            return [] if empty else _list_candidates(log_softmax(values), count)
        case Draws(count):
            return [] if empty else _draw(log_softmax(values), count, row)


def unreadable(position: int, best: float) -> LogitsError:
    """What is answered for a row whose largest score, or first NaN, is `best`."""
    return LogitsError(
        f"the model's scores for position {position} are {best} at best, so no token can be chosen; "
        "the model file is damaged, or its weights overflow"
    )


def dead_end(position: int) -> DeadEndError:
    """What is answered for a row of which the transforms leave nothing."""
    return DeadEndError(
        f"no token is allowed at position {position}: grammar, allowed and forbidden tokens, min_tokens and "
        "penalties leave none; relax one of them"
    )


def _choose(values: Values, best: int, row: Row) -> int:
    if isinstance(row.read, Pick) and row.read.sampler.noise:
        survivors = np.flatnonzero(values > -np.inf)
        return int(survivors[np.argmax(values[survivors] + gumbel(row.seed, row.position, survivors))])
    return best


def _make_choice(logits: npt.NDArray[np.float32], values: Values, token: int, row: Row) -> Choice:
    """The chosen token; with its log-probabilities before and after the transforms where the row wants them."""
    transforms = row.read.transforms
    if row.logprobs is None and not isinstance(row.read, Score):
        if last_surprise(row) is None:
            return Choice(token)
        return Choice(token, surprise=bits_of(float(log_softmax(values)[token])))
    raw = log_softmax(logits.astype(np.float64))
    count = row.logprobs or 0
    top = tuple(_list_candidates(raw, count))
    if not transforms:
        return Choice(token, float(raw[token]), top, float(raw[token]), top)
    processed = log_softmax(values) if (values > -np.inf).any() else values
    surprise = None if last_surprise(row) is None else bits_of(float(processed[token]))
    processed_top = tuple(_list_candidates(processed, count))
    return Choice(token, float(raw[token]), top, float(processed[token]), processed_top, surprise)


def _list_candidates(logprobs: Values, count: int) -> list[Candidate]:
    tokens = largest(logprobs, count)
    return [Candidate(int(token), float(logprobs[token])) for token in tokens if logprobs[token] > -np.inf]


def _draw(logprobs: Values, count: int, row: Row) -> list[Drawn]:
    survivors = np.flatnonzero(logprobs > -np.inf)
    perturbed = logprobs[survivors] + gumbel(row.seed, row.position, survivors)
    best = largest(perturbed, count)
    return [Drawn(int(survivors[i]), float(logprobs[survivors[i]]), float(perturbed[i])) for i in best]
