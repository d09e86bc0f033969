"""Calls that a model must make: a grammar for its answer, and the marks with which the prompt must end."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nextok.chat.families import Family
from nextok.grammar.grammar import Grammar
from nextok.grammar.schema import translate_schema

MOST_CALLS = 8
"""Largest number of calls of one answer."""
NO_PARAMETERS = {"type": "object", "properties": {}, "additionalProperties": False}
TEXT_KEYS = {"type", "title", "description", "default", "examples", "deprecated"}
OBJECT_KEYS = TEXT_KEYS | {"properties", "required", "additionalProperties", "$defs", "definitions", "$schema"}


@dataclass(frozen=True, slots=True)
class Tags:
    """What stands around a call and each of its values; `{}` is the name of the function or of the argument."""

    before: str
    opening: str
    closing: str
    after: str


TAGS = {
    "xml": Tags("<function={}>", "\n<parameter={}>\n", "\n</parameter>", "\n</function>"),
    "glm": Tags("{}", "\n<arg_key>{}</arg_key>\n<arg_value>", "</arg_value>", ""),
}


@dataclass(frozen=True, slots=True)
class ForcedCalls:
    """The answer follows `grammar` after a prompt that ends with `opening`, whose control tokens are encoded as such.

    An AnswerReader with `opened=opening` reads the answer.
    """

    grammar: Grammar
    opening: str


def force_calls(
    family: Family, tools: Sequence[Mapping[str, Any]], name: str | None = None, parallel: bool = True
) -> ForcedCalls:
    """One or more calls of these tools (OpenAI's objects), or one of the tool `name`.

    Only one, too, where the mark between two calls is a control token, which no grammar can hold. ValueError for an
    unknown name, and for parameters that cannot be guaranteed in the form in which this model writes calls.
    """
    functions = [each["function"] for each in tools if name in (None, each["function"]["name"])]
    if not functions:
        known = ", ".join(each["function"]["name"] for each in tools) or "none"
        raise ValueError(f"tool_choice must name one of the tools ({known}), got {name!r:.80}")
    several = parallel and name is None
    rules = _Rules()
    if tags := TAGS.get(family.form):
        opening, calls = _force_marked(family, [_write_tagged_call(tags, each, rules) for each in functions], several)
    elif family.form == "json":
        opening, calls = _force_marked(family, [_write_json_call(family, each, rules) for each in functions], several)
    elif family.form == "named" and len(functions) == 1:
        opening, calls = f"{family.opening}{functions[0]['name']}[ARGS]", rules.add_json(_read_schema(functions[0]))
    else:
        written = " | ".join(_write_json_call(family, each, rules) for each in functions)
        opening, calls = ("", written) if family.form == "bare" else _force_list(family, written, several)
    return ForcedCalls(Grammar.lark("\n".join([f"start: {calls}", *rules.lines])), opening)


class _Rules:
    """Rules of a grammar, each with a name of its own."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, body: str, options: str = "") -> str:
        """The name of a rule."""
        name = f"r{len(self.lines)}"
        self.lines.append(f"{name}{options}: {body}")
        return name

    def add_json(self, schema: Mapping[str, Any]) -> str:
        """The name of a rule for JSON that fits a schema; ValueError if that cannot be guaranteed."""
        Grammar.json_schema(schema)  # has the limits of its size
        start, *lines = translate_schema(json.loads(json.dumps(schema)), f"s{len(self.lines)}").splitlines()
        self.lines += lines
        return start.removeprefix("start: ")


def _force_marked(family: Family, calls: list[str], several: bool) -> tuple[str, str]:
    """Calls between an opening and a closing mark each; a closing mark that is a control token is left out."""
    call = f"({' | '.join(calls)})"
    control, gap = dict(family.control), "" if family.form == "glm" else "\n"
    if family.closing not in control:
        call = f"{call} {_quote(chr(10) + family.closing)}"
        if several and family.opening not in control:
            call = f"{call} ({_quote(f'{chr(10)}{family.opening}{gap}')} {call}){{0,{MOST_CALLS - 1}}}"
    return f"{family.opening}{gap}", call


def _force_list(family: Family, call: str, several: bool) -> tuple[str, str]:
    more = f'(", " ({call})){{0,{MOST_CALLS - 1}}}' if several else ""
    return family.opening, f'"[" ({call}) {more} "]"'


def _write_json_call(family: Family, function: Mapping[str, Any], rules: _Rules) -> str:
    head = f'{{"name": {json.dumps(function["name"])}, "{family.arguments}": '
    return rules.add(f'{_quote(head)} {rules.add_json(_read_schema(function))} "}}"')


def _write_tagged_call(tags: Tags, function: Mapping[str, Any], rules: _Rules) -> str:
    name, schema = function["name"], _read_schema(function)
    Grammar.json_schema(schema)  # so that its parts are what they should be
    if unknown := sorted(schema.keys() - OBJECT_KEYS):
        raise ValueError(
            f"tool {name}: its parameters use {unknown[0]}, which cannot be guaranteed in this model's form of "
            'calls: use "properties" and "required" alone, or tool_choice "auto"'
        )
    properties, required = schema.get("properties", {}), schema.get("required", [])
    if missing := [each for each in required if each not in properties]:
        raise ValueError(f"tool {name}: {missing[0]!r:.80} is required and needs a schema in its properties")
    shared: dict[str, Any] = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    parts = [_quote(tags.before.format(name))]
    for key, each in properties.items():
        rule = _write_value(tags, name, key, each, shared, rules)
        parts.append(rule if key in required else f"{rule}?")
    return rules.add(" ".join([*parts, *([_quote(tags.after)] if tags.after else [])]))


def _write_value(tags: Tags, function: str, key: str, schema: Any, shared: Mapping[str, Any], rules: _Rules) -> str:
    if not key.isprintable() or not key or set(key) & set("<>") or len(key) > 200:
        raise ValueError(
            f"tool {function}: a parameter's name must have 1 to 200 characters, no < or >, got {key!r:.60}"
        )
    opening, closing = _quote(tags.opening.format(key)), tags.closing
    choices = schema.get("enum") if isinstance(schema, dict) else None
    if isinstance(choices, list) and choices and all(isinstance(each, str) for each in choices):
        if (
            schema.get("type") in (None, "string")
            and schema.keys() <= TEXT_KEYS | {"enum"}
            and not any("<" in each for each in choices)
        ):
            return rules.add(f"{opening} ({' | '.join(map(_quote, choices))}) {_quote(closing)}")
    elif isinstance(schema, dict) and schema.get("type") == "string" and schema.keys() <= TEXT_KEYS:
        mark = closing.strip("\n</>")
        free = rf"/(?s:.*)/ & ~/(?s:.*)<\/({mark}|tool_call)>(?s:.*)/"
        text = rules.add(free, f"[suffix={_quote(closing)}]")
        return rules.add(f"{opening} {text}")
    elif _is_json_without_marks(schema):
        return rules.add(f"{opening} {rules.add_json({**schema, **shared})} {_quote(closing)}")
    raise ValueError(
        f"tool {function}: parameter {key} cannot be guaranteed in this model's form of calls: give it one type; "
        'a string no rule but "enum" (without <), and arrays and objects no strings but such'
    )


def _is_json_without_marks(schema: Any, inner: bool = False) -> bool:
    """Whether a value of this schema is JSON that holds no free text, in which a closing mark could stand."""
    if not isinstance(schema, dict):
        return False
    if inner and "enum" in schema:
        return "<" not in json.dumps(schema["enum"])
    kind = schema.get("type")
    if kind == "array":
        return schema.keys() <= TEXT_KEYS | {"items", "minItems", "maxItems"} and _is_json_without_marks(
            schema.get("items"), True
        )
    if kind == "object":
        parts: dict[str, Any] = schema.get("properties", {})
        closed = schema.get("additionalProperties") is False and schema.keys() <= OBJECT_KEYS
        return (
            closed
            and "<" not in "".join(parts)
            and all(_is_json_without_marks(each, True) for each in parts.values())
        )
    kinds = kind if isinstance(kind, list) else [kind]
    return bool(kinds) and all(each in ("integer", "number", "boolean", "null") for each in kinds)


def _read_schema(function: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a function's arguments, which are an object."""
    schema = dict(function.get("parameters") or NO_PARAMETERS)
    if schema.setdefault("type", "object") != "object":
        raise ValueError(
            f'tool {function["name"]}: its parameters must be of type "object", got {schema["type"]!r:.60}'
        )
    return schema


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
