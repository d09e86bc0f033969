"""One token a step: the best one, or a draw from the distribution."""

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any, Protocol

from nextok.checks import check_flag, is_number
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
from nextok.sampling.sampler import Sampler, Transform
from nextok.sampling.transforms import (
    XTC,
    Custom,
    DynamicTemperature,
    Edit,
    EpsilonCutoff,
    EtaCutoff,
    Filter,
    MinP,
    Temperature,
    TopK,
    TopNSigma,
    TopP,
    TypicalP,
)
from nextok.strategies.base import Strategy


class Sampling(Protocol):
    """A way to choose one token from its scores."""

    @property
    def sampler(self) -> Sampler:
        """The transforms in order, and whether there is a draw."""
        ...


def checked_sampler(sampling: Sampling) -> Sampler:
    """The sampler of a way to choose tokens; ValueError if this is none."""
    if isinstance(sampling, type) or not hasattr(sampling, "sampler"):
        raise ValueError(f"sampling must be Greedy(...), Sample(...) or Chain(...), got {sampling!r}")
    return sampling.sampler


def _given(*wanted: tuple[Callable[[Any], Any], Any]) -> tuple[Transform, ...]:
    """The transforms whose value is given."""
    return tuple(make(value) for make, value in wanted if value is not None)


def _unless(neutral: float, value: Any) -> Any:
    """None for the number that changes nothing."""
    return None if is_number(value) and value == neutral else value


def _is(kind: type, name: str) -> Callable[[Any], Any]:
    """A value that is a transform already."""

    def checked(value: Any) -> Any:
        if not isinstance(value, kind):
            raise ValueError(f"{name} must be a {kind.__name__}(...), got {value!r}")
        return value

    return checked


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

    repetition_penalty: float | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    no_repeat_ngram_size: int | None = None
    dry: DRY | None = None
    custom: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        self.sampler  # noqa: B018  # the transforms check their own values

    def __repr__(self) -> str:
        given = ((each.name, getattr(self, each.name)) for each in fields(self))
        default = {each.name: each.default for each in fields(self)}
        shown = ", ".join(f"{name}={value!r}" for name, value in given if value != default[name])
        return f"{type(self).__name__}({shown})"

    @property
    def penalties(self) -> tuple[Transform, ...]:
        """Those that are set."""
        return _given(
            (RepetitionPenalty, _unless(1, self.repetition_penalty)),
            (PresencePenalty, _unless(0, self.presence_penalty)),
            (FrequencyPenalty, _unless(0, self.frequency_penalty)),
            (NoRepeatNGram, self.no_repeat_ngram_size),
            (_is(DRY, "dry"), self.dry),
            (Custom, self.custom),
        )

    @property
    def sampler(self) -> Sampler:
        """The penalties, and no noise."""
        return Sampler(self.penalties, noise=False)

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

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    _: KW_ONLY
    typical_p: float | None = None
    epsilon_cutoff: float | None = None
    eta_cutoff: float | None = None
    top_n_sigma: float | None = None
    xtc: XTC | None = None
    mirostat: Mirostat | None = None
    dynamic_temperature: DynamicTemperature | None = None

    @property
    def sampler(self) -> Sampler:
        """Penalties and filters that are set, then the draw."""
        dynamic = self.dynamic_temperature
        if dynamic is not None and self.temperature != 1:
            raise ValueError(
                f"temperature must be 1 beside a dynamic_temperature, got {self.temperature!r}: leave one of them out"
            )
        greedy = is_number(self.temperature) and self.temperature == 0
        temperature = () if greedy or dynamic is not None else (Temperature(self.temperature),)
        filters = _given(
            (_is(DynamicTemperature, "dynamic_temperature"), dynamic),
            (TopK, self.top_k),
            (TopP, self.top_p),
            (MinP, self.min_p),
            (TypicalP, self.typical_p),
            (EpsilonCutoff, self.epsilon_cutoff),
            (EtaCutoff, self.eta_cutoff),
            (TopNSigma, self.top_n_sigma),
            (_is(XTC, "xtc"), self.xtc),
            (_is(Mirostat, "mirostat"), self.mirostat),
        )
        return Sampler(self.penalties if greedy else (*self.penalties, *temperature, *filters), noise=not greedy)

    def decode(self, request: Request) -> Decoding[None]:
        """Draw tokens until the text ends."""
        return _decode(self.sampler, request)


@dataclass(frozen=True)
class Chain(Strategy):
    """Transforms in an order of your own, then a draw, or without `draw` the best token."""

    transforms: tuple[Transform, ...]
    draw: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.transforms, tuple | list):
            raise ValueError(f"transforms must be a tuple, as in Chain((TopK(5),)), got {self.transforms!r}")
        for each in self.transforms:
            if isinstance(each, type) or not (isinstance(each, Filter | Edit) or hasattr(each, "at")):
                raise ValueError(f"a transform must be one of TopK(...), Temperature(...) and so on, got {each!r}")
        check_flag("draw", self.draw)

    @property
    def sampler(self) -> Sampler:
        """The transforms as given."""
        return Sampler(tuple(self.transforms), noise=self.draw)

    def is_random(self) -> bool:
        """As it was given."""
        return self.draw

    def decode(self, request: Request) -> Decoding[None]:
        """Choose tokens until the text ends."""
        return _decode(self.sampler, request)
