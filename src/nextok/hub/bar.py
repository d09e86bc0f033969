"""Progress of a download, shown on stderr."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from nextok.hub.source import Progress, Report


@contextmanager
def show_progress() -> Iterator[Report]:
    """Give a report that draws bars on stderr, or writes one line per stage where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield _report_lines()
        return
    from rich import progress as rich_progress
    from rich.console import Console

    console = Console(stderr=True)
    columns = (
        rich_progress.TextColumn("{task.description}", markup=False),
        rich_progress.BarColumn(),
        rich_progress.DownloadColumn(),
        rich_progress.TransferSpeedColumn(),
        rich_progress.TimeRemainingColumn(),
    )
    tasks: dict[str, rich_progress.TaskID] = {}
    with rich_progress.Progress(*columns, console=console, transient=True) as bar:

        def report(progress: Progress) -> None:
            if progress.total is None:
                console.print(progress.stage, markup=False, highlight=False)
                return
            if progress.stage not in tasks:
                tasks[progress.stage] = bar.add_task(progress.stage)
            bar.update(tasks[progress.stage], completed=progress.done, total=progress.total)

        yield report


def _report_lines() -> Report:
    shown = ""

    def report(progress: Progress) -> None:
        nonlocal shown
        if progress.stage != shown:
            shown = progress.stage
            print(shown, file=sys.stderr, flush=True)

    return report
