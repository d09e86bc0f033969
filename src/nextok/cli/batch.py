"""`nextok batch`: a file of requests, answered."""

import asyncio
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Annotated

import typer

from nextok.cli.failures import FAILED
from nextok.cli.flags import ModelName, Quiet, option
from nextok.cli.loaded import LoadFlags
from nextok.cli.served import ServedFlags
from nextok.cli.terminal import print_note

if TYPE_CHECKING:
    from nextok.batch.files import Output
    from nextok.batch.lines import Line
    from nextok.batch.resume import Found
    from nextok.batch.run import Counts

    Write = Callable[[bytes], object]
    Answer = Callable[[Iterable[Line], Write, Counts], None]

PANEL = "Batch"
In = Annotated[str, typer.Argument(metavar="IN", help="Requests, one a line: a file, also .gz, or - for stdin.")]
Out = Annotated[str, typer.Argument(metavar="OUT", help="Answers, one a line; what is there is not done again.")]
LINES_A_SEAT = 4
"""Number of lines that a process on another machine takes at once, for each of its seats."""
TELL_SECONDS = 0.2
"""Time, in seconds, between two looks at how far a batch has come."""


@dataclass(frozen=True, slots=True)
class BatchFlags:
    """How the file is worked off."""

    as_they_come: Annotated[
        bool, option("--as-they-come", text="Write answers when they are there, in any order.", panel=PANEL)
    ] = False
    overwrite: Annotated[bool, option("--overwrite", text="Begin anew, whatever OUT holds.", panel=PANEL)] = False
    seed: Annotated[
        int, option("--seed", metavar="N", text="Of requests that name none; each has its own.", panel=PANEL)
    ] = 0
    ray: Annotated[int, option("--ray", metavar="N", text="On a Ray cluster, with N processes.", panel=PANEL)] = 0

    def __post_init__(self) -> None:
        if not 0 <= self.ray <= 100_000:
            raise ValueError(f"--ray must be from 0 to 100,000 processes, got {self.ray}")


def batch(
    how: LoadFlags,
    requests: ServedFlags,
    work: BatchFlags,
    source: In,
    target: Out,
    model: ModelName = "smollm2",
    quiet: Quiet = False,
) -> None:
    """Answer a file of requests in OpenAI's batch form, as many at once as there are seats."""
    from nextok.batch.files import open_input, open_output, read_lines
    from nextok.batch.lines import read_requests
    from nextok.batch.run import Counts

    found = _find_answers(source, target, work)
    if found.ids and not quiet:
        print_note(f"{len(found.ids):,} answers are in {target}; going on")
    counts = Counts(len(found.ids), _count_lines(source, quiet), errors=found.errors)
    with open_input(source) as file:
        lines = read_requests(read_lines(file), work.seed, found.ids)
        first = list(islice(lines, 1))
        answer = _prepare(how, requests, work, model, quiet) if first else None  # without work no model is loaded
        with _closing(open_output(target, found.end), target) as output, _show(counts, quiet):
            if answer:
                answer(chain(first, lines), output.write, counts)
    if counts.errors:
        raise typer.Exit(FAILED)


def _prepare(how: LoadFlags, requests: ServedFlags, work: BatchFlags, model: str, quiet: bool) -> "Answer":
    """What answers lines: a model in this process, or processes on other machines."""
    if work.ray:
        from nextok.batch.over_ray import run_over_ray

        open_served = partial(requests.open, how, model, quiet=True)
        threads, at_once = how.threads or 1, LINES_A_SEAT * requests.seats
        return partial(run_over_ray, open_served, processes=work.ray, lines_each=at_once, threads=threads)
    from nextok.batch.run import Batch

    served = requests.open(how, model, quiet=quiet)

    def answer(lines: "Iterable[Line]", write: "Write", counts: "Counts") -> None:
        with served.lm:
            asyncio.run(Batch(served, write, not work.as_they_come, counts).run(lines))

    return answer


def _find_answers(source: str, target: str, work: BatchFlags) -> "Found":
    """The answers that are there already; ValueError if they are of other lines."""
    from nextok.batch.files import PIPE, exists, is_remote, open_input, read_lines
    from nextok.batch.lines import read_requests
    from nextok.batch.resume import Found, find_answers

    if source != PIPE and not exists(source):
        raise ValueError(f"there is no {source}: name a file of requests, or - for stdin")
    if source == target and source != PIPE:
        raise ValueError(f"IN and OUT are both {source}: name another file for the answers")
    if work.overwrite or not exists(target):
        return Found()
    if is_remote(target):
        raise ValueError(f"{target} is there, and nothing can be appended to it: name another, or give --overwrite")
    found = find_answers(target)
    if found.ids and source != PIPE:
        foreign = set(found.ids)
        with open_input(source) as file:
            for line in read_requests(read_lines(file), work.seed):
                foreign.discard(line.id)
        if foreign:
            raise ValueError(
                f"{target} has {len(foreign):,} answers to requests that are not in {source}: "
                "name another file, or give --overwrite"
            )
    return found


@contextmanager
def _closing(output: "Output", name: str) -> Iterator["Output"]:
    """The output, closed at the end; after Ctrl-C with a word on how to go on."""
    from nextok.batch.files import PIPE, is_remote

    try:
        yield output
    except KeyboardInterrupt:
        if name != PIPE and not is_remote(name):
            print_note(f"what is done is in {name}; the same command goes on")
        raise
    finally:
        output.close()


@contextmanager
def _show(counts: "Counts", quiet: bool) -> Iterator[None]:
    """Tell how far the batch has come: on a terminal all the time, and in one line at the end."""
    began_at = time.monotonic()
    with _watch(lambda: _describe(counts, time.monotonic() - began_at)) if _has_terminal(quiet) else _nothing():
        try:
            yield
        finally:
            if not quiet:
                print_note(_describe(counts, time.monotonic() - began_at))


def _has_terminal(quiet: bool) -> bool:
    return not quiet and sys.stderr.isatty()


def _count_lines(source: str, quiet: bool) -> int | None:
    """How many lines there are, for the time left that a terminal shows; None where it is not worth a look."""
    from nextok.batch.files import PIPE, is_remote, open_input

    if source == PIPE or is_remote(source) or not _has_terminal(quiet):
        return None
    with open_input(source) as file:
        return sum(1 for line in file if not line.isspace())


def _describe(counts: "Counts", seconds: float) -> str:
    errors = f", {counts.errors:,} with errors" if counts.errors else ""
    total = "" if counts.total is None else f" of {counts.total:,}"
    lines = counts.found + counts.answered
    left = (counts.total or 0) - lines
    soon = f", {left * seconds / counts.answered:,.0f} s left" if left > 0 and counts.answered else ""
    return (
        f"{lines:,}{total} lines{errors}, {counts.read:,} tokens read, {counts.written:,} written, "
        f"{counts.written / max(seconds, 1e-9):,.0f} a second, {seconds:,.0f} s{soon}"
    )


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@contextmanager
def _watch(describe: Callable[[], str]) -> Iterator[None]:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    class Now:
        def __rich__(self) -> Text:
            return Text(describe())

    with Live(Now(), console=Console(stderr=True), transient=True, refresh_per_second=1 / TELL_SECONDS):
        yield
