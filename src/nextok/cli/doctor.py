"""`nextok doctor`: is everything here, and does it tell the truth?"""

import sys
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nextok.cli.failures import FAILED, explained
from nextok.cli.flags import Json, option
from nextok.cli.loaded import LoadFlags
from nextok.cli.terminal import console, json_text, passing, size_text, visible
from nextok.errors import DownloadError
from nextok.tools.machine import environment

if TYPE_CHECKING:
    from rich.console import Console

    from nextok.formats import Checkpoint
    from nextok.tools.laws import Verdict

Name = Annotated[str, typer.Argument(metavar="MODEL", help="The model to check.", envvar="NEXTOK_MODEL")]
Seconds = Annotated[float, option("--seconds", metavar="S", text="Spend about so many on the laws at most.")]
WIDTH = len("prompt in chunks = whole")


def doctor(how: LoadFlags, model: Name = "smollm2", seconds: Seconds = 60.0, json: Json = False) -> None:
    """Report the environment, then put a model that is here to the test: its file, and the laws of decoding."""
    if not seconds > 0:
        raise ValueError(f"--seconds must be above 0, got {seconds:g}; 60 is usual")
    facts = environment(how.threads)
    checks = _checks(model, how, seconds, facts["memory_available_bytes"])
    if json:
        done = list(checks)
        print(json_text({"environment": facts, "model": model, "checks": [_check_json(check) for check in done]}))
    else:
        done = _shown(facts, checks)
    if any(check.passed is False for check in done):
        raise typer.Exit(FAILED)


def _checks(model: str, how: LoadFlags, seconds: float, memory: int | None) -> "Iterator[Verdict]":
    from nextok.tools.laws import Verdict, reference_of, verdicts

    try:
        found = _file(model)
    except DownloadError:
        yield Verdict("model file", None, f"not fetched: nextok models pull {model}")
        return
    except Exception as error:
        yield Verdict("model file", False, explained(error)[1])
        return
    origin, checkpoint = found
    yield Verdict("model file", True, origin)
    try:
        lm = how.load(model)
    except Exception as error:
        yield Verdict("model runs", False, explained(error)[1])
        return
    compared = partial(reference_of, checkpoint, memory)
    is_reference = getattr(lm.model, "backend", None) == "numpy"
    precision = getattr(lm.model, "precision", how.precision)
    yield from verdicts(lm, precision, None if is_reference else compared, seconds, passing)


def _file(model: str) -> "tuple[str, Checkpoint]":
    """Where a model that is here came from, and its weights; a known one is hashed in full."""
    from nextok import hub
    from nextok.formats import open_model

    source = hub.resolve(model, offline=True)
    known = {entry.name for entry in hub.list_models() if "/" not in entry.name}
    if model in known and source.name == model:
        hub.verify(model)
    return source.origin, open_model(source.path)


def _check_json(check: "Verdict") -> dict[str, Any]:
    """A check; where two texts differ only if they do."""
    return {name: value for name, value in asdict(check).items() if name != "difference" or value is not None}


def _shown(facts: dict[str, Any], checks: "Iterator[Verdict]") -> "list[Verdict]":
    """The environment, then each check as soon as it is done."""
    out, done = console(sys.stdout), []
    shown = {key.removesuffix("_bytes").replace("_", " "): _in_words(key, value) for key, value in facts.items()}
    for key, value in shown.items():
        _line(out, key, value, "")
    for check in checks:
        done.append(check)
        _line(out, check.name, visible(check.detail), {True: "pass", False: "FAIL", None: "skip"}[check.passed])
    return done


def _in_words(key: str, value: Any) -> str:
    if value is None:
        return "unknown"
    if key.endswith("_bytes"):
        return size_text(value)
    return visible(" ".join(value) if isinstance(value, list) else str(value))


def _line(out: "Console", name: str, text: str, mark: str) -> None:
    """One line of a table that is drawn while it grows."""
    from rich.table import Table
    from rich.text import Text

    color = {"pass": "green", "FAIL": "bold red", "skip": "yellow"}
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim", no_wrap=True, width=WIDTH)
    table.add_column(overflow="fold")
    table.add_row(name, Text.assemble((mark, color.get(mark, "")), "  " * bool(mark), text))
    out.print(table)
