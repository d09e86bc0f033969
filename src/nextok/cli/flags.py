"""The options that several commands share, each written once, and what they mean together."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from nextok.drafts.base import Draft
    from nextok.lm import LM
    from nextok.options import Options
    from nextok.strategies.base import Strategy
    from nextok.strategies.sample import Greedy, Sample

_STRATEGY, _TEXT, _OUTPUT = "Strategy (greedy by default)", "Text", "Output"


def option(*names: str, metavar: str = " ", text: str, panel: str | None = None) -> Any:
    """An option for typer; one without a metavar is a switch."""
    return typer.Option(*names, metavar=metavar, help=text, rich_help_panel=panel)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def as_typed(message: str) -> str:
    """What the library says of an argument, said of the option that it was given by."""
    name = next((name for name in _TYPED if message.startswith(f"{name} must be ")), "")
    return _TYPED.get(name, "") + message.removeprefix(name)


ModelName = Annotated[
    str,
    typer.Option("--model", "-m", envvar="NEXTOK_MODEL", metavar="NAME", help="A known name, a path or a hub id."),
]
Threads = Annotated[
    int | None,
    typer.Option("--threads", envvar="NEXTOK_THREADS", metavar="N", help="Threads; by default one for each core."),
]
System = Annotated[
    str | None, option("--system", metavar="TEXT", text="What the model is told before the conversation.")
]
Prompt = Annotated[
    list[str] | None,
    typer.Argument(metavar="PROMPT", help="The prompt; without it, or with -, it is read from a pipe."),
]
Json = Annotated[bool, option("--json", text="One JSON object on stdout instead.", panel=_OUTPUT)]
Stats = Annotated[bool, option("--stats", text="Tokens, passes, drafts and times, on stderr.", panel=_OUTPUT)]
Quiet = Annotated[bool, option("--quiet", "-q", text="Nothing on stderr but errors.", panel=_OUTPUT)]
MaxTokens = Annotated[
    int, option("--max-tokens", metavar="N", text="Generate at most this many tokens.", panel=_TEXT)
]
Stop = Annotated[
    list[str] | None, option("--stop", metavar="TEXT", text="End before this text; may be repeated.", panel=_TEXT)
]
Seed = Annotated[
    int | None, option("--seed", metavar="N", text="Sample; the same seed gives the same text.", panel=_STRATEGY)
]
DraftName = Annotated[
    str | None,
    option("--draft", metavar="NAME", text="Speculate: prompt-lookup, or a small model.", panel=_STRATEGY),
]


@dataclass(frozen=True, slots=True)
class StrategyFlags:
    """How the next token is found. Any sampling option, a seed or several samples mean sampling."""

    greedy: Annotated[bool, option("--greedy", text="Always the most probable token.", panel=_STRATEGY)] = False
    temperature: Annotated[
        float | None,
        option("--temperature", metavar="T", text="Sample; below 1 safer, above 1 wilder.", panel=_STRATEGY),
    ] = None
    top_k: Annotated[int | None, option("--top-k", metavar="K", text="Sample among the K best.", panel=_STRATEGY)] = (
        None
    )
    top_p: Annotated[
        float | None,
        option("--top-p", metavar="P", text="Sample among the best that hold P of the mass.", panel=_STRATEGY),
    ] = None
    min_p: Annotated[
        float | None,
        option("--min-p", metavar="P", text="Sample among those at least P times the best.", panel=_STRATEGY),
    ] = None
    seed: Seed = None
    num_beams: Annotated[
        int | None, option("--num-beams", metavar="N", text="Beam search of this width.", panel=_STRATEGY)
    ] = None
    length_penalty: Annotated[
        float | None,
        option("--length-penalty", metavar="X", text="Beams: above 0 favours long texts.", panel=_STRATEGY),
    ] = None
    early_stopping: Annotated[
        Literal["true", "false", "never"] | None,
        option("--early-stopping", metavar="WHEN", text="Beams: true, false or never.", panel=_STRATEGY),
    ] = None
    draft: DraftName = None
    max_draft: Annotated[
        int | None,
        option("--max-draft", metavar="N", text="Draft at most this many tokens.", panel=_STRATEGY),
    ] = None

    def strategy(self, samples: int, load: Callable[[str], "LM"]) -> "Strategy":
        """The strategy of these options; ValueError if they contradict each other. `load` is for a draft model."""
        from nextok.strategies.beam import Beam
        from nextok.strategies.speculate import Speculate

        self._refuse_contradictions(samples)
        if self.num_beams is not None:
            penalty = 1.0 if self.length_penalty is None else self.length_penalty
            if self.early_stopping == "never":
                return Beam(self.num_beams, penalty, "never", samples)
            return Beam(self.num_beams, penalty, self.early_stopping == "true", samples)
        sampling = self._sampling(samples)
        if self.draft is None:
            return sampling
        return Speculate(draft_named(self.draft, 10 if self.max_draft is None else self.max_draft, load), sampling)

    def _sampling(self, samples: int) -> "Greedy | Sample":
        from nextok.strategies.sample import Greedy, Sample

        shaped = (self.temperature, self.top_k, self.top_p, self.min_p, self.seed) != (None,) * 5
        if self.greedy or not (shaped or samples > 1):
            return Greedy()
        temperature = 1.0 if self.temperature is None else self.temperature
        return Sample(temperature, self.top_k, self.top_p, self.min_p)

    def _refuse_contradictions(self, samples: int) -> None:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        given = {name for name, value in values.items() if value is not None and value is not False}
        for one, others in _CONTRADICTIONS.items():
            for other in others:
                if {one, other} <= given:
                    raise ValueError(f"{_flag(one)} and {_flag(other)} contradict each other: leave one of them out")
        for one, needed, advice in _NEEDS:
            if one in given and needed not in given:
                raise ValueError(f"{_flag(one)} means nothing without {_flag(needed)}: add {advice}, or leave it out")
        if self.greedy and samples > 1:
            raise ValueError(f"--greedy and -n {samples} give the same text {samples} times: leave one of them out")
        if self.num_beams is not None and 1 <= self.num_beams < samples:
            raise ValueError(f"-n {samples} is more than --num-beams {self.num_beams} can give: make them equal")


_CONTRADICTIONS = {
    "greedy": ("temperature", "top_k", "top_p", "min_p", "num_beams"),
    "num_beams": ("temperature", "top_k", "top_p", "min_p", "draft"),
}
_NEEDS = (
    ("length_penalty", "num_beams", "--num-beams 4"),
    ("early_stopping", "num_beams", "--num-beams 4"),
    ("max_draft", "draft", "--draft prompt-lookup"),
)
_TYPED = {
    **{name: _flag(name) for name in ("max_tokens", "min_tokens", "logprobs", "seed", "temperature", "top_k")},
    **{name: _flag(name) for name in ("top_p", "min_p", "length_penalty", "max_draft", "threads", "rounds")},
    "width": "--num-beams",
    "n": "-n",
    "a stop string": "--stop",
}


@dataclass(frozen=True, slots=True)
class TextFlags:
    """When the text ends, and how many of it there are."""

    max_tokens: MaxTokens = 256
    min_tokens: Annotated[int, option("--min-tokens", metavar="N", text="Do not stop before.", panel=_TEXT)] = 0
    stop: Stop = None
    ignore_eos: Annotated[bool, option("--ignore-eos", text="Go on after the model's end token.", panel=_TEXT)] = (
        False
    )
    n: Annotated[int, option("-n", metavar="N", text="Several samples, or the N best beams.", panel=_TEXT)] = 1
    logprobs: Annotated[
        int | None,
        option("--logprobs", metavar="N", text="Log-probabilities, with N alternatives.", panel=_TEXT),
    ] = None

    def options(self, strategy: StrategyFlags) -> "Options":
        """The library's options; ValueError if one is out of range."""
        from nextok.options import Options

        samples = self.n if strategy.num_beams is None else 1
        stops = tuple(self.stop or ())
        ignore, seed = self.ignore_eos, strategy.seed
        return Options(self.max_tokens, self.min_tokens, stops, (), ignore, seed, samples, self.logprobs)


def draft_named(name: str, max_draft: int, load: Callable[[str], "LM"]) -> "Draft":
    """The draft that `--draft` names: prompt-lookup, or a model to be loaded."""
    from nextok.drafts.base import checked_max_draft
    from nextok.drafts.draft_model import DraftModel
    from nextok.drafts.prompt_lookup import PromptLookup
    from nextok.errors import ModelNotFoundError

    if name == "prompt-lookup":
        return PromptLookup(max_draft)
    checked_max_draft(max_draft)
    try:
        return DraftModel(load(name), max_draft)
    except ModelNotFoundError as error:
        raise ModelNotFoundError(f"--draft takes prompt-lookup or a model: {error}") from None
