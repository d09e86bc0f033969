"""What a JSON schema may say: each keyword with the form of its value, and the keywords that are refused."""

import math
from collections.abc import Callable
from typing import Any

TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")
MOST_COUNT = 10_000
"""Largest value of minLength, minItems and minProperties."""

_COUNT = ("a whole number from 0 up", lambda value: _is_count(value))
_NUMBER = ("a number", lambda value: type(value) in (int, float))
_SCHEMA = ("a schema", lambda value: isinstance(value, dict | bool))
_SCHEMAS = ("a list of schemas, not empty", lambda value: _is_list(value, _SCHEMA[1]) and bool(value))
_SCHEMA_MAP = ("an object of schemas", lambda value: isinstance(value, dict) and all(map(_SCHEMA[1], value.values())))
_TEXT = ("a text", lambda value: isinstance(value, str))
_NAMES = ("a list of names", lambda value: _is_list(value, _TEXT[1]))

FORMS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "type": ("a type or a list of types", lambda value: isinstance(value, str) or _is_list(value, _TEXT[1])),
    "enum": ("a list", lambda value: isinstance(value, list)),
    "const": ("a value", lambda value: True),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _NUMBER),
    "multipleOf": ("a number above 0", lambda value: _NUMBER[1](value) and value > 0),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"), _COUNT),
    **dict.fromkeys(("minContains", "maxContains"), _COUNT),
    **dict.fromkeys(("pattern", "format", "$ref"), _TEXT),
    **dict.fromkeys(("allOf", "anyOf", "oneOf", "prefixItems"), _SCHEMAS),
    **dict.fromkeys(("items", "contains", "additionalProperties", "propertyNames", "not", "if", "then"), _SCHEMA),
    **dict.fromkeys(("else", "unevaluatedItems", "unevaluatedProperties"), _SCHEMA),
    **dict.fromkeys(("properties", "patternProperties", "dependentSchemas"), _SCHEMA_MAP),
    "required": _NAMES,
    "dependentRequired": (
        "an object of lists of names",
        lambda value: isinstance(value, dict) and all(map(_NAMES[1], value.values())),
    ),
    "uniqueItems": ("true or false", lambda value: isinstance(value, bool)),
}
_OLD = {
    "items": (list, "a list of items is draft 7; use prefixItems, and items for the rest"),
    "exclusiveMinimum": (bool, "true is draft 4; write the bound itself here, and leave out minimum"),
    "exclusiveMaximum": (bool, "true is draft 4; write the bound itself here, and leave out maximum"),
}
_REFUSED = {
    "$dynamicRef": "use $ref",
    "$recursiveRef": "use $ref",
    "additionalItems": "it is of draft 7; use prefixItems, and items for the rest",
    "dependencies": "it is of draft 7; use dependentRequired or dependentSchemas",
}


def refuse(where: str, reason: str) -> ValueError:
    """The error for what stands at this place of a schema, a JSON pointer."""
    return ValueError(f"the JSON schema cannot be kept: {where:.120}: {reason}")


def check_keywords(schema: dict[str, Any], where: str) -> None:
    """ValueError if a keyword is refused or has a value of another form than Draft 2020-12 says."""
    for keyword, fix in _REFUSED.items():
        if keyword in schema:
            raise refuse(f"{where}/{keyword}", f"{keyword} is not supported; {fix}")
    for keyword, (kind, fix) in _OLD.items():
        if isinstance(schema.get(keyword), kind):
            raise refuse(f"{where}/{keyword}", fix)
    for keyword, value in schema.items():
        if keyword in FORMS and not FORMS[keyword][1](value):
            raise refuse(f"{where}/{keyword}", f"{keyword} must be {FORMS[keyword][0]}, got {value!r:.60}")
    names = schema.get("type", [])
    for name in [names] if isinstance(names, str) else names:
        if name not in TYPES:
            raise refuse(f"{where}/type", f"no type is called {name!r:.40}; the types are {', '.join(TYPES)}")
    for keyword in ("minLength", "minItems", "minProperties"):
        if schema.get(keyword, 0) > MOST_COUNT:
            raise refuse(f"{where}/{keyword}", f"it may be at most {MOST_COUNT:,}")


def _is_count(value: Any) -> bool:
    return (type(value) is int and value >= 0) or (type(value) is float and value >= 0 and value.is_integer())


def _is_list(value: Any, test: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and all(map(test, value))


def check_values(schema: Any) -> None:
    """ValueError if a number anywhere in the schema is no number of JSON."""
    level = [schema]
    while level:
        if any(isinstance(value, float) and not math.isfinite(value) for value in level):
            raise ValueError("a JSON schema must be JSON: its numbers must be finite")
        level = [
            inner
            for value in level
            for inner in (value.values() if isinstance(value, dict) else value if isinstance(value, list) else ())
        ]
