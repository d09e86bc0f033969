"""How mirostat goes on: mu after a token follows from mu before it and from how surprising the token was."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from nextok.core.query import Choice, Row
from nextok.sampling.transforms import Surprise

LOG_2 = math.log(2)


def bits_of(logprob: float) -> float:
    """How surprising a token of this natural log-probability is, in bits."""
    return -logprob / LOG_2


def surprises_of(answer: Any) -> Iterator[tuple[int, float]]:
    """Each token of the answer to a row, and its surprise in bits under the distribution after the transforms."""
    if isinstance(answer, Choice):
        if answer.surprise is not None:
            yield answer.token, answer.surprise
    elif isinstance(answer, list):
        yield from ((each.token, bits_of(each.logprob)) for each in answer)


def last_surprise(row: Row) -> Surprise | None:
    """The mirostat of a row, if it has one; of several, the last one says what mu becomes."""
    for each in reversed(row.read.transforms):
        if isinstance(each, Surprise):
            return each
    return None


def follow(row: Row, rows: Sequence[Row], answers: Sequence[Any]) -> Row:
    """The row as it is once the earlier row of its pass that `after` names has been answered.

    `rows` and `answers` are those of the pass, of which all before this one are settled. Where the earlier row chose
    another token, mu stays what it is.
    """
    if row.after is None:
        return row
    place, token = row.after
    before = last_surprise(rows[place])
    bits = dict(surprises_of(answers[place])).get(token)
    if before is None or bits is None:
        return replace(row, after=None)
    mu = before.mu_after(bits)
    transforms = [replace(each, mu=mu) if isinstance(each, Surprise) else each for each in row.read.transforms]
    return replace(row, read=row.read.after(tuple(transforms)), after=None)
