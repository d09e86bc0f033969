"""The fields of a request to what the library takes: a strategy and its options."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nextok.drafts.base import Draft
from nextok.generation.options import GenerateOptions
from nextok.grammar.grammar import Grammar
from nextok.serve.errors import ApiError
from nextok.strategies.base import Strategy, facts_of
from nextok.strategies.beam.beam import Beam
from nextok.strategies.beam.diverse import DiverseBeam
from nextok.strategies.beam.stochastic import StochasticBeam
from nextok.strategies.sample import Greedy, Sample
from nextok.strategies.speculate import Speculate

DECODERS: dict[str, type[Strategy]] = {
    "greedy": Greedy,
    "sample": Sample,
    "beam": Beam,
    "diverse_beam": DiverseBeam,
    "stochastic_beam": StochasticBeam,
}
"""The strategies that `decoder` can name; their fields are those of the library."""
NOT_FROM_OUTSIDE = ("custom", "sampling")
"""Fields of strategies that hold code or other strategies."""
MOST_WIDTH = 32
"""Largest width of a beam search."""
DEFAULT_TEMPERATURE, DEFAULT_TOP_P = 1.0, 1.0
"""What a request that names neither is decoded with: OpenAI's defaults."""
COMPLETION_TOKENS = 16
"""OpenAI's default of max_tokens for /v1/completions; a chat goes on to the end of the context."""
SHAPING = ("repetition_penalty", "presence_penalty", "frequency_penalty")
FILTERS = {"top_p": 1, "min_p": 0, "typical_p": 1, "top_n_sigma": 0}
"""Filters, and the value with which each removes nothing."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """How a request is decoded, and how many texts are returned."""

    strategy: Strategy
    options: GenerateOptions
    texts: int  # how many are returned


def read_decoding(values: Mapping[str, Any], drafts: Mapping[str, Draft], logprobs: int | None) -> Decoding:
    """The strategy and options of a request; ApiError or ValueError if they contradict each other."""
    strategy = _read_strategy(values, drafts)
    wanted = values.get("n", 1)
    is_search = bool(facts_of(strategy).texts())
    samples = 1 if is_search else values.get("best_of", wanted)
    if samples < wanted and not is_search:
        raise ApiError(400, f"best_of must be at least n, which is {wanted}, got {samples}", "best_of")
    if samples > wanted and values.get("stream"):
        raise ApiError(400, "best_of above n cannot be streamed: the best text is known at the end", "best_of")
    names = (
        "min_tokens",
        "stop",
        "stop_token_ids",
        "ignore_eos",
        "allowed_token_ids",
        "bad_words",
        "seed",
        "timeout",
    )
    options: Any = {name: values[name] for name in names if name in values}
    if isinstance(options.get("bad_words"), str):
        options["bad_words"] = [options["bad_words"]]
    if "logit_bias" in values:
        options["logit_bias"] = _read_bias(values["logit_bias"])
    if (grammar := _read_grammar(values)) is not None:
        options["grammar"] = grammar
    if logprobs is not None or samples > wanted:
        options["logprobs"] = logprobs or 0
    options["n"] = samples
    return Decoding(strategy, options, facts_of(strategy).texts() or wanted)


def _read_strategy(values: Mapping[str, Any], drafts: Mapping[str, Draft]) -> Strategy:
    if "decoder" in values:
        return _add_draft(_read_decoder(values["decoder"], values), values, drafts)
    penalties = {name: values[name] for name in SHAPING if name in values}
    if values.get("use_beam_search"):
        width = values.get("best_of", values.get("n", 1))
        beam = Beam(
            width,
            n=values.get("n", 1),
            length_penalty=float(values.get("length_penalty", 1.0)),
            sampling=Greedy(**penalties),
        )
        return _add_draft(beam, values, drafts)
    if "length_penalty" in values:
        raise ApiError(400, "length_penalty means nothing without use_beam_search: true", "length_penalty")
    temperature = values.get("temperature", DEFAULT_TEMPERATURE)
    if temperature == 0:
        return _add_draft(Greedy(**penalties), values, drafts)
    filters = {name: values[name] for name, off in FILTERS.items() if values.get(name, off) != off}
    if values.get("top_k", 0) > 0:
        filters["top_k"] = values["top_k"]
    if filters.get("top_p") == 0:
        filters.pop("top_p")
        filters["top_k"] = 1  # nothing but the best token
    return _add_draft(Sample(float(temperature), **filters, **penalties), values, drafts)


def _read_decoder(given: Mapping[str, Any], values: Mapping[str, Any]) -> Strategy:
    """A strategy by its name and fields."""
    name = given.get("name")
    if not isinstance(name, str) or name not in DECODERS:
        raise ApiError(
            400, f"the name of a decoder must be one of {', '.join(DECODERS)}, got {name!r:.60}", "decoder"
        )
    contradiction = next(
        (each for each in (*FILTERS, *SHAPING, "temperature", "top_k", "use_beam_search") if each in values), None
    )
    if contradiction:
        raise ApiError(
            400, f"decoder and {contradiction} contradict each other: write it as a field of decoder", contradiction
        )
    kind = DECODERS[name]
    known = [each.name for each in dataclasses.fields(kind) if each.name not in NOT_FROM_OUTSIDE]  # type: ignore[arg-type]
    settings = {key: value for key, value in given.items() if key != "name"}
    for key, value in settings.items():
        if key not in known:
            raise ApiError(400, f"the decoder {name} has no field {key!r:.60}; it has {', '.join(known)}", "decoder")
        if isinstance(value, dict | list):
            raise ApiError(400, f"the field {key} of a decoder must be a number, a text or true or false", "decoder")
    if settings.get("width", 0) and type(settings["width"]) is int and settings["width"] > MOST_WIDTH:
        raise ApiError(
            400, f"the width of a decoder must be at most {MOST_WIDTH}, got {settings['width']}", "decoder"
        )
    try:
        return kind(**settings)
    except (ValueError, TypeError) as error:
        raise ApiError(400, f"the decoder {name} cannot be used: {error}", "decoder") from None


def _add_draft(strategy: Strategy, values: Mapping[str, Any], drafts: Mapping[str, Draft]) -> Strategy:
    if "draft" not in values:
        return strategy
    name = values["draft"]
    if name not in drafts:
        known = f"it has {', '.join(drafts)}" if drafts else "it was started with none"
        raise ApiError(400, f"this server has no draft {name!r:.60}; {known}", "draft")
    if not isinstance(strategy, Greedy | Sample):
        raise ApiError(
            400, "a draft goes with greedy decoding and sampling, not with a search: leave it out", "draft"
        )
    return Speculate(drafts[name], strategy)


def _read_bias(given: Mapping[str, Any]) -> dict[int, float]:
    if len(given) > 1024:
        raise ApiError(400, f"logit_bias may name 1,024 tokens, got {len(given):,}", "logit_bias")
    bias = {}
    for token, value in given.items():
        if not (token.isascii() and token.isdecimal() and len(token) < 10):
            raise ApiError(400, f"logit_bias maps token ids to numbers, got the id {token!r:.40}", "logit_bias")
        if type(value) not in (int, float) or not -100 <= value <= 100:
            raise ApiError(
                400, f"the logit_bias of token {token} must be from -100 to 100, got {value!r:.40}", "logit_bias"
            )
        bias[int(token)] = float(value)
    return bias


def _read_grammar(values: Mapping[str, Any]) -> Grammar | None:
    """The form that the text must have; ValueError if it is wrong, before anything runs."""
    form, outputs = values.get("response_format", {}), values.get("structured_outputs")
    kind = form.get("type", "text")
    if outputs is not None and kind != "text":
        raise ApiError(400, "response_format and structured_outputs contradict each other", "structured_outputs")
    if kind == "json_object":
        return Grammar.json_schema({"type": "object"})
    if kind == "json_schema":
        inner = form.get("json_schema")
        schema = inner.get("schema") if isinstance(inner, dict) else None
        if not isinstance(schema, dict | bool):
            raise ApiError(400, 'response_format needs {"json_schema": {"schema": {...}}}', "response_format")
        return Grammar.json_schema(schema)
    if kind != "text":
        known = "text, json_object or json_schema"
        raise ApiError(400, f"the type of a response_format must be {known}, got {kind!r:.60}", "response_format")
    return None if outputs is None else _read_structure(outputs)


def _read_structure(outputs: Mapping[str, Any]) -> Grammar:
    given = [name for name in ("json", "regex", "choice", "grammar", "json_object") if outputs.get(name) is not None]
    if len(given) != 1 or len(outputs) != 1:
        raise ApiError(
            400, "structured_outputs takes one of json, regex, choice, grammar and json_object", "structured_outputs"
        )
    value = outputs[given[0]]
    match given[0]:
        case "json":
            return Grammar.json_schema(value if isinstance(value, str) else json.dumps(value))
        case "json_object":
            return Grammar.json_schema({"type": "object"})
        case "choice":
            return Grammar.choices(value if isinstance(value, list) else ())
        case "regex":
            return Grammar.regex(value)
        case _:
            return Grammar.lark(value)
