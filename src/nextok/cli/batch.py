"""`nextok batch`: a file of requests to a file of answers."""

import sys
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nextok.cli.failures import INTERRUPTED
from nextok.cli.flags import ModelName, Quiet, option
from nextok.cli.loaded import LoadFlags
from nextok.cli.served import ServedFlags
from nextok.cli.terminal import print_note

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from nextok.batch.inputs import InFile
    from nextok.batch.outputs import Output
    from nextok.batch.run import Tally

PANEL = "Batch"
In = Annotated[str, typer.Argument(metavar="IN", help="Lines of requests, as OpenAI's batches; - is standard input.")]
Out = Annotated[str, typer.Argument(metavar="OUT", help="Lines of answers; - is standard output.")]


@dataclass(frozen=True, slots=True)
class BatchFlags:
    """How the lines are answered."""

    seed: Annotated[
        int, option("--seed", metavar="N", text="Changes the texts of all requests without a seed.", panel=PANEL)
    ] = 0
    as_they_come: Annotated[
        bool, option("--as-they-come", text="Write answers as they are done, not in the order of IN.", panel=PANEL)
    ] = False
    overwrite: Annotated[bool, option("--overwrite", text="Begin anew, and drop what OUT holds.", panel=PANEL)] = (
        False
    )

    ray: Annotated[
        int | None, option("--ray", metavar="N", text="Over Ray Data: N processes with a model each.", panel=PANEL)
    ] = None

    def __post_init__(self) -> None:
        if self.ray is not None and not 1 <= self.ray <= 10_000:
            raise ValueError(f"--ray must be from 1 to 10,000, got {self.ray}")

    def list_options(self) -> "dict[str, Any]":
        """What runs take under the same name."""
        return {"seed": self.seed, "ordered": not self.as_they_come}


def batch(
    how: LoadFlags,
    asked: ServedFlags,
    flags: BatchFlags,
    requests: In,
    answers: Out,
    model: ModelName = "smollm2",
    quiet: Quiet = False,
) -> None:
    """Answer a file of requests, many at a time; after an interruption the same command goes on."""
    from nextok.batch.inputs import InFile
    from nextok.batch.outputs import open_output

    source, run = InFile(requests), _Run(how, asked, flags, model, quiet)
    if flags.ray is not None:
        from nextok.batch.cluster import check_for_ray

        check_for_ray(source)
    with open_output(answers, source, flags.overwrite) as output:
        try:
            tally = run.answer(source, output) if flags.ray is None else run.answer_on_ray(source, output)
        except KeyboardInterrupt:
            go_on = "the same command goes on" if output.can_go_on else "a run anew needs --overwrite"
            print_note(f"nextok: interrupted; what was answered is in {answers}, and {go_on}")
            raise typer.Exit(INTERRUPTED) from None
    if output.done.errors + tally.errors:
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class _Run:
    """What the command was given besides its files."""

    how: LoadFlags
    asked: ServedFlags
    flags: BatchFlags
    model: str
    quiet: bool

    def answer(self, source: "InFile", output: "Output") -> "Tally":
        """With one model in this process."""
        from nextok.batch.run import run_batch

        served = self.asked.open(self.how, self.model, quiet=self.quiet)
        try:
            output.done.check_model(served.name, output.name)
            output.begin()
            with Watch(source, self.quiet) as watch:
                options = self.flags.list_options() | {"report": watch.report, "done": output.done.keys}
                return run_batch(served, source, output.write, **options)
        finally:
            served.lm.close()

    def answer_on_ray(self, source: "InFile", output: "Output") -> "Tally":
        """With a model in each of several processes."""
        from nextok.batch.cluster import run_on_ray
        from nextok.cli.bar import show_progress
        from nextok.hub import resolve

        with show_progress(quiet=self.quiet) as report:  # fetched once, before the processes ask for it
            name = resolve(self.model, report=report).name
        output.done.check_model(self.asked.name or name, output.name)
        output.begin()
        how = replace(self.how, threads=self.how.threads or 1)
        load = partial(self.asked.open, how, self.model, quiet=True)
        with Watch(None, self.quiet) as watch:
            options = self.flags.list_options() | {"report": watch.report, "done": output.done.keys}
            options |= {"actors": self.flags.ray, "threads": how.threads}
            return run_on_ray(load, source, output.write, **options)


class Watch:
    """Shows how far the lines are: a bar where stderr is a terminal, and one line at the end; nothing if `quiet`."""

    def __init__(self, source: "InFile | None", quiet: bool) -> None:
        self._source = source
        self._quiet = quiet
        self._began_at = time.monotonic()
        self._tally: Tally | None = None
        self._bar = _start_bar(source.size if source else None) if sys.stderr.isatty() and not quiet else None

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()
        if self._tally and not self._quiet:
            print_note(self._describe(self._tally))

    def report(self, tally: "Tally") -> None:
        """Show what was done so far, and by the bytes of IN that were read how long the rest takes."""
        self._tally = tally
        if self._bar:
            read = self._source.start if self._source else 0
            self._bar.update(self._bar.task_ids[0], completed=read, description=self._describe(tally))

    def _describe(self, tally: "Tally") -> str:
        skipped = f" ({tally.skipped} before)" if tally.skipped else ""
        errors = f"{tally.errors} of them errors" if tally.errors else "no errors"
        speed = f", {tally.tokens / (time.monotonic() - self._began_at):.1f} tokens/s" if tally.tokens else ""
        return f"{tally.lines} lines answered{skipped}, {errors}{speed}"


def _start_bar(size: int | None) -> "Bar":
    from rich import progress as rich_progress
    from rich.console import Console

    columns = (
        rich_progress.TextColumn("{task.description}", markup=False),
        rich_progress.BarColumn(),
        rich_progress.TimeRemainingColumn(),
    )
    bar = rich_progress.Progress(*columns, console=Console(stderr=True), transient=True)
    bar.add_task("reading the first lines", total=size)
    bar.start()
    return bar
