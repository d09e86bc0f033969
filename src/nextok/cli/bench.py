"""`nextok bench`: how fast a model writes here, beside the limit that memory sets."""

import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nextok.cli.flags import Json, option
from nextok.cli.loaded import LoadFlags
from nextok.cli.terminal import escape_controls, format_json, format_size, make_console, show_activity
from nextok.tools.machine import describe_environment, read_load_average

if TYPE_CHECKING:
    from nextok.lm import LM

Name = Annotated[str, typer.Argument(metavar="MODEL", help="The model to measure.", envvar="NEXTOK_MODEL")]
MOST_ROUNDS = 1000
"""Largest number of rounds."""
Line = tuple[str, str, str, str]
"""A line of the table: name of the figure, its median, its meaning, and the lowest and highest value of a round."""


def bench(
    how: LoadFlags,
    model: Name = "smollm2",
    rounds: Annotated[int, option("--rounds", metavar="N", text="Measure so often; medians are shown.")] = 5,
    quick: Annotated[bool, option("--quick", text="Fewer tokens for each figure.")] = False,
    json: Json = False,
) -> None:
    """Measure a model on this machine: its speed in every use, beside the limit that the memory sets."""
    from nextok.tools.bench import FULL, QUICK, list_measures, measure_rounds, summarize

    if not 1 <= rounds <= MOST_ROUNDS:
        raise ValueError(f"rounds must be from 1 to {MOST_ROUNDS}, got {rounds}; 5 is usual, 1 the fastest")
    machine, busy = describe_environment(how.threads), read_load_average()
    lm = how.load(model)
    work = (QUICK if quick else FULL).fit(lm.model.context)
    figures = list_measures(lm, work, model=model, **asdict(how))
    with show_activity("warming up"):
        lm.generate([[0]] * 2, max_tokens=2)
    samples = measure_rounds(figures, rounds, during=show_activity)
    results = summarize(samples, lm.model.bytes_per_token, work.prefill)
    asked = {"rounds": rounds, "quick": quick, "work": asdict(work), "load_average": busy}
    settings = _describe_loading(lm, machine) | asked
    if json:
        print(format_json({**_describe_origin(lm), **settings, **results, "samples": samples, "machine": machine}))
    else:
        _show(lm, settings, machine, list(_build_lines(results, samples)))


def _describe_loading(lm: "LM", machine: dict[str, Any]) -> dict[str, Any]:
    """The backend, precision and threads that are really used: numpy chooses its threads itself."""
    threads = None if lm.model.backend == "numpy" else machine["threads"]
    return {"backend": lm.model.backend, "precision": lm.model.precision, "threads": threads}


def _describe_origin(lm: "LM") -> dict[str, Any]:
    from nextok import __version__

    versions = {"nextok": __version__, "python": platform.python_version()}
    date = datetime.now().astimezone().isoformat(timespec="seconds")
    return {"date": date, "model": lm.name, "origin": lm.origin, "versions": versions}


def _build_lines(results: dict[str, Any], samples: dict[str, list[float]]) -> Iterator[Line]:
    """The lines of the table, first of the machine, then of the model."""
    limit, read = results["limit_tokens_per_second"], results["bytes_per_token"]

    def make_line(name: str, figure: str, unit: str, *, meaning: str = "", scale: float = 1) -> Line:
        low, middle, high = _format_spread([scale * value for value in samples[figure]])
        return name, f"{middle} {unit}", meaning, f"{low} to {high}" if len(samples[figure]) > 1 else ""

    yield make_line("memory bandwidth", "bandwidth", "GB/s")
    yield "weights of a token", format_size(read) if read else "unknown", "", ""
    yield "limit of one text", f"{_format_number(limit)} tokens/s" if limit else "unknown", "bandwidth / weights", ""
    one = results["greedy"][0]["tokens_per_second"]
    for each in results["greedy"]:
        texts, speed = each["texts"], each["tokens_per_second"]
        share = f"{results['share_of_limit']:.0%} of the limit" if limit else ""
        meaning = share if texts == 1 else f"{speed / one:.2f} x one text"
        yield make_line(f"greedy, {_format_count(texts, 'text')}", f"greedy {texts}", "tokens/s", meaning=meaning)
    yield make_line(f"beam search, width {results['beam']['width']}", "beam", "steps/s")
    for each in results["passes"]:
        rows, meaning = each["rows"], f"{each['ratio_to_one_row']:.2f} x one row"
        meaning = "" if rows == 1 else meaning
        yield make_line(f"pass of {_format_count(rows, 'row')}", f"pass {rows}", "ms", meaning=meaning, scale=1000)
    yield make_line(f"prompt of {_format_count(results['prefill']['tokens'], 'token')}", "prefill", "tokens/s")
    yield make_line("loading", "load", "s")
    yield make_line("start to first token", "first token", "s")
    peak = results["peak_memory_bytes"]
    yield "memory at the peak", format_size(peak) if peak else "unknown", "", ""


def _format_spread(values: list[float]) -> list[str]:
    """The smallest value, the median and the largest value, with three digits."""
    import statistics

    return [_format_number(value) for value in (min(values), statistics.median(values), max(values))]


def _format_number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _format_count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _show(lm: "LM", settings: dict[str, Any], machine: dict[str, Any], lines: list[Line]) -> None:
    from rich.table import Table
    from rich.text import Text

    title = f"{lm.name} · {settings['backend']}, {settings['precision']}"
    if settings["threads"]:
        title += f" · {_format_count(settings['threads'], 'thread')}"
    several = settings["rounds"] > 1
    table = Table("", box=None, pad_edge=False, header_style="dim")
    table.add_column(f"median of {settings['rounds']}" if several else "one round", justify="right", no_wrap=True)
    table.add_column("")
    table.add_column("lowest to highest" if several else "", justify="right", style="dim", no_wrap=True)
    for name, median, meaning, spread in lines:
        table.add_row(name, Text(median, "bold"), meaning, spread)
    out = make_console(sys.stdout)
    out.print(Text(escape_controls(title), "bold"))
    about = f"{machine['processor']} · {_format_count(machine['cores'], 'core')}"
    if settings["load_average"] is not None:
        about += f" · load {settings['load_average']:.1f} before"
    out.print(Text(escape_controls(about), "dim"))
    out.print(table)
