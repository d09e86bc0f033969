"""`nextok doctor`: the environment, and whether a model's file and the laws of decoding are intact."""

import sys
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nextok.cli.failures import FAILED, explain
from nextok.cli.flags import Json, option
from nextok.cli.loaded import LoadFlags
from nextok.cli.terminal import escape_controls, format_json, format_size, make_console, show_activity
from nextok.errors import DownloadError
from nextok.tools.machine import describe_environment

if TYPE_CHECKING:
    from rich.console import Console

    from nextok.formats import Checkpoint
    from nextok.tools.laws import Verdict

Name = Annotated[str, typer.Argument(metavar="MODEL", help="The model to check.", envvar="NEXTOK_MODEL")]
Seconds = Annotated[float, option("--seconds", metavar="S", text="Spend about so many on the laws at most.")]
WIDTH = len("prompt in chunks = whole")
"""Number of columns of the names."""


def doctor(how: LoadFlags, model: Name = "smollm2", seconds: Seconds = 60.0, json: Json = False) -> None:
    """Report the environment, then check a model on this machine: its file, and the laws of decoding."""
    if not seconds > 0:
        raise ValueError(f"--seconds must be above 0, got {seconds:g}; 60 is usual")
    facts = describe_environment(how.threads)
    checks = _run_checks(model, how, seconds, facts["memory_available_bytes"])
    if json:
        done = list(checks)
        print(format_json({"environment": facts, "model": model, "checks": [_to_json(check) for check in done]}))
    else:
        done = _show(facts, checks)
    if any(check.passed is False for check in done):
        raise typer.Exit(FAILED)


def _run_checks(model: str, how: LoadFlags, seconds: float, memory: int | None) -> "Iterator[Verdict]":
    from nextok.tools.laws import Verdict, build_reference, check_laws

    try:
        found = _open_checked(model)
    except DownloadError:
        yield Verdict("model file", None, f"not fetched: nextok models pull {model}")
        return
    except Exception as error:
        yield Verdict("model file", False, explain(error)[1])
        return
    origin, checkpoint = found
    yield Verdict("model file", True, origin)
    try:
        lm = how.load(model)
    except Exception as error:
        yield Verdict("model runs", False, explain(error)[1])
        return
    compared = partial(build_reference, checkpoint, memory)
    is_reference = lm.model.backend == "numpy"
    yield from check_laws(lm, lm.model.precision, None if is_reference else compared, seconds, show_activity)


def _open_checked(model: str) -> "tuple[str, Checkpoint]":
    """The origin and the weights of a model that is on this machine; a known one is hashed in full."""
    from nextok import hub
    from nextok.formats import open_model

    source = hub.resolve(model, offline=True)
    known = {entry.name for entry in hub.list_models() if "/" not in entry.name}
    if model in known and source.name == model:
        hub.verify(model)
    return source.origin, open_model(source.path)


def _to_json(check: "Verdict") -> dict[str, Any]:
    """A check as a mapping, without `difference` where there is none."""
    return {name: value for name, value in asdict(check).items() if name != "difference" or value is not None}


def _show(facts: dict[str, Any], checks: "Iterator[Verdict]") -> "list[Verdict]":
    """The environment, then each check as soon as it is done."""
    out, done = make_console(sys.stdout), []
    shown = {key.removesuffix("_bytes").replace("_", " "): _format_value(key, value) for key, value in facts.items()}
    for key, value in shown.items():
        _print_line(out, key, value, "")
    for check in checks:
        done.append(check)
        _print_line(
            out, check.name, escape_controls(check.detail), {True: "pass", False: "FAIL", None: "skip"}[check.passed]
        )
    return done


def _format_value(key: str, value: Any) -> str:
    if value is None:
        return "unknown"
    if key.endswith("_bytes"):
        return format_size(value)
    return escape_controls(" ".join(value) if isinstance(value, list) else str(value))


def _print_line(out: "Console", name: str, text: str, mark: str) -> None:
    """Print one line of a table whose lines are printed as they come."""
    from rich.table import Table
    from rich.text import Text

    color = {"pass": "green", "FAIL": "bold red", "skip": "yellow"}
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim", no_wrap=True, width=WIDTH)
    table.add_column(overflow="fold")
    table.add_row(name, Text.assemble((mark, color.get(mark, "")), "  " * bool(mark), text))
    out.print(table)
