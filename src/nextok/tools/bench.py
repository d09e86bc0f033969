"""How fast a model writes on this machine, and how fast its memory would let it: a token reads all weights once."""

import os
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nextok.core.query import Pick, Row
from nextok.errors import LimitError
from nextok.models.base import Feed, Model
from nextok.models.processors import checked_threads
from nextok.sampling.sampler import Sampler
from nextok.strategies.beam.beam import Beam
from nextok.tools.footprint import PROMPT, footprint, some_ids

if TYPE_CHECKING:
    from nextok.lm import LM

TEXTS = (1, 4, 16)
ROWS = (1, 2, 4, 8, 16)
WIDTH = 4
MEGABYTES = 512
LEAST_CONTEXT = 8

Measure = Callable[[], Mapping[str, float]]
"""Takes figures, each under its own name."""
Samples = Mapping[str, list[float]]
"""A figure's values, one for each round."""


@dataclass(frozen=True, slots=True)
class Work:
    """How much is done for one figure."""

    tokens: int  # written by each text
    prefill: int  # read of the long prompt
    passes: int  # of each number of rows
    prompt: int = PROMPT  # read first, by texts and passes

    def within(self, context: int) -> "Work":
        """As much of it as a model with this context can do."""
        if context < LEAST_CONTEXT:
            raise LimitError(f"the model's context is {context} tokens; a measurement needs at least {LEAST_CONTEXT}")
        prompt = min(self.prompt, context // 4)
        tokens, prefill = min(self.tokens, context - prompt), min(self.prefill, context - 1)
        return replace(self, prompt=prompt, tokens=tokens, prefill=prefill)

    def rows(self, context: int) -> list[int]:
        """The numbers of rows whose pass fits into this context."""
        return [rows for rows in ROWS if self.prompt + rows <= context]


FULL = Work(tokens=64, prefill=512, passes=10)
QUICK = Work(tokens=16, prefill=128, passes=3)


def measures(lm: "LM", work: Work, **options: Any) -> dict[str, Measure]:
    """What there is to measure, under what it is called; `options` are the arguments of the `load` that gave `lm`."""
    threads = checked_threads(options.get("threads"))
    return {
        "memory bandwidth": lambda: {"bandwidth": read_bandwidth(threads)},
        **{f"greedy, {count} at once": _greedy(lm, count, work) for count in TEXTS},
        **{f"passes of {rows} rows": _pass(lm, rows, work) for rows in work.rows(lm.model.context)},
        f"beam search, width {WIDTH}": lambda: {"beam": _beam(lm, work)},
        f"a prompt of {work.prefill} tokens": lambda: {"prefill": _prefill(lm, work)},
        "a process of its own": lambda: footprint(**options),
    }


def measured(
    measures: Mapping[str, Measure], rounds: int, during: Callable[[str], AbstractContextManager[Any]] = nullcontext
) -> dict[str, list[float]]:
    """Take every figure once a round, so that a machine that slows down slows all of them alike.

    Whatever is measured is measured inside `during(what it is)`.
    """
    samples: dict[str, list[float]] = {}
    for number in range(1, rounds + 1):
        for name, measure in measures.items():
            with during(f"round {number} of {rounds}: {name}"):
                for figure, value in measure().items():
                    samples.setdefault(figure, []).append(value)
    return samples


def summary(samples: Samples, bytes_per_token: int | None, prefill_tokens: int) -> dict[str, Any]:
    """The medians, and what they say of each other: shares of the limit, and passes in units of one row's."""
    medians = {figure: statistics.median(values) for figure, values in samples.items()}
    limit = medians["bandwidth"] * 1e9 / bytes_per_token if bytes_per_token else None
    one = medians["greedy 1"]
    passes = {rows: medians[f"pass {rows}"] for rows in ROWS if f"pass {rows}" in medians}
    return {
        "bandwidth_gb_per_second": medians["bandwidth"],
        "bytes_per_token": bytes_per_token,
        "limit_tokens_per_second": limit,
        "share_of_limit": one / limit if limit else None,
        "greedy": [{"texts": count, "tokens_per_second": medians[f"greedy {count}"]} for count in TEXTS],
        "passes": [
            {"rows": rows, "milliseconds": 1000 * seconds, "ratio_to_one_row": seconds / passes[1]}
            for rows, seconds in passes.items()
        ],
        "beam": {"width": WIDTH, "steps_per_second": medians["beam"]},
        "prefill": {"tokens": prefill_tokens, "tokens_per_second": medians["prefill"]},
        "load_seconds": medians["load"],
        "seconds_to_first_token": medians["first token"],
        "peak_memory_bytes": medians.get("memory"),
    }


def read_bandwidth(threads: int) -> float:
    """How fast this many threads read memory together, in GB/s: by the native core, or estimated with numpy."""
    megabytes = max(1, min(MEGABYTES, _physical_memory() >> 23))  # an eighth of it at most
    try:
        from nextok._native import read_bandwidth
    except ImportError:
        return _bandwidth_of_numpy(threads, megabytes)
    return read_bandwidth(threads, megabytes)


def _physical_memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return MEGABYTES << 23


def _bandwidth_of_numpy(threads: int, megabytes: int) -> float:
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    shares = np.array_split(np.ones(megabytes << 17, np.uint64), threads)
    seconds = []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(5):
            started_at = time.perf_counter()
            list(pool.map(np.sum, shares))
            seconds.append(time.perf_counter() - started_at)
    return (megabytes << 20) / min(seconds) / 1e9


def _greedy(lm: "LM", count: int, work: Work) -> Measure:
    """Tokens per second of so many texts together, each counted from its first token on."""

    def measure() -> dict[str, float]:
        prompts = [some_ids(lm, work.prompt) for _ in range(count)]
        outputs = lm.generate(prompts, max_tokens=work.tokens, ignore_eos=True)
        for output in outputs:
            if output.error:
                raise output.error
        return {f"greedy {count}": sum(output.stats.tokens_per_second for output in outputs)}

    return measure


def _beam(lm: "LM", work: Work) -> float:
    """Steps per second after the first, each of which extends all beams by a token."""
    beam = Beam(WIDTH, early_stopping="never")
    output = lm.generate(some_ids(lm, work.prompt), beam, max_tokens=work.tokens, ignore_eos=True)
    return output.stats.tokens_per_second


def _prefill(lm: "LM", work: Work) -> float:
    """Tokens of a prompt read per second, up to the first token written."""
    output = lm.generate(some_ids(lm, work.prefill), max_tokens=1, ignore_eos=True)
    return work.prefill / output.stats.seconds_to_first_token


def _pass(lm: "LM", rows: int, work: Work) -> Measure:
    """Seconds for one pass that reads so many tokens after a prompt."""

    def measure() -> dict[str, float]:
        cache, ids = lm.model.open(), some_ids(lm, work.prompt + rows)
        pass_seconds(lm.model, cache, ids[: work.prompt], 0)
        return {f"pass {rows}": pass_seconds(lm.model, cache, ids[work.prompt :], work.prompt, work.passes)}

    return measure


def pass_seconds(model: Model, cache: Any, ids: list[int], start: int, passes: int = 1) -> float:
    """Seconds of a pass that reads these ids behind `start` others and picks after each: a draft is checked so."""
    pick = Pick(Sampler(noise=False))
    feeds = [Feed.straight(cache, ids, start)]
    rows = [Row(index, pick, seed=0, position=start + index + 1) for index in range(len(ids))]
    started_at = time.perf_counter()
    for _ in range(passes):
        model.answer(feeds, rows)
    return (time.perf_counter() - started_at) / passes
