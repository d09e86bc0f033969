"""A strategy of the library, named by a request with the library's own fields."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from nextok.api.errors import ApiError
from nextok.api.fields import show
from nextok.strategies.base import Strategy
from nextok.strategies.beam.beam import Beam
from nextok.strategies.beam.diverse import DiverseBeam
from nextok.strategies.beam.stochastic import StochasticBeam
from nextok.strategies.sample import Greedy, Sample
from nextok.strategies.settings import settings_of

DECODERS: dict[str, type[Strategy]] = {
    "greedy": Greedy,
    "sample": Sample,
    "beam": Beam,
    "diverse_beam": DiverseBeam,
    "stochastic_beam": StochasticBeam,
}
"""The strategies that `decoder` can name."""
CODE = "custom"
"""The field that holds a function, which cannot come from outside."""
MOST_WIDTH = 32
"""Largest width of a beam search."""


def read_decoder(given: Mapping[str, Any]) -> Strategy:
    """A strategy by its name and fields; ApiError (400) that names what is wrong."""
    name = given.get("name")
    if not isinstance(name, str) or name not in DECODERS:
        line = f"the name of a decoder must be one of {', '.join(DECODERS)}, got {show(name)}"
        raise ApiError(400, line, "decoder")
    kind = DECODERS[name]
    known = [each.name for each in dataclasses.fields(kind) if each.name != CODE]  # type: ignore[arg-type]
    records = {each.name: setting.record for each, setting in settings_of(kind) if setting.numbers}
    settings: dict[str, Any] = {}
    for key, value in given.items():
        if key == "name":
            continue
        if key not in known:
            raise ApiError(400, f"the decoder {name} has no field {show(key)}; it has {', '.join(known)}", "decoder")
        settings[key] = _read_setting(name, key, value, records.get(key))
    if missing := [each for each in _list_needed(kind) if each not in settings]:
        raise ApiError(400, f"the decoder {name} needs {missing[0]}", "decoder")
    if type(width := settings.get("width")) is int and width > MOST_WIDTH:
        raise ApiError(400, f"the width of a decoder must be at most {MOST_WIDTH}, got {show(width)}", "decoder")
    try:
        return kind(**settings)
    except (ValueError, TypeError) as error:
        raise ApiError(400, f"the decoder {name} cannot be used: {error}", "decoder") from None


def count_rows(strategy: Strategy) -> int:
    """How many texts a strategy writes at once."""
    return strategy.width if isinstance(strategy, Beam | DiverseBeam | StochasticBeam) else 1


def _list_needed(kind: type[Any]) -> list[str]:
    return [
        each.name
        for each in dataclasses.fields(kind)
        if each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
    ]


def _read_setting(decoder: str, name: str, value: Any, record: type[Any] | None) -> Any:
    """The value of one field: plain, a record from its own fields, or the sampling of a search."""
    if not isinstance(value, dict | list):
        return value
    if name == "sampling" and isinstance(value, dict):
        sampling = read_decoder(value)
        if not isinstance(sampling, Greedy | Sample):
            raise ApiError(400, "the sampling of a decoder must be greedy or sample", "decoder")
        return sampling
    if record is None or not isinstance(value, dict):
        line = f"the field {name} of the decoder {decoder} must be a number, a text or true or false"
        raise ApiError(400, line, "decoder")
    fields = {key: tuple(each) if isinstance(each, list) else each for key, each in value.items()}
    try:
        return record(**fields)
    except (ValueError, TypeError) as error:
        raise ApiError(400, f"{name} of the decoder {decoder} cannot be used: {error}", "decoder") from None
