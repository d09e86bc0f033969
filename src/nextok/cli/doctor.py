"""`nextok doctor`: is everything here, and does it tell the truth?"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nextok.cli.failures import FAILED, explained
from nextok.cli.flags import Json, Threads
from nextok.cli.loaded import loaded
from nextok.cli.machine import environment
from nextok.cli.models import size_text
from nextok.cli.terminal import console, json_text, visible
from nextok.errors import DownloadError

if TYPE_CHECKING:
    from rich.table import Table

    from nextok.lm import LM

TOKENS = 16
PROMPT = "One two three four. One two three four. One two three"
Name = Annotated[str, typer.Argument(metavar="MODEL", help="The model to check.", envvar="NEXTOK_MODEL")]


@dataclass(frozen=True, slots=True)
class Check:
    """One question to this installation; `passed` is None if it could not be asked."""

    name: str
    passed: bool | None
    detail: str


def doctor(model: Name = "smollm2", threads: Threads = None, json: Json = False) -> None:
    """Report the environment, then check a model that is here: its file, and that its strategies agree."""
    facts, checks = environment(threads), [_checked("model file", lambda: _file(model))]
    if checks[0].passed:
        checks += _agreements(model, threads)
    if json:
        print(json_text({"environment": facts, "model": model, "checks": [asdict(check) for check in checks]}))
    else:
        _show(facts, checks)
    if any(check.passed is False for check in checks):
        raise typer.Exit(FAILED)


def _checked(name: str, ask: Callable[[], tuple[bool | None, str]]) -> Check:
    """The answer to one question; that it could not be answered is a failure with its reason."""
    try:
        return Check(name, *ask())
    except Exception as error:
        return Check(name, False, explained(error)[1])


def _file(model: str) -> tuple[bool | None, str]:
    from nextok import hub
    from nextok.formats import open_model

    try:
        source = hub.resolve(model, offline=True)
    except DownloadError:
        return None, f"not fetched: nextok models pull {model}"
    known = {entry.name for entry in hub.list_models() if "/" not in entry.name}
    if model in known and source.name == model:
        hub.verify(model)
    open_model(source.path)
    return True, source.origin


def _agreements(model: str, threads: int | None) -> list[Check]:
    """What must hold of any model, on a few tokens."""
    import nextok as nt

    try:
        lm = loaded(model, threads=threads)
        greedy = lm.generate(PROMPT, max_tokens=TOKENS)
    except Exception as error:
        return [Check("model runs", False, explained(error)[1])]
    speed = f"{greedy.stats.tokens_per_second:.1f} tokens/s"

    def same(others: Callable[["LM"], list[list[int]]]) -> tuple[bool | None, str]:
        wrong = [tokens for tokens in others(lm) if tokens != greedy.tokens]
        return not wrong, f"{TOKENS} tokens" if not wrong else f"{wrong[0]} instead of {greedy.tokens}"

    def alone(strategy: Any) -> Callable[["LM"], list[list[int]]]:
        return lambda lm: [lm.generate(PROMPT, strategy, max_tokens=TOKENS).tokens]

    def crowd(lm: "LM") -> list[list[int]]:
        outputs = lm.generate([PROMPT, "Once upon a time", PROMPT, "def f(x):"], max_tokens=TOKENS)
        return [outputs[0].tokens, outputs[2].tokens]

    return [
        Check("model runs", True, speed),
        _checked("speculative = greedy", lambda: same(alone(nt.Speculate(nt.PromptLookup())))),
        _checked("beam of one = greedy", lambda: same(alone(nt.Beam(1)))),
        _checked("in a batch = alone", lambda: same(crowd)),
    ]


def _show(facts: dict[str, Any], checks: list[Check]) -> None:
    from rich.text import Text

    table = _grid()
    for key, value in facts.items():
        shown = size_text(value) if key.endswith("_bytes") and value is not None else value
        shown = " ".join(shown) if isinstance(shown, list) else "unknown" if shown is None else shown
        table.add_row(key.removesuffix("_bytes").replace("_", " "), Text(visible(str(shown))))
    for check in checks:
        mark = {True: Text("pass", "green"), False: Text("FAIL", "bold red"), None: Text("skip", "yellow")}
        table.add_row(check.name, mark[check.passed] + Text(f"  {visible(check.detail)}"))
    console().print(table)


def _grid() -> "Table":
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    return table
