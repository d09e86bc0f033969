"""How a request is decoded: its strategy, and the options that the library takes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nextok.api.decoders import count_rows, read_decoder
from nextok.api.errors import ApiError
from nextok.api.fields import Values, show
from nextok.api.forms import read_form
from nextok.api.served import Served
from nextok.generation.options import GenerateOptions
from nextok.sampling.penalties import DRY, Mirostat
from nextok.sampling.transforms import XTC, DynamicTemperature
from nextok.strategies.base import Strategy, facts_of
from nextok.strategies.beam.beam import Beam
from nextok.strategies.sample import Greedy, Sample
from nextok.strategies.speculate import Speculate

PENALTIES = ("repetition_penalty", "presence_penalty", "frequency_penalty")
DRY_FIELDS = ("dry_multiplier", "dry_base", "dry_allowed_length", "dry_penalty_last_n", "dry_sequence_breakers")
REMOVES_NOTHING = {"top_p": (1,), "top_k": (0, -1), "min_p": (0,), "typical_p": (1,), "top_n_sigma": (0,)}
"""The filters, and values with which each removes nothing."""
DRAWS = (
    *("temperature", *REMOVES_NOTHING, "xtc_probability", "xtc_threshold", "dynatemp_range", "dynatemp_exponent"),
    *("mirostat", "mirostat_tau", "mirostat_eta"),
)
"""Fields that shape a draw."""
CHANGE_NO_BEST = ("typical_p", "xtc_probability", "dynatemp_range", "mirostat")
"""Fields of a draw that could change its best token, where a filter such as top_p never does."""
BEAMS = ("use_beam_search", "length_penalty", "best_of")
OPTIONS = ("min_tokens", "stop", "stop_token_ids", "ignore_eos", "allowed_token_ids", "seed", "timeout")
"""Fields that are options of the library under the same name."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """`texts`: how many are returned of each prompt. `rows`: how many are written at once."""

    strategy: Strategy
    options: GenerateOptions
    texts: int
    rows: int


def read_decoding(values: Values, served: Served, alternatives: int | None) -> Decoding:
    """The strategy and options of a request; ApiError or ValueError if they contradict each other."""
    strategy = _add_draft(_read_strategy(values, served), values, served)
    found = facts_of(strategy).texts()  # 0, but of a search
    wanted = values.get("n", 1)
    samples = 1 if found else values.get("best_of", wanted)
    if samples < wanted and not found:
        raise ApiError(400, f"best_of must be at least n, which is {wanted}, got {samples}", "best_of")
    if samples > wanted and values.get("stream"):
        raise ApiError(400, "best_of above n cannot be streamed: the best text is known at the end", "best_of")
    options: Any = {name: values[name] for name in OPTIONS if name in values} | {"n": samples}
    if options.get("seed") == -1:
        del options["seed"]
    if "bad_words" in values:
        options["bad_words"] = _list_texts(values["bad_words"])
    if "logit_bias" in values:
        options["logit_bias"] = _read_bias(values["logit_bias"])
    if (form := read_form(values)) is not None:
        options["grammar"] = form
    _read_logprobs(values, options, alternatives, needed=samples > wanted)
    return Decoding(strategy, options, found or wanted, samples * count_rows(strategy))


def _read_logprobs(values: Values, options: Any, alternatives: int | None, needed: bool) -> None:
    """What the library has to report: for the answer, or to find the best of several texts."""
    of_prompt = values.get("prompt_logprobs")
    if of_prompt is not None and values.get("stream"):
        raise ApiError(400, "prompt_logprobs cannot be streamed: leave one of them out", "prompt_logprobs")
    options["prompt_logprobs"] = of_prompt is not None or bool(values.get("echo") and alternatives is not None)
    if alternatives is not None or of_prompt is not None or needed:
        options["logprobs"] = max(alternatives or 0, of_prompt or 0)


def _read_strategy(values: Values, served: Served) -> Strategy:
    if "decoder" in values:
        return _read_named(values)
    penalties: dict[str, Any] = {name: values[name] for name in PENALTIES if name in values}
    if (dry := _read_dry(values)) is not None:
        penalties["dry"] = dry
    if values.get("use_beam_search"):
        values.ignore_all(DRAWS, "means nothing beside use_beam_search")
        width, wanted = values.get("best_of", values.get("n", 1)), values.get("n", 1)
        penalty = float(values.get("length_penalty", 1.0))
        return Beam(width, n=wanted, length_penalty=penalty, sampling=Greedy(**penalties))
    values.ignore_all(("length_penalty",), "means nothing without use_beam_search")
    defaults = served.defaults
    if "repetition_penalty" in defaults:
        penalties.setdefault("repetition_penalty", defaults["repetition_penalty"])
    temperature = values.get("temperature", defaults.get("temperature", 1.0))
    if temperature == 0:
        values.ignore_all(CHANGE_NO_BEST, "means nothing at temperature 0")
        return Greedy(**penalties)
    return _read_sample(float(temperature), {**defaults, **values}, values, penalties)


def _read_named(values: Values) -> Strategy:
    strategy = read_decoder(values["decoder"])
    others = (*DRAWS, *PENALTIES, *DRY_FIELDS, *BEAMS, *(("n",) if facts_of(strategy).texts() else ()))
    for name in others:
        if name in values:
            raise ApiError(400, f"decoder and {name} contradict each other: write it as a field of decoder", name)
    return strategy


def _read_sample(
    temperature: float, settings: Mapping[str, Any], values: Values, penalties: dict[str, Any]
) -> Strategy:
    """A draw; `settings` are the values and, for those that are missing, the defaults."""
    given = {name: settings[name] for name in REMOVES_NOTHING if name in settings}
    shape: dict[str, Any] = {name: value for name, value in given.items() if value not in REMOVES_NOTHING[name]}
    if shape.get("top_p") == 0:
        del shape["top_p"]
        shape["top_k"] = 1  # nothing but the best token
    if settings.get("xtc_probability", 0) > 0:
        shape["xtc"] = XTC(settings["xtc_probability"], settings.get("xtc_threshold", 0.1))
    else:
        values.ignore_all(("xtc_threshold",), "means nothing without xtc_probability")
    if spread := settings.get("dynatemp_range", 0):
        low, high = max(temperature - spread, 1e-3), temperature + spread
        shape["dynamic_temperature"] = DynamicTemperature(low, high, settings.get("dynatemp_exponent", 1.0))
        temperature = 1.0  # the other one takes its place
    else:
        values.ignore_all(("dynatemp_exponent",), "means nothing without dynatemp_range")
    if version := settings.get("mirostat", 0):
        shape["mirostat"] = Mirostat(version, settings.get("mirostat_tau", 5.0), settings.get("mirostat_eta", 0.1))
    else:
        values.ignore_all(("mirostat_tau", "mirostat_eta"), "means nothing without mirostat")
    return Sample(temperature, **shape, **penalties)


def _read_dry(values: Values) -> DRY | None:
    if not values.get("dry_multiplier"):
        values.ignore_all(DRY_FIELDS[1:], "means nothing without dry_multiplier")
        return None
    window, breakers = values.get("dry_penalty_last_n", -1), values.get("dry_sequence_breakers")
    given = {
        "base": values.get("dry_base"),
        "allowed_length": values.get("dry_allowed_length"),
        "window": window if window > 0 else None,
        "breakers": None if breakers is None else tuple(_list_texts(breakers)),
    }
    known: Any = {name: value for name, value in given.items() if value is not None}
    return DRY(values["dry_multiplier"], **known)


def _add_draft(strategy: Strategy, values: Values, served: Served) -> Strategy:
    if "draft" not in values:
        return strategy
    name = values["draft"]
    if name not in served.drafts:
        known = f"it has {', '.join(served.drafts)}" if served.drafts else "it was started with none"
        raise ApiError(400, f"this server has no draft {show(name)}; {known}", "draft")
    if not isinstance(strategy, Greedy | Sample):
        raise ApiError(
            400, "a draft goes with greedy decoding and sampling, not with a search: leave it out", "draft"
        )
    return Speculate(served.drafts[name], strategy)


def _read_bias(given: Mapping[str, Any]) -> dict[int, float]:
    if len(given) > 1024:
        raise ApiError(400, f"logit_bias may name 1,024 tokens, got {len(given):,}", "logit_bias")
    bias = {}
    for token, value in given.items():
        if not (token.isascii() and token.isdecimal() and len(token) < 10):
            raise ApiError(400, f"logit_bias maps token ids to numbers, got the id {show(token)}", "logit_bias")
        if type(value) not in (int, float) or not -100 <= value <= 100:
            line = f"the logit_bias of token {token} must be from -100 to 100, got {show(value)}"
            raise ApiError(400, line, "logit_bias")
        bias[int(token)] = float(value)
    return bias


def _list_texts(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
