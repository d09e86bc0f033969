"""The options that make a strategy, and which of them go together."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, Literal

from nextok.cli.flags import DraftName, flag, option
from nextok.cli.sampling import FILTERS, SamplingFlags

if TYPE_CHECKING:
    from nextok.drafts.base import Draft
    from nextok.lm import LM
    from nextok.strategies.base import Strategy

BEAMS, DRAFTS = "Beams", "Drafts"


@dataclass(frozen=True, slots=True)
class StrategyFlags(SamplingFlags):
    """How the text is found."""

    num_beams: Annotated[
        int | None, option("--num-beams", metavar="N", text="Beam search of this width.", panel=BEAMS)
    ] = None
    length_penalty: Annotated[
        float | None, option("--length-penalty", metavar="X", text="Above 0 favours long texts.", panel=BEAMS)
    ] = None
    early_stopping: Annotated[
        Literal["true", "false", "never"] | None,
        option("--early-stopping", metavar="WHEN", text="true, false or never.", panel=BEAMS),
    ] = None
    patience: Annotated[
        float | None, option("--patience", metavar="X", text="Wait for X times as many endings.", panel=BEAMS)
    ] = None
    beam_groups: Annotated[
        int | None, option("--beam-groups", metavar="G", text="Groups of beams that avoid each other.", panel=BEAMS)
    ] = None
    diversity: Annotated[
        float | None, option("--diversity", metavar="X", text="How strongly the groups do.", panel=BEAMS)
    ] = None
    stochastic_beams: Annotated[
        int | None, option("--stochastic-beams", metavar="N", text="Draw N different texts.", panel=BEAMS)
    ] = None
    draft: DraftName = None
    max_draft: Annotated[
        int | None, option("--max-draft", metavar="N", text="Draft at most this many tokens.", panel=DRAFTS)
    ] = None

    @property
    def searches(self) -> bool:
        """Whether several texts are the best ones of a search, and not samples."""
        return self.num_beams is not None or self.stochastic_beams is not None

    def strategy(self, samples: int, load: Callable[[str], "LM"]) -> "Strategy":
        """The strategy of these options; ValueError if they contradict each other. `load` is for a draft model."""
        from nextok.strategies.speculate import Speculate

        self._refuse_contradictions(samples)
        if self.searches:
            return self._search(samples)
        sampling = self.sampling(samples)
        if self.draft is None:
            return sampling
        return Speculate(draft_named(self.draft, 10 if self.max_draft is None else self.max_draft, load), sampling)

    def _search(self, samples: int) -> "Strategy":
        from nextok.strategies.beam.beam import Beam
        from nextok.strategies.beam.diverse import DiverseBeam
        from nextok.strategies.beam.stochastic import StochasticBeam
        from nextok.strategies.sample import Greedy

        if self.stochastic_beams is not None:
            try:
                return StochasticBeam(self.stochastic_beams, self.sampling(2))  # never greedy
            except ValueError as error:
                raise ValueError(f"--stochastic-beams {self.stochastic_beams}: {error}") from None
        sampling, stopping = self.sampling(1), {None: None, "true": True, "false": False, "never": "never"}
        wanted = {
            "length_penalty": self.length_penalty,
            "early_stopping": stopping[self.early_stopping],
            "n": samples if samples > 1 else None,
            "patience": self.patience,
            "sampling": None if sampling == Greedy() else sampling,
        }
        given: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}
        width = self.num_beams or 0
        if self.beam_groups is None:
            return Beam(width, **given)
        return DiverseBeam(width, self.beam_groups, self.diversity or 0.0, **given)

    def _refuse_contradictions(self, samples: int) -> None:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        given = {name for name, value in values.items() if value is not None and value is not False}
        for one, others in _CONTRADICTIONS.items():
            for other in others:
                if {one, other} <= given:
                    raise ValueError(f"{flag(one)} and {flag(other)} contradict each other: leave one of them out")
        for one, needed, advice in _NEEDS:
            if one in given and needed not in given:
                raise ValueError(f"{flag(one)} means nothing without {flag(needed)}: add {advice}, or leave it out")
        if self.greedy and samples > 1:
            raise ValueError(f"--greedy and -n {samples} give the same text {samples} times: leave one of them out")
        if self.num_beams is not None and 1 <= self.num_beams < samples:
            raise ValueError(f"-n {samples} is more than --num-beams {self.num_beams} can give: make them equal")
        if self.stochastic_beams is not None and samples > 1:
            raise ValueError(f"-n {samples} and --stochastic-beams contradict each other: leave -n out")


_CONTRADICTIONS = {
    "greedy": (*sorted(FILTERS), "num_beams", "stochastic_beams"),
    "num_beams": ("stochastic_beams", "draft"),
    "stochastic_beams": ("draft",),
    "beam_groups": (*sorted(FILTERS), "seed"),
    "dynamic_temperature": ("temperature",),
}
_NEEDS = (
    *((name, "num_beams", "--num-beams 4") for name in ("length_penalty", "early_stopping", "patience")),
    *((name, "num_beams", "--num-beams 4") for name in ("beam_groups", "diversity")),
    ("beam_groups", "diversity", "--diversity 1"),
    ("diversity", "beam_groups", "--beam-groups 2"),
    ("max_draft", "draft", "--draft prompt-lookup"),
)


def draft_named(name: str, max_draft: int, load: Callable[[str], "LM"]) -> "Draft":
    """The draft that `--draft` names: prompt-lookup, a model to be loaded, or both, with a comma between them."""
    from nextok.drafts.base import check_max_draft
    from nextok.drafts.draft_model import DraftModel
    from nextok.drafts.prompt_lookup import PromptLookup
    from nextok.drafts.several import Drafts
    from nextok.errors import ModelNotFoundError

    first, comma, rest = name.partition(",")
    if first == "prompt-lookup" and not comma:
        return PromptLookup(max_draft)
    if first == "prompt-lookup":
        return Drafts(PromptLookup(max_draft), draft_named(rest, max_draft, load))
    check_max_draft(max_draft)
    try:
        return DraftModel(load(name), max_draft)
    except ModelNotFoundError as error:
        raise ModelNotFoundError(f"--draft takes prompt-lookup or a model: {error}") from None
