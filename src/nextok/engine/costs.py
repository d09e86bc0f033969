"""What a pass costs on this machine, by its number of rows: measured once for a model, then remembered."""

import json
import os
import statistics
import time
from bisect import bisect_left
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from nextok.core.query import Pick, Row
from nextok.models.base import Feed, Model
from nextok.sampling.sampler import Sampler

ROWS = (1, 2, 3, 4, 6, 8, 16)
PROMPT, LONGER = 32, 256
"""Tokens in the cache before a pass: rows cost more where there is more to look at. The longer one is read if the
shorter took less than `QUICK` seconds."""
QUICK = 0.05
SKIPPED, COUNTED = 3, 5
"""Passes of each size; the first ones pay for what was before."""
SECONDS = 0.5
"""After so long there is a single pass for each size."""
BUSY = 1.2
"""Usual over least seconds of a pass: from here on the machine is not quiet enough for figures that are kept."""


class Costs:
    """Seconds of a pass: between the measured numbers of rows in proportion, beyond them as steep as at the end."""

    def __init__(self, seconds: Mapping[int, float]) -> None:
        self._rows = sorted(seconds)
        # A pass with more rows cannot be cheaper; where it was measured so, that is noise.
        self._seconds = [max(seconds[rows] for rows in self._rows[: index + 1]) for index in range(len(self._rows))]

    def __call__(self, rows: int) -> float:
        """What a pass with so many rows takes."""
        known = self._rows
        if len(known) < 2:
            return self._seconds[0]
        right = min(max(bisect_left(known, rows), 1), len(known) - 1)
        low, high = self._seconds[right - 1], self._seconds[right]
        return low + (high - low) * (rows - known[right - 1]) / (known[right] - known[right - 1])


class RememberedCosts:
    """The costs of a model, measured when they are first asked for unless the file at `path` has them under `key`."""

    def __init__(self, model: Model, path: Path, key: str) -> None:
        self._model = model
        self._path = path
        self._key = key

    def __call__(self, rows: int) -> float:
        """What a pass with so many rows takes."""
        return self._costs(rows)

    @cached_property
    def _costs(self) -> Costs:
        known = _read(self._path)
        if table := _table(known.get(self._key)):
            return Costs(table)
        rounds = measured(self._model)
        table = {rows: min(seconds) for rows, seconds in rounds.items()}
        usual = statistics.median(statistics.median(seconds) / min(seconds) for seconds in rounds.values())
        if usual < BUSY:  # otherwise the machine has other work, and next time may be better
            with suppress(OSError):
                _write(self._path, known | {self._key: table})
        return Costs(table)


def measured(model: Model) -> dict[int, list[float]]:
    """Seconds of passes with different numbers of rows; well under a second in all for a small model."""
    cache, sizes = model.open(), [rows for rows in ROWS if PROMPT + rows <= model.context] or [1]
    longest = min(LONGER, model.context - max(sizes))
    ids = [index * 7919 % model.vocab_size for index in range(longest + max(sizes))]
    prompt = min(PROMPT, longest)
    if pass_seconds(model, cache, ids[:prompt], 0) < QUICK and longest > prompt:
        pass_seconds(model, cache, ids[prompt:longest], prompt)
        prompt = longest
    seconds: dict[int, list[float]] = {}
    began_at = time.perf_counter()
    for rows in sizes:  # one size at a time: a processor that has worked on many rows is slower for some passes
        own, taken = ids[prompt : prompt + rows], list[float]()
        while len(taken) < SKIPPED + COUNTED and not (taken and time.perf_counter() - began_at > SECONDS):
            taken.append(pass_seconds(model, cache, own, prompt))
        seconds[rows] = taken[SKIPPED:] or taken[-1:]
    return seconds


def pass_seconds(model: Model, cache: Any, ids: list[int], start: int, passes: int = 1) -> float:
    """Seconds of a pass that reads these ids behind `start` others and picks after each: a draft is checked so."""
    pick = Pick(Sampler(noise=False))
    feeds = [Feed.from_run(cache, ids, start)]
    rows = [Row(index, pick, seed=0, position=start + index + 1) for index in range(len(ids))]
    started_at = time.perf_counter()
    for _ in range(passes):
        model.answer(feeds, rows)
    return (time.perf_counter() - started_at) / passes


def _read(path: Path) -> dict[str, Any]:
    """What the file holds, if it is what was written there."""
    with suppress(OSError, ValueError, RecursionError):
        found = json.loads(path.read_text())
        if isinstance(found, dict):
            return found
    return {}


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.write_text(json.dumps(content, indent=1))
    fresh.replace(path)


def _table(found: Any) -> dict[int, float]:
    """Seconds by rows as read from a file; nothing if they are of another kind."""
    with suppress(ValueError, TypeError, AttributeError):
        table = {int(rows): float(seconds) for rows, seconds in found.items()}
        if all(rows > 0 and 0 < seconds < 1e4 for rows, seconds in table.items()):
            return table
    return {}
