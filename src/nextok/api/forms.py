"""The form that a text must have, as requests spell it."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from nextok.api.errors import ApiError
from nextok.api.fields import Values, show
from nextok.grammar.grammar import Grammar

FORMS = ("response_format", "structured_outputs", "json_schema", "grammar")
"""Fields that ask for a form."""
TYPES = {"text": (), "json_object": (), "json_schema": ("name", "description", "schema", "strict")}
"""The types of a response_format, and the members of the object that stands beside a type under its own name."""


def read_form(values: Values) -> Grammar | None:
    """The form that the text must have, if it must; ValueError if it is wrong, before anything runs."""
    forms: dict[str, Grammar] = {}
    if "response_format" in values:
        _add(forms, "response_format", _read_format(values["response_format"], values))
    if "structured_outputs" in values:
        _add(forms, "structured_outputs", _read_structure(values["structured_outputs"]))
    if "json_schema" in values:
        _add(forms, "json_schema", Grammar.json_schema(values["json_schema"]))
    if "grammar" in values:
        _add(forms, "grammar", Grammar.gbnf(values["grammar"]))
    return next(iter(forms.values()), None)


def _add(forms: dict[str, Grammar], name: str, form: Grammar | None) -> None:
    """Note a form that was asked for; ApiError if there is another one."""
    if form is None:
        return
    if forms:
        line = f"{next(iter(forms))} and {name} contradict each other: leave one of them out"
        raise ApiError(400, line, name)
    forms[name] = form


def _read_format(form: Mapping[str, Any], values: Values) -> Grammar | None:
    kind = form.get("type")
    if kind not in TYPES:
        line = f"the type of a response_format must be one of {', '.join(TYPES)}, got {show(kind)}"
        raise ApiError(400, line, "response_format")
    inner = form.get(kind, {})
    if not isinstance(inner, dict):
        raise ApiError(400, f"{kind} of a response_format must be an object, got {show(inner)}", "response_format")
    for name in form:
        if name not in ("type", kind):
            values.ignore(f"response_format.{name}", "means nothing beside its type")
    for name in inner:
        if name not in TYPES[kind]:
            values.ignore(f"response_format.{kind}.{name}", "means nothing")
    if kind == "text":
        return None
    if kind == "json_object":
        return Grammar.json_schema({"type": "object"})
    schema = inner.get("schema")
    if not isinstance(schema, dict | bool):
        raise ApiError(400, 'response_format needs {"json_schema": {"schema": {...}}}', "response_format")
    return Grammar.json_schema(schema)


def _read_structure(outputs: Mapping[str, Any]) -> Grammar | None:
    given = {name: value for name, value in outputs.items() if value is not None}
    if len(given) != 1 or not given.keys() <= STRUCTURES.keys():
        raise ApiError(400, f"structured_outputs takes one of {', '.join(STRUCTURES)}", "structured_outputs")
    [(name, value)] = given.items()
    try:
        return STRUCTURES[name](value)
    except TypeError:
        line = f"{name} of structured_outputs has a value of the wrong kind, got {show(value)}"
        raise ApiError(400, line, "structured_outputs") from None


def _read_schema(value: Any) -> Grammar:
    return Grammar.json_schema(value if isinstance(value, str) else json.dumps(value))


def _read_choices(value: Any) -> Grammar:
    return Grammar.choices(value if isinstance(value, list) else ())


def _read_any_object(value: Any) -> Grammar | None:
    if type(value) is not bool:
        line = f"json_object of structured_outputs must be true or false, got {show(value)}"
        raise ApiError(400, line, "structured_outputs")
    return Grammar.json_schema({"type": "object"}) if value else None


def _read_grammar(value: Any) -> Grammar:
    """GBNF, whose rules are written with ::=, or Lark."""
    return Grammar.gbnf(value) if isinstance(value, str) and "::=" in value else Grammar.lark(value)


STRUCTURES: dict[str, Callable[[Any], Grammar | None]] = {
    "json": _read_schema,
    "regex": Grammar.regex,
    "choice": _read_choices,
    "grammar": _read_grammar,
    "json_object": _read_any_object,
}
"""The members of structured_outputs."""
