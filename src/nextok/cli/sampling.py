"""The options that say how the next token is chosen: how the scores are shaped, and whether one is drawn.

Most of them are made from the fields of Greedy and Sample, which hold their words.
"""

from dataclasses import Field, dataclass, fields, make_dataclass
from typing import TYPE_CHECKING, Annotated, Any

from nextok.cli.flags import SAMPLING, Seed, flag, made, option
from nextok.strategies.sample import Greedy, Sample
from nextok.strategies.settings import Setting, settings_of

PENALTIES = "Penalties (of any strategy)"


def _options(kind: Any) -> dict[str, tuple[Field[Any], Setting]]:
    """The fields of a class that have an option, by the option's name."""
    return {how.option or each.name: (each, how) for each, how in settings_of(kind) if how.metavar}


_ALL = _options(Sample)
_PENALTIES = _options(Greedy)
FILTERS = _ALL.keys() - _PENALTIES.keys()
"""Only sampling has them; the penalties go with everything."""


def _declared(name: str, panel: str) -> tuple[str, Any, Any]:
    """A field of the options: its name, its type with the option's words, and None as its default."""
    each, how = _ALL[name]
    kind: Any = str if how.numbers else each.type
    return name, Annotated[kind | None, option(flag(name), metavar=how.metavar, text=how.text, panel=panel)], None


if TYPE_CHECKING:

    @dataclass(frozen=True, slots=True)
    class _Options:
        greedy: bool = False
        seed: int | None = None

else:
    _GREEDY = option("--greedy", text="Always the most probable token.", panel=SAMPLING)
    _Options = make_dataclass(
        "_Options",
        [
            ("greedy", Annotated[bool, _GREEDY], False),
            *(_declared(name, SAMPLING) for name in _ALL if name in FILTERS),
            ("seed", Seed, None),
            *(_declared(name, PENALTIES) for name in _PENALTIES),
        ],
        frozen=True,
        slots=True,
    )


@dataclass(frozen=True, slots=True)
class SamplingFlags(_Options):
    """How the next token is chosen. A filter, or a seed, means sampling."""

    def sampling(self, samples: int) -> Greedy | Sample:
        """Greedy decoding or sampling, with what shapes the scores; ValueError for a value out of range."""
        options = {each.name: getattr(self, each.name) for each in fields(SamplingFlags) if each.name in _ALL}
        given = {name: value for name, value in options.items() if value is not None}
        settings = {_ALL[name][0].name: _value(name, value) for name, value in given.items()}
        if self.greedy or not (self.seed is not None or samples > 1 or FILTERS & given.keys()):
            return Greedy(**settings)
        return Sample(**settings)


def _value(name: str, value: Any) -> Any:
    """What the field of an option takes: the number itself, or the record of several."""
    how = _ALL[name][1]
    return made(flag(name), how.record, value, how.numbers) if how.numbers else value
