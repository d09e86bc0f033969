"""The fields of a request, as data: what each may hold, what it means, and on which routes it stands."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from nextok.api.errors import ApiError

CHAT, COMPLETION = "chat", "completion"
TOKENIZE, DETOKENIZE, TEMPLATE = "tokenize", "detokenize", "template"
BOTH = (CHAT, COMPLETION)
TURN = (CHAT, TOKENIZE, TEMPLATE)
MOST_ALTERNATIVES = 20
"""Largest number of alternatives that are told of a token."""
MOST_CHARACTERS = 1024
"""Longest stop string or forbidden word, in characters."""
MOST_NUMBER = 1 << 53
"""Largest whole number that JSON carries between all clients."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field. `least` and `most`: bounds of a number, or of the number of characters or items."""

    name: str
    kind: str  # one of KINDS
    meaning: str
    routes: tuple[str, ...] = BOTH
    least: float | None = None
    most: float | None = None
    aliases: tuple[str, ...] = ()

    def read(self, value: Any) -> Any:
        """The value, checked; ApiError (400) that names the field, the rule and the value."""
        check, rule = KINDS[self.kind]
        if not check(value, self.least, self.most):
            raise ApiError(400, f"{self.name} must be {rule}{self._say_bounds()}, got {show(value)}", self.name)
        return value

    def _say_bounds(self) -> str:
        if self.kind in ("flag", "object", "any"):
            return ""
        what = "" if self.kind in ("whole", "number") else " of size"
        least = "" if self.least is None else f" from {self.least:g}"
        return f",{what}{least} to {self.most:g}" if self.most is not None else f",{what}{least} up" if least else ""


def _is_whole(value: Any, least: float | None, most: float | None) -> bool:
    return (
        type(value) is int and (least is None or value >= least) and value <= (MOST_NUMBER if most is None else most)
    )


def _is_number(value: Any, least: float | None, most: float | None) -> bool:
    if type(value) is not int and (type(value) is not float or not isfinite(value)):
        return False  # of a whole number of hundreds of digits isfinite raises an error
    return (least is None or value >= least) and (most is None or value <= most)


def _has_size(value: Any, least: float | None, most: float | None) -> bool:
    return (least is None or len(value) >= least) and (most is None or len(value) <= most)


def _is_text(value: Any, least: float | None, most: float | None) -> bool:
    return isinstance(value, str) and _has_size(value, least, most) and _is_unicode(value)


def _is_unicode(text: str) -> bool:
    """Whether it is free of lone surrogates, which JSON can hold and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _are_texts(value: Any, least: float | None, most: float | None) -> bool:
    listed = [value] if isinstance(value, str) else value
    return (
        isinstance(listed, list)
        and _has_size(listed, least, most)
        and all(_is_text(each, 1, MOST_CHARACTERS) for each in listed)
    )


def _are_ids(value: Any, least: float | None, most: float | None) -> bool:
    return (
        isinstance(value, list) and _has_size(value, least, most) and all(_is_whole(each, 0, None) for each in value)
    )


KINDS: dict[str, tuple[Callable[[Any, float | None, float | None], bool], str]] = {
    "whole": (_is_whole, "a whole number"),
    "number": (_is_number, "a number"),
    "flag": (lambda value, least, most: type(value) is bool, "true or false"),
    "text": (_is_text, "a text"),
    "texts": (_are_texts, "a text or a list of texts, none of them empty"),
    "ids": (_are_ids, "a list of token ids"),
    "object": (lambda value, least, most: isinstance(value, dict), "an object"),
    "list": (lambda value, least, most: isinstance(value, list) and _has_size(value, least, most), "a list"),
    "any": (lambda value, least, most: True, "any value"),
}
"""How a value of each kind is checked, and the words for it."""

FIELDS = (
    Field("model", "text", "The name of the model; the server has one, and its drafts are no models.", most=512),
    Field("messages", "list", "The conversation.", TURN, 1, 10_000),
    Field("prompt", "any", "A text, token ids, or a list of these.", (COMPLETION,)),
    Field("prompt", "text", "A text.", (TOKENIZE,), most=1 << 20, aliases=("content",)),
    Field("tokens", "ids", "Token ids.", (DETOKENIZE,), 0, 1 << 20),
    Field("max_tokens", "whole", "Write at most so many.", BOTH, 0, aliases=("max_completion_tokens", "n_predict")),
    Field("min_tokens", "whole", "Nothing ends the text before so many tokens.", BOTH, 0),
    Field("temperature", "number", "0 is greedy; below 1 safer, above 1 wilder.", BOTH, 0, 2, ("temp",)),
    Field("top_p", "number", "Draw from the best tokens that hold this share.", BOTH, 0, 1),
    Field("top_k", "whole", "Draw from so many of the best; 0 and -1: from all.", BOTH, -1, 1 << 20),
    Field("min_p", "number", "Draw from tokens at least so probable, relative to the best.", BOTH, 0, 1),
    Field("typical_p", "number", "Draw from the most typical tokens that hold this share.", BOTH, 0, 1),
    Field("top_n_sigma", "number", "Draw from tokens within so many standard deviations of the best.", BOTH, 0, 100),
    Field("xtc_probability", "number", "How often the best choices are left out.", BOTH, 0, 1),
    Field("xtc_threshold", "number", "What they are: tokens at least so probable.", BOTH, 0, 1),
    Field("dynatemp_range", "number", "How far the temperature goes up and down.", BOTH, 0, 2),
    Field("dynatemp_exponent", "number", "How fast it does.", BOTH, 0, 10),
    Field("mirostat", "whole", "1 or 2: keep the surprise of the text near mirostat_tau.", BOTH, 0, 2),
    Field("mirostat_tau", "number", "Bits a token.", BOTH, 0, 100),
    Field("mirostat_eta", "number", "How fast mirostat learns.", BOTH, 0, 1),
    Field("repetition_penalty", "number", "Above 1: away from what occurred.", BOTH, 0.01, 100, ("repeat_penalty",)),
    Field("presence_penalty", "number", "Off the score of what was written.", BOTH, -2, 2),
    Field("frequency_penalty", "number", "Likewise, each time that it was.", BOTH, -2, 2),
    Field("dry_multiplier", "number", "Above 0: against repeated runs of tokens.", BOTH, 0, 100),
    Field("dry_base", "number", "How fast that grows with their length.", BOTH, 1, 100),
    Field("dry_allowed_length", "whole", "Repeated runs of this length cost nothing yet.", BOTH, 1, 1 << 20),
    Field("dry_penalty_last_n", "whole", "How far back they count; 0 and -1: all.", BOTH, -1, 1 << 20),
    Field("dry_sequence_breakers", "texts", "A run ends where one of these is.", BOTH, 0, 64),
    Field("seed", "whole", "The same seed gives the same text; -1: none.", BOTH, -(1 << 62), 1 << 62),
    Field("n", "whole", "How many texts.", BOTH, 1, 16),
    Field("best_of", "whole", "Write so many texts and return the n most probable ones.", (COMPLETION,), 1, 16),
    Field("stop", "texts", "The text ends before one of these.", BOTH, 0, 16),
    Field("stop_token_ids", "ids", "Tokens that end the text.", BOTH, 0, 1024),
    Field("ignore_eos", "flag", "The model's own end tokens end nothing."),
    Field("logit_bias", "object", "Token id -> what is added to its score, from -100 (never) to 100 (nearly only)."),
    Field("allowed_token_ids", "ids", "No other token is written.", BOTH, 1, 1 << 20),
    Field("bad_words", "texts", "Never written.", BOTH, 0, 128),
    Field("logprobs", "flag", "Tell the log-probability of each token.", (CHAT,)),
    Field("logprobs", "any", "Log-probabilities with 0 to 20 alternatives.", (COMPLETION,), aliases=("n_probs",)),
    Field("top_logprobs", "whole", "How many alternatives are told of each token.", (CHAT,), 0, MOST_ALTERNATIVES),
    Field("prompt_logprobs", "whole", "Those of the prompt, with so many alternatives.", BOTH, 0, MOST_ALTERNATIVES),
    Field("echo", "flag", "The text begins with the prompt.", (COMPLETION,)),
    Field("stream", "flag", "Send the text as it is written."),
    Field("stream_options", "object", "include_usage: the last chunk tells the numbers of tokens."),
    Field("response_format", "object", "text, json_object, or json_schema with a schema that the text fits."),
    Field("structured_outputs", "object", "One of json, regex, choice, grammar and json_object that the text fits."),
    Field("json_schema", "object", "A schema that the text fits."),
    Field("grammar", "text", "A grammar that the text fits, in GBNF.", BOTH, 1, 1 << 16),
    Field("use_beam_search", "flag", "Beam search of width n (or best_of)."),
    Field("length_penalty", "number", "Of a beam search: above 0 longer texts.", BOTH, -10, 10),
    Field("decoder", "object", "A strategy of nextok: its name, and its fields."),
    Field("draft", "text", "The draft of this name, given when the server started.", most=128),
    Field("return_token_ids", "flag", "Tell the token ids of prompt and text."),
    Field("tools", "list", "Functions that the model may call.", TURN, 0, 128),
    Field("tool_choice", "any", "auto, none, required, or the function to call.", TURN),
    Field("parallel_tool_calls", "flag", "A forced answer may have several calls.", TURN),
    Field("chat_template_kwargs", "object", "Variables of the chat template.", TURN),
    Field("continue_final_message", "flag", "The last message is begun; go on writing it.", TURN),
    Field("add_special_tokens", "flag", "A text begins as prompts do.", (TOKENIZE,), aliases=("add_special",)),
    Field("return_token_strs", "flag", "Tell each token as a text.", (TOKENIZE,)),
    Field("timeout", "number", "End the text after so many seconds.", BOTH, 0.001, 86_400),
)  # fmt: skip
"""Every field that changes an answer."""
NEEDED = {CHAT: ("messages",), TEMPLATE: ("messages",), COMPLETION: ("prompt",), DETOKENIZE: ("tokens",)}
"""Fields that a route cannot do without."""
TOKEN = {"type": "integer", "minimum": 0, "maximum": MOST_NUMBER}
DETAILS: dict[str, dict[str, Any]] = {
    "messages": {"items": {"type": "object", "required": ["role"], "properties": {"role": {"type": "string"}}}},
    "response_format": {
        "required": ["type"],
        "properties": {"type": {"enum": ["text", "json_object", "json_schema"]}},
    },
    "logit_bias": {"additionalProperties": {"type": "number", "minimum": -100, "maximum": 100}},
    "decoder": {"required": ["name"], "properties": {"name": {"type": "string"}}},
}
"""What the OpenAPI document tells of a field beside its kind and bounds."""
MOST_TOLD = 32
"""Largest number of fields without meaning that are told to a client."""


class Values(dict[str, Any]):
    """The fields of one request, checked, under our names.

    `ignored`: the names of those that change nothing, at most 32.
    """

    def __init__(self, strict: bool) -> None:
        super().__init__()
        self.strict = strict
        self.ignored: list[str] = []

    def ignore(self, name: str, why: str = "is no field of this route") -> None:
        """Note that this field changes nothing; ApiError (400) where that is refused."""
        if self.strict:
            line = f"{show(name)} {why}; this server was started with --strict"
            raise ApiError(400, line, name[:80])
        if len(self.ignored) < MOST_TOLD:
            self.ignored.append(name[:80])

    def ignore_all(self, names: Iterable[str], why: str) -> None:
        """The same for all of these that were given."""
        for name in names:
            if name in self:
                self.ignore(name, why)


def read_fields(body: Any, route: str, strict: bool) -> Values:
    """The known fields of a body; a null is a field that was left out.

    ApiError (400) for a wrong value, for a field given twice under two names, and with `strict` for one that changes
    nothing.
    """
    if not isinstance(body, Mapping):
        raise ApiError(400, f"the body must be a JSON object, got {show(body)}")
    known = {name: field for field in FIELDS if route in field.routes for name in (field.name, *field.aliases)}
    values = Values(strict)
    for name, value in body.items():
        if value is None:
            continue
        if name not in known:
            values.ignore(name)
        elif known[name].name in values:
            raise ApiError(400, f"{name} and {known[name].name} are the same field: leave one of them out", name)
        else:
            values[known[name].name] = known[name].read(value)
    for name in NEEDED.get(route, ()):
        if name not in values:
            raise ApiError(400, f"the body needs {name}", name)
    return values


def describe_fields(route: str) -> dict[str, Any]:
    """The fields of a route as a JSON schema, for the OpenAPI document."""
    properties = {
        field.name: _describe_value(field) | DETAILS.get(field.name, {}) | {"description": field.meaning}
        for field in FIELDS
        if route in field.routes
    }
    return {"type": "object", "properties": properties, "required": list(NEEDED.get(route, ()))}


def _describe_value(field: Field) -> dict[str, Any]:
    """What `read` checks, as a JSON schema."""

    def bound(least: str, most: str) -> dict[str, Any]:
        given = {least: field.least, most: field.most}
        return {name: limit for name, limit in given.items() if limit is not None}

    text = {"type": "string", "minLength": 1, "maxLength": MOST_CHARACTERS}
    items = bound("minItems", "maxItems")
    kinds: dict[str, dict[str, Any]] = {
        "whole": {"type": "integer", "maximum": MOST_NUMBER} | bound("minimum", "maximum"),
        "number": {"type": "number"} | bound("minimum", "maximum"),
        "flag": {"type": "boolean"},
        "text": {"type": "string"} | bound("minLength", "maxLength"),
        "texts": {"anyOf": [text, {"type": "array", "items": text} | items]},
        "ids": {"type": "array", "items": TOKEN} | items,
        "object": {"type": "object"},
        "list": {"type": "array", "items": {"type": "object"}} | items,
        "any": {},
    }
    return kinds[field.kind]


def show(value: Any) -> str:
    """A value of a client in one line of an error."""
    return " ".join(f"{value!r:.80}".split())
