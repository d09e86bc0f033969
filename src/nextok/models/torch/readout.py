"""From rows of logits to answers where the logits are: in blocks, with one copy to the host.

`nextok.readout.readout` is the reference. Rows that ask for the same kinds of things become one block; only
answers come home: tokens, log-probabilities, and the largest score of each row, which tells whether it can be read.
"""

import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nextok.core.mirostat import follow
from nextok.core.query import Candidate, Choice, Drawn, Draws, Pick, Row, Score, Top
from nextok.models.torch.filters import KNOWN, check_tokens, largest, log_softmax, transform
from nextok.models.torch.noise import draw_gumbel
from nextok.models.torch.passes import copy_to_device
from nextok.readout import readout as reference
from nextok.readout.noise import key
from nextok.readout.readout import Answer, dead_end, unreadable

GREEDY = (Pick, False, (), False)
"""The kind of a row of which only the largest score is wanted."""
REFERENCE = "reference"
"""The kind of a row with a transform that only the reference knows, as a custom one or mirostat."""


def answer_rows(logits: Tensor, rows: Sequence[Row]) -> list[Any]:
    """Answer each row, on a device in blocks; on the processor numpy, row by row, has less to do."""
    return reference.read(logits.numpy(), rows) if logits.device.type == "cpu" else read(logits, rows)


def read(logits: Tensor, rows: Sequence[Row]) -> list[Any]:
    """Answer each row from `logits` [rows of the pass, vocab] on any device, with one copy to the host.

    The logits are float32, or narrower and read as float32. What cannot be read is the error of that row alone.
    """
    for row in rows:
        if not 0 <= row.index < len(logits):
            raise ValueError(f"a row's index counts the {len(logits)} rows of the pass from 0, got {row.index!r}")
    groups: dict[Hashable, list[int]] = {}
    for place, row in enumerate(rows):
        groups.setdefault(_kind(row), []).append(place)
    alike = [(kind, [rows[place] for place in places]) for kind, places in groups.items()]
    logits = logits.detach() if logits.device.type != "mps" else logits.detach().cpu()  # which has no float64
    answers: list[Any] = [None] * len(rows)
    found = _copy_to_host([_compute(logits, kind, group) for kind, group in alike])
    for places, (kind, group), arrays in zip(groups.values(), alike, found):
        if kind == REFERENCE:
            _refer(rows, places, arrays[0].astype(np.float32), answers)
        else:
            for place, answer in zip(places, _answer_group(kind, group, arrays)):
                answers[place] = answer
    return answers


def _kind(row: Row) -> Hashable:
    """What the rows of one block have in common."""
    transforms = tuple(type(each) for each in row.read.transforms)
    if not KNOWN.issuperset(transforms):
        return REFERENCE
    noise = isinstance(row.read, Pick) and row.read.sampler.noise
    return type(row.read), noise, transforms, row.logprobs is not None


def _compute(logits: Tensor, kind: Hashable, rows: Sequence[Row]) -> list[Tensor]:
    """What must be known of the logits to answer rows of one kind: tensors of float64 and int64, still there."""
    if kind == GREEDY:  # of all rows of the pass: that is sooner done than told which
        best, tokens = logits.max(-1)
        return [best.double(), tokens]
    if kind == REFERENCE:
        distinct = np.unique([row.index for row in rows])
        return [logits.index_select(0, copy_to_device(distinct, logits.device)).double()]
    given = np.array([row.read.token if isinstance(row.read, Score) else 0 for row in rows])
    check_tokens(given, logits.shape[-1])
    keys = np.array([key(row.seed, row.position) for row in rows], np.uint64).view(np.int64)
    numbers = copy_to_device(np.column_stack([[row.index for row in rows], keys, given]), logits.device)
    index, seeds, tokens = numbers.split_with_sizes((1, 1, 1), -1)
    return _read(logits.index_select(0, index.view(-1)).double(), seeds, tokens, rows)


def _read(raw: Tensor, keys: Tensor, tokens: Tensor, rows: Sequence[Row]) -> list[Tensor]:
    """The largest values of each row [rows] before and after the transforms, and what `_answer` makes of the rest."""
    values, ids, best = transform(raw, rows)
    found = [raw.amax(-1), best]
    match rows[0].read:
        case Top():
            return found + _top(log_softmax(values), ids, max(_count(row) for row in rows))
        case Draws():
            logprobs = log_softmax(values)
            perturbed = logprobs + draw_gumbel(keys, ids)
            places = largest(perturbed, max(_count(row) for row in rows))
            return found + [each.gather(-1, places) for each in (ids, logprobs, perturbed)]
        case Pick(sampler):
            perturbed = values + draw_gumbel(keys, ids) if sampler.noise else values
            tokens = ids.gather(-1, perturbed.argmax(-1, keepdim=True))
    found.append(tokens.squeeze(-1))
    if rows[0].logprobs is None and not isinstance(rows[0].read, Score):
        return found
    before = _report(raw, torch.arange(raw.shape[-1], device=raw.device).expand_as(raw), tokens, rows)
    return found + before + (_report(values, ids, tokens, rows) if rows[0].read.transforms else before)


def _report(values: Tensor, ids: Tensor, tokens: Tensor, rows: Sequence[Row]) -> list[Tensor]:
    """The log-probability of one token for each row [rows], and the ids and log-probabilities of the best ones."""
    logprobs = log_softmax(values)
    its = logprobs.where(ids == tokens, -math.inf).amax(-1)
    return [its, *_top(logprobs, ids, max(_count(row) for row in rows))]


def _top(logprobs: Tensor, ids: Tensor, count: int) -> list[Tensor]:
    places = largest(logprobs, count)
    return [ids.gather(-1, places), logprobs.gather(-1, places)]


def _count(row: Row) -> int:
    """How many tokens and their log-probabilities the row asks for."""
    return row.read.count if isinstance(row.read, Top | Draws) else row.logprobs or 0


def _copy_to_host(asked: Sequence[Sequence[Tensor]]) -> list[list[npt.NDArray[Any]]]:
    """The tensors as arrays, all in one copy: a float64 travels as the int64 of the same bits."""
    if not asked:
        return []
    flat = torch.cat([each.reshape(-1).view(torch.int64) for found in asked for each in found]).cpu().numpy()
    arrays: list[list[npt.NDArray[Any]]] = []
    start = 0
    for found in asked:
        arrays.append([])
        for each in found:
            part, start = flat[start : start + each.numel()], start + each.numel()
            arrays[-1].append(part.view(np.float64 if each.is_floating_point() else np.int64).reshape(each.shape))
    return arrays


def _answer_group(kind: Hashable, rows: Sequence[Row], arrays: Sequence[npt.NDArray[Any]]) -> list[Any]:
    """The answers of the rows of one kind."""
    if kind == GREEDY:
        best, tokens = (array.tolist() for array in arrays)
        found = [(row, best[row.index], tokens[row.index]) for row in rows]
        return [_answer(row, first, first, token) for row, first, token in found]
    return [_answer(*found) for found in zip(rows, *(array.tolist() for array in arrays))]


def _refer(rows: Sequence[Row], places: Sequence[int], logits: npt.NDArray[np.float32], answers: list[Any]) -> None:
    """Let the reference answer the rows at these places, in their order; `logits`: those that they read, distinct."""
    scores = dict(zip(sorted({rows[place].index for place in places}), logits))
    settled = list(rows)
    for place in places:
        row = settled[place] = follow(rows[place], settled, answers)
        [answers[place]] = reference.read(scores[row.index][None], [row], first=row.index)


def _answer(row: Row, first: float, best: float, *found: Any) -> Answer:
    """One row's answer, given its largest values before and after the transforms."""
    if not math.isfinite(first):
        return unreadable(row.position, first)
    if math.isnan(best) or best == math.inf:
        return unreadable(row.position, best)
    if best == -math.inf and isinstance(row.read, Pick):
        return dead_end(row.position)
    if isinstance(row.read, Top):
        return _list_candidates(found[0], found[1], row)
    if isinstance(row.read, Draws):
        return [Drawn(*each) for each in list(zip(*found))[: row.read.count] if each[1] > -math.inf]
    token, *likely = found
    if not likely:
        return Choice(token)
    raw, raw_ids, raw_logprobs, processed, ids, logprobs = likely
    top, processed_top = _list_candidates(raw_ids, raw_logprobs, row), _list_candidates(ids, logprobs, row)
    return Choice(token, raw, tuple(top), processed if best > -math.inf else -math.inf, tuple(processed_top))


def _list_candidates(ids: Sequence[int], logprobs: Sequence[float], row: Row) -> list[Candidate]:
    """As many as the row asks for of those that are left; of an empty row the log-probabilities are NaN."""
    pairs = list(zip(ids, logprobs))[: _count(row)]
    return [Candidate(token, logprob) for token, logprob in pairs if logprob > -math.inf]
