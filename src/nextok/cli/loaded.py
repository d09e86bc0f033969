"""Loading models for a command."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from nextok.cli.flags import Threads, TokenizerName, option

if TYPE_CHECKING:
    from nextok.lm import LM

PANEL = "Loading"


@dataclass(frozen=True, slots=True)
class LoadFlags:
    """How a command's models are loaded."""

    threads: Threads = None
    tokenizer: TokenizerName = None
    backend: Annotated[
        Literal["auto", "native", "numpy", "torch"],
        option("--backend", metavar="NAME", text="auto, native, numpy or torch.", panel=PANEL),
    ] = "auto"
    device: Annotated[
        str | None, option("--device", metavar="NAME", text="Of torch: cpu, cuda or cuda:N.", panel=PANEL)
    ] = None
    precision: Annotated[
        Literal["fast", "exact"],
        option("--precision", metavar="NAME", text="fast (int8; on a GPU bfloat16) or exact.", panel=PANEL),
    ] = "fast"

    context: Annotated[
        int | None,
        option("--context", metavar="N", text="Tokens of prompt and text; by default the model's own.", panel=PANEL),
    ] = None
    heads: Annotated[
        int | None, option("--heads", metavar="N", text="Heads of a .pth file that does not say it.", panel=PANEL)
    ] = None

    def load(self, model: str, *, quiet: bool = False, **further: Any) -> "LM":
        """The language model of this name, fetched first if need be; `quiet` hides the progress of both.

        `further`: options of `nextok.load` that are no flags of every command.
        """
        return _load(model, quiet, asdict(self) | further)

    def load_draft(self, model: str, *, quiet: bool = False) -> "LM":
        """Another one beside it, with its own tokenizer, context and heads."""
        return _load(model, quiet, asdict(self) | {"tokenizer": None, "context": None, "heads": None})


def _load(model: str, quiet: bool, options: dict[str, Any]) -> "LM":
    import nextok
    from nextok.cli.bar import show_progress
    from nextok.models.processors import check_threads

    check_threads(options["threads"])  # refused before anything is fetched
    with show_progress(quiet=quiet) as report:
        return nextok.load(model, **options, progress=report)
