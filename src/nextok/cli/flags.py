"""The options that several commands share, each written once."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from nextok.strategies.sample import Sample
from nextok.strategies.settings import settings_of

OUTPUT, TEXT, SAMPLING = "Output", "Text", "Sampling (greedy by default)"


def option(*names: str, metavar: str = " ", text: str, panel: str | None = None, envvar: str | None = None) -> Any:
    """An option for typer; one without a metavar is a switch."""
    return typer.Option(*names, metavar=metavar, help=text, rich_help_panel=panel, envvar=envvar)


def flag(name: str) -> str:
    """How a field's option is typed."""
    return "-n" if name == "n" else "--" + name.replace("_", "-")


def as_typed(message: str) -> str:
    """What the library says of an argument, said of the option that it was given by."""
    name = next((name for name in _TYPED if message.startswith(f"{name} must be ")), "")
    return _TYPED.get(name, "") + message.removeprefix(name)


def made(flag: str, make: Callable[..., Any], text: str, form: str) -> Any:
    """What `make` makes of the numbers of an option, which are separated by commas; `form` says which they are."""
    try:
        numbers = [int(word) if word.strip().lstrip("+-").isdecimal() else float(word) for word in text.split(",")]
    except ValueError:
        raise ValueError(f"{flag} takes {form}, numbers with commas between them, got {text!r:.60}") from None
    least, most = form.partition("[")[0].count(",") + 1, form.count(",") + 1
    if not least <= len(numbers) <= most:
        raise ValueError(f"{flag} takes {form}, got {len(numbers)} numbers in {text!r:.60}")
    try:
        return make(*numbers)
    except ValueError as error:
        raise ValueError(f"{flag} {text}: {error}") from None


ModelName = Annotated[
    str,
    typer.Option("--model", "-m", envvar="NEXTOK_MODEL", metavar="NAME", help="A known name, a path or a hub id."),
]
Threads = Annotated[
    int | None,
    typer.Option("--threads", envvar="NEXTOK_THREADS", metavar="N", help="Threads; by default one for each core."),
]
TokenizerName = Annotated[
    str | None,
    typer.Option("--tokenizer", metavar="PATH", help="Another tokenizer: a folder, a tokenizer.json, a GGUF file."),
]
System = Annotated[
    str | None, option("--system", metavar="TEXT", text="What the model is told before the conversation.")
]
Prompt = Annotated[
    list[str] | None,
    typer.Argument(metavar="PROMPT", help="The prompt; without it, or with -, it is read from a pipe."),
]
Json = Annotated[bool, option("--json", text="One JSON object on stdout instead.", panel=OUTPUT)]
Stats = Annotated[bool, option("--stats", text="Tokens, passes, drafts and times, on stderr.", panel=OUTPUT)]
Quiet = Annotated[bool, option("--quiet", "-q", text="Nothing on stderr but errors.", panel=OUTPUT)]
MaxTokens = Annotated[int, option("--max-tokens", metavar="N", text="Generate at most this many tokens.", panel=TEXT)]
Stop = Annotated[
    list[str] | None, option("--stop", metavar="TEXT", text="End before this text; may be repeated.", panel=TEXT)
]
Seed = Annotated[
    int | None, option("--seed", metavar="N", text="Sample; the same seed, the same text.", panel=SAMPLING)
]
DraftName = Annotated[
    str | None,
    option(
        "--draft",
        metavar="NAME",
        text="Speculate: prompt-lookup, a small model, or both (with a comma).",
        panel="Drafts",
    ),
]

_SAME_NAME = (
    *("max_tokens", "min_tokens", "logprobs", "seed", "n", "threads", "rounds", "context", "heads"),
    *("length_penalty", "patience", "diversity", "max_draft", "tools", "chat_template_kwargs"),
)
_TYPED = {
    **{name: flag(name) for name in _SAME_NAME},
    **{each.name: flag(how.option or each.name) for each, how in settings_of(Sample) if not how.numbers},
    "width": "--num-beams",
    "groups": "--beam-groups",
    "a bad word": "--bad-word",
    "a stop string": "--stop",
}
