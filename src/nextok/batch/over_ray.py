"""A batch on many machines: Ray Data gives lines to processes, each of which has a model of its own."""

import asyncio
import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import asdict
from itertools import islice
from typing import Any

from nextok.api.served import Served
from nextok.batch.lines import Line
from nextok.batch.run import Batch, Counts
from nextok.extras import needed_for

LINES_AT_ONCE = 100_000
"""Number of lines that the cluster holds at once."""


class Answers:
    """One process: `open_served` loads its model, when the process starts."""

    def __init__(self, open_served: Callable[[], Served]) -> None:
        self._served = open_served()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The answers to some lines, and with the first of them what all have cost."""
        lines, told, counts = [Line(**json.loads(line)) for line in batch["line"]], list[bytes](), Counts()
        asyncio.run(Batch(self._served, told.append, counts=counts).run(lines))
        costs = [json.dumps(asdict(counts)), *[""] * (len(told) - 1)]
        return {"answer": told, "cost": costs}


def run_over_ray(
    open_served: Callable[[], Served],
    lines: Iterable[Line],
    write: Callable[[bytes], object],
    counts: Counts,
    *,
    processes: int,
    lines_each: int,
    threads: int,
) -> None:
    """Answer all lines in so many processes; answers are written as they come.

    `lines_each`: how many lines a process takes at once, at most. `threads`: processors that Ray sets aside for a
    process. The cluster is the one that RAY_ADDRESS names, or one on this machine.
    """
    with needed_for("--ray"):
        import ray
    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
    for name in ("ray", "ray.data"):  # which tells of every step
        logging.getLogger(name).setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    rest = iter(lines)
    while part := [{"line": json.dumps(asdict(line))} for line in islice(rest, LINES_AT_ONCE)]:
        each = min(lines_each, -(-len(part) // processes))
        answers = ray.data.from_items(part, override_num_blocks=-(-len(part) // each)).map_batches(
            Answers,
            fn_constructor_args=(open_served,),
            compute=ray.data.ActorPoolStrategy(size=processes),
            batch_size=each,
            num_cpus=threads,
        )
        for row in answers.iter_rows():
            write(row["answer"])
            if row["cost"]:
                counts.add(Counts(**json.loads(row["cost"])))
