"""The options that say how the next token is chosen: how the scores are shaped, and whether one is drawn."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated

from nextok.cli.flags import SAMPLING, Seed, flag, made, option

if TYPE_CHECKING:
    from nextok.strategies.sample import Greedy, Sample

PENALTIES = "Penalties (of any strategy)"
PARTS = {
    "dynamic_temperature": "LOW,HIGH[,EXPONENT]",
    "xtc": "P[,THRESHOLD]",
    "mirostat": "VERSION[,TAU,ETA]",
    "dry": "MULTIPLIER[,BASE,LENGTH]",
}
"""Options of several numbers, which have commas between them; those in brackets may be left out."""


@dataclass(frozen=True, slots=True)
class SamplingFlags:
    """How the next token is chosen. Any of the first ones, or a seed, means sampling."""

    greedy: Annotated[bool, option("--greedy", text="Always the most probable token.", panel=SAMPLING)] = False
    temperature: Annotated[
        float | None,
        option("--temperature", metavar="T", text="Sample; below 1 safer, above 1 wilder.", panel=SAMPLING),
    ] = None
    top_k: Annotated[int | None, option("--top-k", metavar="K", text="Sample among the K best.", panel=SAMPLING)] = (
        None
    )
    top_p: Annotated[
        float | None,
        option("--top-p", metavar="P", text="The best that hold P of the mass.", panel=SAMPLING),
    ] = None
    min_p: Annotated[
        float | None,
        option("--min-p", metavar="P", text="Those at least P times the best.", panel=SAMPLING),
    ] = None
    typical_p: Annotated[
        float | None,
        option("--typical-p", metavar="P", text="The most typical that hold P.", panel=SAMPLING),
    ] = None
    epsilon_cutoff: Annotated[
        float | None,
        option("--epsilon-cutoff", metavar="E", text="Those of probability E or more.", panel=SAMPLING),
    ] = None
    eta_cutoff: Annotated[
        float | None,
        option("--eta-cutoff", metavar="E", text="Likewise, but less where much is open.", panel=SAMPLING),
    ] = None
    top_n_sigma: Annotated[
        float | None,
        option("--top-n-sigma", metavar="N", text="Those within N sigma of the best.", panel=SAMPLING),
    ] = None
    xtc: Annotated[
        str | None,
        option("--xtc", metavar="P[,X]", text="Chance P to drop choices above X.", panel=SAMPLING),
    ] = None
    mirostat: Annotated[
        str | None,
        option("--mirostat", metavar="V[,T,E]", text="Surprise near T bits; V is 1 or 2.", panel=SAMPLING),
    ] = None
    dynamic_temperature: Annotated[
        str | None,
        option("--dynamic-temperature", metavar="L,H[,X]", text="From L where sure to H where not.", panel=SAMPLING),
    ] = None
    seed: Seed = None
    repetition_penalty: Annotated[
        float | None,
        option("--repetition-penalty", metavar="X", text="Above 1: away from what occurred.", panel=PENALTIES),
    ] = None
    presence_penalty: Annotated[
        float | None,
        option("--presence-penalty", metavar="X", text="Off the score of what was written.", panel=PENALTIES),
    ] = None
    frequency_penalty: Annotated[
        float | None,
        option("--frequency-penalty", metavar="X", text="Likewise, each time that it was.", panel=PENALTIES),
    ] = None
    no_repeat_ngram: Annotated[
        int | None,
        option("--no-repeat-ngram", metavar="N", text="No run of N tokens comes twice.", panel=PENALTIES),
    ] = None
    dry: Annotated[
        str | None,
        option("--dry", metavar="M[,B,L]", text="Against repeats: M * B ** (length - L).", panel=PENALTIES),
    ] = None

    def sampling(self, samples: int) -> "Greedy | Sample":
        """Greedy decoding or sampling, with what shapes the scores; ValueError for a value out of range."""
        from nextok.sampling.penalties import DRY, Mirostat
        from nextok.sampling.transforms import XTC, DynamicTemperature
        from nextok.strategies.sample import Greedy, Sample

        makers = {"dynamic_temperature": DynamicTemperature, "xtc": XTC, "mirostat": Mirostat, "dry": DRY}
        values = {field.name: getattr(self, field.name) for field in fields(SamplingFlags)}
        for name, make in makers.items():
            if values[name] is not None:
                values[name] = made(flag(name), make, values[name], PARTS[name])
        values["no_repeat_ngram_size"] = values.pop("no_repeat_ngram")
        given = {name: value for name, value in values.items() if value is not None}
        greedy, seed = given.pop("greedy"), given.pop("seed", None)
        if greedy or not (seed is not None or samples > 1 or FILTERS & given.keys()):
            return Greedy(**given)
        return Sample(**given)


FILTERS = {
    *("temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff", "top_n_sigma"),
    *("xtc", "mirostat", "dynamic_temperature"),
}
"""Only sampling has them; the penalties, all other fields but greedy and seed, go with everything."""
