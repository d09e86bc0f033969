"""One token a step: the best one, or a draw from the distribution."""

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any, Protocol

from nextok.checks import check_flag
from nextok.core.query import Decoding, pick
from nextok.core.request import Request
from nextok.sampling.penalties import (
    DRY,
    FrequencyPenalty,
    Mirostat,
    NoRepeatNGram,
    PresencePenalty,
    RepetitionPenalty,
)
from nextok.sampling.sampler import Foreign, LooksBack, Sampler, Transform
from nextok.sampling.transforms import (
    XTC,
    Custom,
    DynamicTemperature,
    EpsilonCutoff,
    EtaCutoff,
    MinP,
    Temperature,
    TopK,
    TopNSigma,
    TopP,
    TypicalP,
)
from nextok.strategies.base import Strategy
from nextok.strategies.settings import setting, transforms_of


class Sampling(Protocol):
    """A way to choose one token from its scores."""

    @property
    def sampler(self) -> Sampler:
        """The transforms in order, and whether there is a draw."""
        ...


def check_sampler(sampling: Sampling) -> Sampler:
    """The sampler of a way to choose tokens; ValueError if this is none."""
    if isinstance(sampling, type) or not hasattr(sampling, "sampler"):
        raise ValueError(f"sampling must be Greedy(...), Sample(...) or Chain(...), got {sampling!r}")
    return sampling.sampler


def _decode(sampler: Sampler, request: Request) -> Decoding[None]:
    while not request.finish_reason:
        picked = yield from pick([request.tip], sampler)
        yield from request.commit(picked.values())


@dataclass(frozen=True, kw_only=True, repr=False)
class _Shaped(Strategy):
    """What greedy decoding and sampling share: penalties, applied in this order; None is none.

    `repetition_penalty`, `no_repeat_ngram_size` and `dry` look at prompt and text, `presence_penalty` and
    `frequency_penalty` at the text alone. `custom` is your own function of a row of logits, or of a row and the
    tokens so far: see transforms.Custom.
    """

    repetition_penalty: float | None = setting(
        RepetitionPenalty, neutral=(None, 1), metavar="X", text="Above 1: away from what occurred."
    )
    presence_penalty: float = setting(
        PresencePenalty, 0.0, neutral=(None, 0), metavar="X", text="Off the score of what was written."
    )
    frequency_penalty: float = setting(
        FrequencyPenalty, 0.0, neutral=(None, 0), metavar="X", text="Likewise, each time that it was."
    )
    no_repeat_ngram_size: int | None = setting(
        NoRepeatNGram, metavar="N", text="No run of N tokens comes twice.", option="no_repeat_ngram"
    )
    dry: DRY | None = setting(
        DRY, numbers="MULTIPLIER[,BASE,LENGTH]", metavar="M[,B,L]", text="Against repeats: M * B ** (length - L)."
    )
    custom: Callable[..., Any] | None = setting(Custom)

    def __post_init__(self) -> None:
        self.sampler  # noqa: B018  # the transforms check their own values

    def __repr__(self) -> str:
        given = ((each.name, getattr(self, each.name)) for each in fields(self))
        default = {each.name: each.default for each in fields(self)}
        shown = ", ".join(f"{name}={value!r}" for name, value in given if value != default[name])
        return f"{type(self).__name__}({shown})"

    @property
    def sampler(self) -> Sampler:
        """The transforms that are set, and no noise."""
        return Sampler(tuple(transforms_of(self).values()), noise=False)

    def is_random(self) -> bool:
        """Where there is noise."""
        return self.sampler.noise


@dataclass(frozen=True, kw_only=True, repr=False)
class Greedy(_Shaped):
    """The most probable token at each step, after the penalties; the same text every time."""

    def decode(self, request: Request) -> Decoding[None]:
        """Take the best token until the text ends."""
        return _decode(self.sampler, request)


@dataclass(frozen=True, repr=False)
class Sample(_Shaped):
    """A draw from the model's distribution, shaped by penalties and then these filters in this order.

    Temperature 0 is greedy; a dynamic temperature takes the place of the temperature, which must then be 1. The
    draw depends on the request's seed, the position and the token alone, so it can be repeated anywhere.
    """

    temperature: float = setting(
        Temperature, 1.0, neutral=(0,), metavar="T", text="Sample; below 1 safer, above 1 wilder."
    )
    top_k: int | None = setting(TopK, metavar="K", text="Sample among the K best.")
    top_p: float | None = setting(TopP, metavar="P", text="The best that hold P of the mass.")
    min_p: float | None = setting(MinP, metavar="P", text="Those at least P times the best.")
    _: KW_ONLY
    typical_p: float | None = setting(TypicalP, metavar="P", text="The most typical that hold P.")
    epsilon_cutoff: float | None = setting(EpsilonCutoff, metavar="E", text="Those of probability E or more.")
    eta_cutoff: float | None = setting(EtaCutoff, metavar="E", text="Likewise, but less where much is open.")
    top_n_sigma: float | None = setting(TopNSigma, metavar="N", text="Those within N sigma of the best.")
    xtc: XTC | None = setting(XTC, numbers="P[,THRESHOLD]", metavar="P[,X]", text="Chance P to drop choices above X.")
    mirostat: Mirostat | None = setting(
        Mirostat, numbers="VERSION[,TAU,ETA]", metavar="V[,T,E]", text="Surprise near T bits; V is 1 or 2."
    )
    dynamic_temperature: DynamicTemperature | None = setting(
        DynamicTemperature,
        numbers="LOW,HIGH[,EXPONENT]",
        metavar="L,H[,X]",
        text="From L where sure to H where not.",
    )

    @property
    def sampler(self) -> Sampler:
        """Penalties and filters that are set, then the draw; at temperature 0 the penalties alone."""
        given = transforms_of(self)
        if "dynamic_temperature" in given:
            if self.temperature != 1:
                raise ValueError(
                    "temperature must be 1 beside a dynamic_temperature, "
                    f"got {self.temperature!r}: leave one of them out"
                )
            given["temperature"] = given.pop("dynamic_temperature")  # at the place of the temperature
        if "temperature" in given:
            return Sampler(tuple(given.values()))
        penalties = {each.name for each in fields(_Shaped)}
        return Sampler(tuple(each for name, each in given.items() if name in penalties), noise=False)

    def decode(self, request: Request) -> Decoding[None]:
        """Draw tokens until the text ends."""
        return _decode(self.sampler, request)


@dataclass(frozen=True)
class Chain(Strategy):
    """Transforms in an order of your own, then a draw, or without `draw` the best token."""

    transforms: tuple[Transform | LooksBack, ...]
    draw: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.transforms, tuple | list):
            raise ValueError(f"transforms must be a tuple, as in Chain((TopK(5),)), got {self.transforms!r}")
        for each in self.transforms:
            if isinstance(each, type) or not isinstance(each, LooksBack):
                raise ValueError(f"a transform must be one of TopK(...), Temperature(...) and so on, got {each!r}")
        check_flag("draw", self.draw)

    @property
    def sampler(self) -> Sampler:
        """The transforms as given."""
        given = tuple(each if isinstance(each, Transform) else Foreign(each) for each in self.transforms)
        return Sampler(given, noise=self.draw)

    def is_random(self) -> bool:
        """As it was given."""
        return self.draw

    def decode(self, request: Request) -> Decoding[None]:
        """Choose tokens until the text ends."""
        return _decode(self.sampler, request)
