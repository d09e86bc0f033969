"""What `nextok serve` and `nextok batch` share: a model as requests see it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from nextok.cli.flags import option
from nextok.cli.loaded import LoadFlags

if TYPE_CHECKING:
    from nextok.api.served import Served
    from nextok.drafts.base import Draft

PANEL = "Requests"
MOST_DRAFT = 10
"""Number of tokens that a draft guesses at most."""


@dataclass(frozen=True, slots=True)
class ServedFlags:
    """What the model is called, which drafts requests may name, and what decodes when they name nothing."""

    name: Annotated[
        str | None, option("--name", metavar="NAME", text="What requests call the model.", panel=PANEL)
    ] = None
    draft: Annotated[
        list[str] | None,
        option("--draft", metavar="NAME=MODEL", text="A draft that requests may name; may be repeated.", panel=PANEL),
    ] = None
    seats: Annotated[
        int, option("--seats", metavar="N", text="Texts that are written at once, beams counted.", panel=PANEL)
    ] = 32
    defaults: Annotated[
        Literal["model", "openai"],
        option(
            "--defaults",
            metavar="WHOSE",
            text="What requests that name nothing are decoded with: the model's settings, or openai's.",
            panel=PANEL,
        ),
    ] = "model"
    strict: Annotated[bool, option("--strict", text="Refuse fields that mean nothing here.", panel=PANEL)] = False

    def __post_init__(self) -> None:
        if not 1 <= self.seats <= 1024:
            raise ValueError(f"--seats must be from 1 to 1,024, got {self.seats}")

    def open(self, how: LoadFlags, model: str, *, quiet: bool, cache_memory: int = 0) -> "Served":
        """The model, loaded, as requests see it."""
        from nextok.api.served import OPENAI_DEFAULTS, Served

        lm = how.load(model, quiet=quiet, cache_memory=cache_memory, seats=self.seats)
        defaults = OPENAI_DEFAULTS | (lm.suggested if self.defaults == "model" else {})
        served = Served(lm, self.name or lm.name, self._load_drafts(how, quiet), defaults, self.strict)
        served.warm_up()
        return served

    def describe_defaults(self, served: "Served") -> str:
        """What decodes when a request names nothing, in words."""
        defaults = ", ".join(f"{name} {value:g}" for name, value in served.defaults.items())
        return defaults + (" (the model's)" if served.lm.suggested and self.defaults == "model" else "")

    def _load_drafts(self, how: LoadFlags, quiet: bool) -> "dict[str, Draft]":
        """The drafts that `--draft NAME=MODEL` names; NAME alone stands for both."""
        from nextok.cli.strategy import draft_named

        drafts = {}
        for each in self.draft or ():
            name, _, model = each.partition("=")
            if not name:
                raise ValueError(f"--draft takes NAME=MODEL, or prompt-lookup, got {each!r}")
            drafts[name] = draft_named(model or name, MOST_DRAFT, lambda other: how.load_draft(other, quiet=quiet))
        return drafts
