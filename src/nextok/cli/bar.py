"""Shows a person how far a download or the loading of a model has come."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from nextok.cli.terminal import print_note
from nextok.hub.source import Progress, Report

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

PATIENCE = 0.5
"""Seconds that a brief stage may take before its bar is drawn."""


@contextmanager
def show_progress(*, quiet: bool = False) -> Iterator[Report | None]:
    """Give a report that draws bars on stderr, or writes one line for each stage where stderr is no terminal.

    None if `quiet`. A brief stage has a bar only on a terminal, and only if it takes more than half a second.
    """
    if quiet:
        yield None
    elif sys.stderr.isatty():
        bars = Bars()
        try:
            yield bars.report
        finally:
            bars.close()
    else:
        yield _report_lines()


class Bars:
    """Bars at the bottom of a terminal, one for each stage, which vanish at the end."""

    def __init__(self) -> None:
        self._bar: Bar | None = None
        self._tasks: dict[str, TaskID] = {}
        self._began_at: dict[str, float] = {}

    def report(self, progress: Progress) -> None:
        """Show how far a stage has come, or say what it is where no total is known."""
        if progress.total is None:
            if self._bar is None:
                print_note(progress.stage)
            else:
                self._bar.console.print(progress.stage, markup=False, highlight=False)
            return
        waited = time.monotonic() - self._began_at.setdefault(progress.stage, time.monotonic())
        if progress.brief and waited < PATIENCE:
            return
        self._bar = self._bar or _start_bar()
        if progress.stage not in self._tasks:
            self._tasks[progress.stage] = self._bar.add_task(progress.stage, total=progress.total)
        self._bar.update(self._tasks[progress.stage], completed=progress.done, total=progress.total)

    def close(self) -> None:
        """Take the bars away."""
        if self._bar:
            self._bar.stop()


def _start_bar() -> "Bar":
    from rich import progress as rich_progress
    from rich.console import Console

    columns = (
        rich_progress.TextColumn("{task.description}", markup=False),
        rich_progress.BarColumn(),
        rich_progress.DownloadColumn(),
        rich_progress.TransferSpeedColumn(),
        rich_progress.TimeRemainingColumn(),
    )
    bar = rich_progress.Progress(*columns, console=Console(stderr=True), transient=True)
    bar.start()
    return bar


def _report_lines() -> Report:
    last_stage = ""

    def report(progress: Progress) -> None:
        nonlocal last_stage
        if progress.stage != last_stage and not progress.brief:
            last_stage = progress.stage
            print(last_stage, file=sys.stderr, flush=True)

    return report
