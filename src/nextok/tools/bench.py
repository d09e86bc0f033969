"""How fast a model writes on this machine, and the limit that memory sets: a token reads all weights once."""

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
from nextok.models.processors import check_threads
from nextok.sampling.sampler import Sampler
from nextok.strategies.beam.beam import Beam
from nextok.tools.footprint import PROMPT, draw_ids, measure_footprint

if TYPE_CHECKING:
    from nextok.lm import LM

TEXTS = (1, 4, 16)
"""Numbers of texts that are written together."""
ROWS = (1, 2, 4, 8, 16)
"""Numbers of rows of the passes that are timed."""
WIDTH = 4
"""Width of the beam search that is timed."""
MEGABYTES = 512
"""Size of the memory that is read to measure its bandwidth, in MiB."""
LEAST_CONTEXT = 8
"""Smallest context that can be measured, in tokens."""

Measure = Callable[[], Mapping[str, float]]
"""A function that measures figures, each under its own name."""
Samples = Mapping[str, list[float]]
"""A figure's values, one for each round."""


@dataclass(frozen=True, slots=True)
class Workload:
    """How much is done for one figure."""

    tokens: int  # number of tokens that each text writes
    prefill: int  # number of tokens of the long prompt
    passes: int  # number of passes for each number of rows
    prompt: int = PROMPT  # number of tokens read before texts and passes

    def fit(self, context: int) -> "Workload":
        """The part of it that fits in a context of so many tokens; LimitError if that is too little."""
        if context < LEAST_CONTEXT:
            raise LimitError(f"the model's context is {context} tokens; a measurement needs at least {LEAST_CONTEXT}")
        prompt = min(self.prompt, context // 4)
        tokens, prefill = min(self.tokens, context - prompt), min(self.prefill, context - 1)
        return replace(self, prompt=prompt, tokens=tokens, prefill=prefill)

    def list_rows(self, context: int) -> list[int]:
        """The numbers of rows whose pass fits into this context."""
        return [rows for rows in ROWS if self.prompt + rows <= context]


FULL = Workload(tokens=64, prefill=512, passes=10)
QUICK = Workload(tokens=16, prefill=128, passes=3)


def list_measures(lm: "LM", work: Workload, **options: Any) -> dict[str, Measure]:
    """The measurements by name; `options` are the arguments of the `load` that gave `lm`."""
    threads = check_threads(options.get("threads"))
    return {
        "memory bandwidth": lambda: {"bandwidth": measure_bandwidth(threads)},
        **{f"greedy, {count} at once": _measure_greedy(lm, count, work) for count in TEXTS},
        **{f"passes of {rows} rows": _measure_pass(lm, rows, work) for rows in work.list_rows(lm.model.context)},
        f"beam search, width {WIDTH}": lambda: {"beam": _measure_beam(lm, work)},
        f"a prompt of {work.prefill} tokens": lambda: {"prefill": _measure_prefill(lm, work)},
        "a process of its own": lambda: measure_footprint(**options),
    }


def measure_rounds(
    measures: Mapping[str, Measure], rounds: int, during: Callable[[str], AbstractContextManager[Any]] = nullcontext
) -> dict[str, list[float]]:
    """The values of every figure, one per round, so that a machine that slows down slows all figures alike.

    Each measurement runs inside the context `during(its name)`.
    """
    samples: dict[str, list[float]] = {}
    for number in range(1, rounds + 1):
        for name, measure in measures.items():
            with during(f"round {number} of {rounds}: {name}"):
                for figure, value in measure().items():
                    samples.setdefault(figure, []).append(value)
    return samples


def summarize(samples: Samples, bytes_per_token: int | None, prefill_tokens: int) -> dict[str, Any]:
    """The medians, their shares of the limit that memory sets, and the passes' ratios to a pass of one row."""
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


def measure_bandwidth(threads: int) -> float:
    """How fast so many threads read memory together, in GB/s: by the native core, or estimated with numpy."""
    megabytes = max(1, min(MEGABYTES, _find_physical_memory() >> 23))  # at most an eighth of the memory
    try:
        from nextok._native import read_bandwidth
    except ImportError:
        return _measure_with_numpy(threads, megabytes)
    return read_bandwidth(threads, megabytes)


def _find_physical_memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return MEGABYTES << 23


def _measure_with_numpy(threads: int, megabytes: int) -> float:
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


def _measure_greedy(lm: "LM", count: int, work: Workload) -> Measure:
    """Tokens per second of so many texts together, each counted from its first token on."""

    def measure() -> dict[str, float]:
        prompts = [draw_ids(lm, work.prompt) for _ in range(count)]
        outputs = lm.generate(prompts, max_tokens=work.tokens, ignore_eos=True)
        for output in outputs:
            if output.error:
                raise output.error
        return {f"greedy {count}": sum(output.stats.tokens_per_second for output in outputs)}

    return measure


def _measure_beam(lm: "LM", work: Workload) -> float:
    """Steps per second after the first, each of which extends all beams by a token."""
    beam = Beam(WIDTH, early_stopping="never")
    output = lm.generate(draw_ids(lm, work.prompt), beam, max_tokens=work.tokens, ignore_eos=True)
    return output.stats.tokens_per_second


def _measure_prefill(lm: "LM", work: Workload) -> float:
    """Tokens of a prompt read per second, up to the first token written."""
    output = lm.generate(draw_ids(lm, work.prefill), max_tokens=1, ignore_eos=True)
    return work.prefill / output.stats.seconds_to_first_token


def _measure_pass(lm: "LM", rows: int, work: Workload) -> Measure:
    """Seconds for one pass that reads so many tokens after a prompt."""

    def measure() -> dict[str, float]:
        cache, ids = lm.model.open(), draw_ids(lm, work.prompt + rows)
        pass_seconds(lm.model, cache, ids[: work.prompt], 0)
        return {f"pass {rows}": pass_seconds(lm.model, cache, ids[work.prompt :], work.prompt, work.passes)}

    return measure


def pass_seconds(model: Model, cache: Any, ids: list[int], start: int, passes: int = 1) -> float:
    """Seconds of a pass that reads these ids behind `start` others and picks after each: a draft is checked so."""
    pick = Pick(Sampler(noise=False))
    feeds = [Feed.from_run(cache, ids, start)]
    rows = [Row(index, pick, seed=0, position=start + index + 1) for index in range(len(ids))]
    started_at = time.perf_counter()
    for _ in range(passes):
        model.answer(feeds, rows)
    return (time.perf_counter() - started_at) / passes
