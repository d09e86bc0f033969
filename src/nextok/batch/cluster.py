"""The same over Ray Data: several processes, on one machine or many, with a model each."""

import logging
import os
from array import array
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from nextok.api.served import Served
from nextok.batch.answers import Answer
from nextok.batch.entries import TWICE, Entry, read_entries, read_entry, refuse_twice
from nextok.batch.inputs import InFile
from nextok.batch.run import Report, Tally
from nextok.batch.window import answer_entries
from nextok.errors import NextokError
from nextok.extras import needed_for

PER_CALL = 128
"""Lines that a process answers in one call; its seats run empty only at the end of each."""
MOST_BLOCKS = 10_000
"""Largest number of pieces of work."""


def run_on_ray(
    load: Callable[[], Served],
    requests: InFile,
    write: Callable[[bytes], object],
    *,
    actors: int,
    threads: int = 1,
    seed: int = 0,
    ordered: bool = True,
    done: Collection[str] = (),
    report: Report = lambda tally: None,
) -> Tally:
    """`run_batch` with so many processes, each of which calls `load` once and takes `threads` processors of Ray's.

    This process finds where the lines stand, and the others read them there: IN must be a file that all of them can
    open; see `check_for_ray`. An address in RAY_ADDRESS is that of the cluster, else one is started here.
    """
    check_for_ray(requests)
    import pyarrow
    import ray.data

    tally = Tally()
    tables = _cut(pyarrow.table(_find_places(requests, done, tally)), actors)
    if tables:
        with _connect(ray, ordered):
            answers = ray.data.from_arrow(tables).map_batches(
                Answerer,
                fn_constructor_args=(load, requests.find_address(), seed),
                batch_size=None,  # a call answers a whole table
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(size=min(actors, len(tables))),
                num_cpus=threads,
            )
            for row in answers.iter_rows():
                answer = Answer(**row)
                write(answer.line)
                tally.count(answer)
                report(tally)
    report(tally)
    return tally


def check_for_ray(requests: InFile) -> None:
    """ValueError if IN cannot be read in parts, NextokError if Ray is not installed."""
    if requests.is_pipe or requests.name.endswith(".gz"):
        line = f"over Ray, IN must be a file that is not packed, got {requests.name!r:.200}"
        raise ValueError(f"{line}: unpack it first")
    with needed_for("nextok batch --ray"):
        import pyarrow  # noqa: F401
        import ray.data  # noqa: F401


@contextmanager
def _connect(ray: Any, ordered: bool) -> Iterator[None]:
    """Ray as it runs already, else begun here, or found by RAY_ADDRESS, and ended again; it logs only errors.

    NextokError if it ends the work.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    is_new = not ray.is_initialized()
    if is_new:
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = ordered
    context.enable_progress_bars = False
    try:
        yield
    except ray.exceptions.RayError as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise NextokError(f"Ray ended the work: {lines[-1]:.500}") from error
    finally:
        if is_new:
            ray.shutdown()


def _cut(places: Any, actors: int) -> list[Any]:
    """One table for each call: several for each process, so that all end at about the same time."""
    size = max(1, min(PER_CALL, len(places) // (4 * actors)), -(-len(places) // MOST_BLOCKS))
    return [places.slice(at, size) for at in range(0, len(places), size)]


def _find_places(requests: InFile, done: Collection[str], tally: Tally) -> "dict[str, array[int]]":
    """The lines that are not answered yet: number, place, and whether the `custom_id` stood in an earlier one."""
    numbers, starts, twice = array("q"), array("q"), array("b")  # which hold millions of lines
    for entry in read_entries(requests):
        if entry.key in done:
            tally.skipped += 1
            continue
        numbers.append(entry.number)
        starts.append(requests.start)
        twice.append(entry.error is not None and entry.error.code == TWICE)
    return {"number": numbers, "start": starts, "is_twice": twice}


class Answerer:
    """What each process runs: a model, and the lines that it is sent to."""

    def __init__(self, load: Callable[[], Served], name: str, seed: int) -> None:
        self._served = load()
        self._requests = InFile(name)
        self._seed = seed

    def __call__(self, places: Any) -> Any:
        """A table of answers from a table of places."""
        import pyarrow

        answers: list[Answer] = []
        answer_entries(self._served, self._read(places.to_pylist()), answers.append, self._seed, ordered=True)
        return pyarrow.Table.from_pylist([asdict(each) for each in answers])

    def _read(self, places: list[dict[str, Any]]) -> Iterator[Entry]:
        lines = self._requests.read_at(place["start"] for place in places)
        for place, line in zip(places, lines):
            entry = read_entry(line, place["number"])
            yield refuse_twice(entry) if place["is_twice"] else entry
