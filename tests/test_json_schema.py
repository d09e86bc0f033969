"""JSON schemas: a text that follows one validates with the library `jsonschema`, or the schema is refused first.

NEXTOK_ROUNDS is the number of random schemas; 20,000 of them take about half an hour.
"""

import json
import os
import re
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import nextok as nt
from schemas import FORMATS, compiled, schemas, walk

ROUNDS = int(os.environ.get("NEXTOK_ROUNDS", "250"))


def validator(schema):
    return Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)


def texts_of(schema, count=12, **options):
    grammar = compiled(nt.Grammar.json_schema(schema))
    return [text for seed in range(count) if (text := walk(grammar, seed, **options)) is not None]


def values_of(schema, count=12, **options):
    """Random values that follow a schema, each of which validates."""
    values = [json.loads(text) for text in texts_of(schema, count, **options)]
    for value in values:
        validator(schema).validate(value)
    assert values
    return values


# Any schema


def refusal(schema):
    """Why a schema is refused; None if it is not."""
    try:
        nt.Grammar.json_schema(schema)
    except ValueError as error:
        return str(error)
    return None


def test_a_finished_text_validates_and_no_text_gets_stuck_or_the_schema_is_refused():
    counted = Counter()

    @settings(max_examples=ROUNDS, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(schemas(), st.integers(0, 1 << 30))
    def follow(schema, seed):
        if reason := refusal(schema):
            counted["refused"] += 1
            assert "\n" not in reason
            assert len(reason) < 600
            assert re.search("(cannot be kept|unsatisfiable): #", reason), reason
            return
        counted["accepted"] += 1
        guide = compiled(nt.Grammar.json_schema(schema))
        for offset in range(4):
            text = walk(guide, seed + offset)
            counted["unfinished" if text is None else "texts"] += 1
            if text is not None:
                validator(schema).validate(json.loads(text))

    follow()
    print(dict(counted))
    assert counted["accepted"] > ROUNDS / 4
    assert counted["texts"] > 3 * counted["accepted"]


# What is kept: each of these is accepted, and its texts validate


KEPT = {
    "properties and patternProperties of one name": {
        "type": "object",
        "properties": {"a": {"type": "boolean"}},
        "required": ["a"],
        "additionalProperties": False,
        "patternProperties": {"^a$": {"type": "boolean"}},
    },
    "a pattern narrows a property": {
        "type": "object",
        "properties": {"ab": {"type": "integer"}},
        "required": ["ab"],
        "patternProperties": {"a": {"minimum": 3}, "b": {"maximum": 4}},
        "additionalProperties": False,
    },
    "patterns that overlap": {
        "type": "object",
        "patternProperties": {"^[ab]": {"type": "integer"}, "b$": {"minimum": 10}},
        "additionalProperties": False,
    },
    "required without a property": {"type": "object", "required": ["x"], "additionalProperties": {"type": "null"}},
    "at least two members": {
        "type": "object",
        "properties": {name: {"type": "null"} for name in "abc"},
        "additionalProperties": False,
        "minProperties": 2,
    },
    "at most one member": {
        "type": "object",
        "properties": {"a": {"const": 1}, "b": {"const": 2}},
        "maxProperties": 1,
    },
    "enum against type": {"type": ["integer", "null"], "enum": ["1", 1, None, 2.5, True]},
    "const against minimum": {"anyOf": [{"const": 3, "minimum": 4}, {"const": 5, "minimum": 4}]},
    "one and true are two values": {"enum": [1, True, 0, False], "type": "boolean"},
    "a const of lists and objects": {"const": {"a": [1, {"b": "é\n"}], "c": {}}},
    "allOf of objects that are closed": {
        "allOf": [{"type": "object", "properties": {"a": {"type": "null"}}}, {"properties": {"b": {"type": "null"}}}],
        "unevaluatedProperties": False,
    },
    "a const says nothing of what is evaluated": {
        "anyOf": [{"const": [None]}, {"const": {"a": 1}}, {"const": []}, {"const": 3}],
        "unevaluatedItems": {"type": "array"},
        "unevaluatedProperties": {"type": "array"},
    },
    "oneOf told apart by a const": {
        "oneOf": [
            {
                "type": "object",
                "properties": {"kind": {"const": kind}, "n": {"type": "integer"}},
                "required": ["kind"],
            }
            for kind in ("a", "b", "c")
        ]
    },
    "oneOf that holds itself": {
        "oneOf": [
            {"type": "object", "properties": {"k": {"const": k}, "n": {"$ref": "#"}}, "required": ["k"]}
            for k in (1, 2)
        ]
    },
    "oneOf of bounds": {"type": "number", "oneOf": [{"maximum": 1}, {"exclusiveMinimum": 1}]},
    "not a type": {"not": {"type": ["object", "array", "string"]}},
    "not a text": {"type": "string", "maxLength": 1, "pattern": "[ab]", "not": {"const": "a"}},
    "a reference with siblings": {
        "$ref": "#/$defs/n",
        "maximum": 3,
        "$defs": {"n": {"type": "integer", "minimum": 2}},
    },
    "a list that refers to itself": {
        "$ref": "#/$defs/tree",
        "$defs": {"tree": {"type": "array", "items": {"$ref": "#/$defs/tree"}, "maxItems": 2}},
    },
    "a circle with siblings": {
        "type": "object",
        "properties": {"next": {"$ref": "#", "minProperties": 0}},
        "additionalProperties": False,
    },
    "a circle that one way leads out of": {
        "anyOf": [{"type": "null"}, {"type": "array", "items": {"$ref": "#"}, "minItems": 1}]
    },
    "an unused impossible branch": {"anyOf": [{"type": "string", "pattern": "^a$", "minLength": 2}, {"const": 1}]},
    "an impossible optional member": {
        "type": "object",
        "properties": {"a": {"enum": []}},
        "additionalProperties": False,
    },
    "prefixItems and nothing behind": {
        "prefixItems": [{"type": "null"}, {"const": 2}],
        "items": False,
        "type": "array",
    },
    "an item that cannot be": {"type": "array", "prefixItems": [{"type": "null"}, False]},
    "contains": {"type": "array", "items": {"type": "integer"}, "contains": {"minimum": 50}, "minContains": 2},
    "unique items of an enum": {
        "type": "array",
        "items": {"enum": ["a", 1, 1.0, True, None, "b"], "type": ["string", "number", "boolean"]},
        "uniqueItems": True,
        "minItems": 2,
        "maxItems": 3,
    },
    "unique items of nothing": {"type": "array", "items": {"enum": []}, "uniqueItems": True},
    "all of an enum once": {"type": "array", "items": {"enum": [1, 2, 3]}, "uniqueItems": True, "minItems": 3},
    "unique items of a short list": {"type": "array", "maxItems": 1, "uniqueItems": True},
    "a pattern is searched for": {"type": "string", "pattern": "b", "minLength": 3, "maxLength": 3},
    "patterns of classes, some found in a name and some not": {
        "type": "object",
        "additionalProperties": {"type": "number"},
        "maxProperties": 1,
        "patternProperties": {"[^a]": True, r"^\w+$": {"type": "null"}, r"^\D$": {"type": "null"}},
    },
    "one end of a pattern": {"type": "string", "pattern": "^a|b$", "maxLength": 4},
    "a pattern with classes": {"type": "string", "pattern": r"^[^\W\d_]\D\s\S$"},
    "pattern and format": {"type": "string", "format": "date", "pattern": "^20.*-02-29$"},
    "above zero": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1e-9},
    "no whole bound": {"type": "integer", "minimum": 0.5, "maximum": 2.5},
    "huge bounds": {"type": "integer", "minimum": 10**40, "maximum": 10**40 + 5},
    "multiples": {"type": "integer", "multipleOf": 7, "minimum": -20, "maximum": 20},
    "multiples without end": {"type": "number", "multipleOf": 25},
    "names of members": {
        "type": "object",
        "propertyNames": {"pattern": "^[a-c]$"},
        "additionalProperties": {"type": "null"},
    },
    "dependentRequired": {
        "type": "object",
        "properties": {name: {"type": "null"} for name in "abc"},
        "dependentRequired": {"a": ["c"]},
        "additionalProperties": False,
    },
    "dependentSchemas": {
        "type": "object",
        "properties": {"a": {"type": "null"}, "n": {"type": "integer"}},
        "dependentSchemas": {"a": {"properties": {"n": {"minimum": 5}}, "required": ["n"]}},
    },
    "names and texts that are escaped": {
        "type": "object",
        "properties": {'"\\/\n\x01\u2028é': {"const": '\x00\x1f\x7f"\\\ud83d'}},
        "additionalProperties": False,
        "minProperties": 1,
    },
    "an id of the whole": {
        "$id": "https://example.com/x",
        "$ref": "https://example.com/x#/$defs/a",
        "$defs": {"a": {"const": 1}},
    },
    "true": True,
    "remarks and unknown words": {"title": "t", "nullable": True, "const": 2, "x-order": 3, "format": "int32"},
}


@pytest.mark.parametrize("name", KEPT)
def test_what_other_engines_get_wrong_is_kept(name):
    assert len({json.dumps(value) for value in values_of(KEPT[name], 20)}) >= (name != "true")


@pytest.mark.parametrize("name", sorted({*FORMATS} - {"int32"}))
def test_a_format_is_one_that_the_library_checks(name):
    assert len({*values_of({"type": "string", "format": name}, 60)}) > 30 or name.endswith("pointer")


def fits(schema, text):
    """Whether a text can be written to its end."""
    grammar = compiled(nt.Grammar.json_schema(schema))
    state = grammar.build_start(0)
    return state.matcher.try_consume_tokens([*text.encode()]) == len(text.encode()) and state.matcher.is_accepting()


@pytest.mark.parametrize("year", [1, 4, 100, 400, 1900, 1999, 2000, 2023, 2024, 9996, 9999])
def test_every_date_that_exists_can_be_written_and_no_other(year):
    schema = {"type": "string", "format": "date"}
    for month in range(14):
        for day in (0, 1, 28, 29, 30, 31, 32):
            text = f"{year:04}-{month:02}-{day:02}"
            assert fits({"type": "string", "format": "date"}, f'"{text}"') == validator({"format": "date"}).is_valid(
                text
            )
    assert not fits(schema, '"0000-01-01"')


REFUSED = {
    "nothing": (False, "#: no value fits"),
    "an empty enum": ({"enum": []}, "#: no value fits"),
    "an empty enum inside": ({"type": "object", "required": ["a"], "properties": {"a": {"enum": []}}}, "no value"),
    "a required member that is not allowed": (
        {"type": "object", "required": ["b"], "properties": {"a": {}}, "additionalProperties": False},
        "the required member 'b' is not allowed",
    ),
    "a circle without end": ({"type": "object", "required": ["a"], "properties": {"a": {"$ref": "#"}}}, "no text"),
    "a circle without text": ({"$ref": "#"}, "#: this $ref leads back to itself"),
    "a longer circle": ({"anyOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"allOf": [{"$ref": "#"}]}}}, "leads"),
    "more items than there can be": ({"type": "array", "prefixItems": [{}], "items": False, "minItems": 2}, "#/item"),
    "bounds the wrong way": ({"type": "integer", "minimum": 1.2, "maximum": 1.8}, "no number fits"),
    "lengths the wrong way": ({"type": "string", "minLength": 4, "maxLength": 3}, "no text fits"),
    "a pattern longer than the text": ({"type": "string", "pattern": "^a{4}$", "maxLength": 3}, "no text fits"),
    "an unknown format": ({"type": "string", "format": "datetime"}, "#/format: 'datetime' is no known format"),
    "a format inside": ({"type": "array", "items": {"type": "string", "format": "x"}}, "#/items/format: 'x'"),
    "if": ({"if": {"const": 1}, "then": False}, "#/if: if, then and else are not supported; use anyOf"),
    "not": ({"not": {"minimum": 3}}, "#/not: this `not` cannot be guaranteed"),
    "oneOf that overlaps": ({"oneOf": [{"type": "number"}, {"type": "integer"}]}, "#/oneOf: a value may fit two"),
    "oneOf of formats that a checker may mix up": (
        {"type": "string", "oneOf": [{"format": "email"}, {"format": "uri"}]},
        "#/oneOf: a value may fit two",
    ),
    "uniqueItems": ({"type": "array", "uniqueItems": True}, "#/uniqueItems: it is kept for items that are one of"),
    "maxContains": ({"type": "array", "contains": {}, "maxContains": 2}, "#/contains: maxContains"),
    "many members without a name": ({"type": "object", "minProperties": 2}, "#/minProperties: of members without"),
    "multiples of a fraction": ({"multipleOf": 0.1}, "#/multipleOf: it must be a whole number, got 0.1"),
    "multiples of seven without end": ({"type": "integer", "multipleOf": 7}, "#/multipleOf: multiples of 7"),
    "a word edge": ({"pattern": r"\ba"}, r"#/pattern: the pattern '\\ba' cannot be used: \b is not supported"),
    "a look ahead": ({"pattern": "(?=a)b"}, "(?=a is not supported"),
    "a back-reference": ({"pattern": r"(a)\1"}, r"\1 is not supported"),
    "an edge inside": ({"pattern": "a^b"}, "must stand at the start"),
    "a repeated edge": ({"pattern": "^+[a-z]$"}, "cannot be repeated"),
    "a large repetition": ({"pattern": "a{1,999999}"}, "more than 5,000 times"),
    "nothing to repeat": ({"pattern": "{1,999999}"}, "nothing to repeat"),
    "many brackets": ({"pattern": "(" * 60_000}, "nested 40 deep"),
    "no bracket": ({"pattern": "a)"}, "a ) has no ("),
    "a set without end": ({"pattern": "[a"}, "ends too early"),
    "a digit of another script in a name": (
        {"properties": {"٣": {}}, "patternProperties": {r"^\d$": False}},
        "Python and ECMAScript may differ",
    ),
    "draft 4": ({"minimum": 3, "exclusiveMinimum": True}, "#/exclusiveMinimum: true is draft 4"),
    "draft 7": ({"type": "array", "items": [{}]}, "#/items: a list of items is draft 7; use prefixItems"),
    "dependencies": ({"dependencies": {"a": ["b"]}}, "use dependentRequired"),
    "$dynamicRef": ({"$dynamicRef": "#a"}, "$dynamicRef is not supported; use $ref"),
    "an anchor": ({"$ref": "#a", "$defs": {"a": {"$anchor": "a"}}}, "an anchor ('#a') is not supported"),
    "another file": ({"$ref": "other.json#/a"}, "#/$ref: nextok does not fetch 'other.json#/a'"),
    "nothing there": ({"$ref": "#/$defs/a"}, "nothing stands at '#/$defs/a'"),
    "no schema there": ({"$ref": "#/$defs", "$defs": 3}, "there is no schema"),
    "an id inside": ({"items": {"$id": "x", "type": "null"}}, "#/items/$id: a schema inside the schema must have no"),
    "an unknown type": ({"type": "int"}, "#/type: no type is called 'int'"),
    "a bound that is no number": ({"minimum": "3"}, "#/minimum: minimum must be a number, got '3'"),
    "a count below zero": ({"maxLength": -1}, "#/maxLength: maxLength must be a whole number from 0 up"),
    "required that is no list": ({"required": True}, "#/required: required must be a list of names"),
    "a property that is no schema": ({"properties": {"a": 3}}, "#/properties: properties must be an object"),
    "a pointer with escapes": ({"properties": {"a/b~": {"type": "x"}}}, "#/properties/a~1b~0/type"),
    "another separator": ({"x-guidance": {"item_separator": ";"}}, "#/x-guidance/item_separator: it must be ','"),
    "other options": ({"x-guidance": {"lenient": True}}, "#/x-guidance: its options are"),
    "a bomb of references": (
        {"$ref": "#/$defs/0", "$defs": {str(i): {"allOf": [{"$ref": f"#/$defs/{i + 1}"}] * 2} for i in range(99)}},
        "over 60 schemas of one value",
    ),
    "a bomb of choices": (
        {"allOf": [{"anyOf": [{"minimum": i}, {"maximum": -i}]} for i in range(20)]},
        "over 400 combinations",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_kept_is_refused_in_one_line_that_says_where(name):
    schema, reason = REFUSED[name]
    assert reason in (refusal(schema) or "accepted")
    assert "\n" not in refusal(schema)


def test_a_number_that_is_none_of_json_is_refused():
    for text in ('{"minimum": 1e999}', '{"const": NaN}', '{"enum": [-Infinity]}'):
        assert "numbers must be finite" in refusal(text)


def test_white_space_is_free_where_the_schema_says_so():
    schema = {"const": {"a": [1, 2]}, "x-guidance": {"whitespace_flexible": True}}
    assert fits(schema, '{ "a" :[1,\n2 ]}')
    assert fits(schema, '{"a": [1, 2]}')
    assert not fits(schema, ' {"a": [1, 2]}')
    schema["x-guidance"] = {"item_separator": ",", "key_separator": ":"}
    assert texts_of(schema, 1) == ['{"a":[1,2]}']


def test_integers_are_written_as_digits_and_numbers_as_json_writes_them():
    for text in ("0", "-1", "12345678901234567890"):
        assert fits({"type": "integer"}, text)
    for text in ("1.0", "1e3", "-0", "01", "+1", "0x1", "1.", ".5", "NaN"):
        assert not fits({"type": "integer"}, text)
    for text in ("0", "-0.5", "1e3", "1.25E-2"):
        assert fits({"type": "number"}, text)
    for text in ("01", ".5", "1.", "1e999", "NaN", "Infinity", "--1"):
        assert not fits({"type": "number"}, text)


@pytest.mark.parametrize("bound", [0, 1, -1, 0.1, 0.3, 1e-9, 2.5, 1e15, 1e23, -1e23, 10**30, 123456.789])
def test_numbers_next_to_a_bound_are_on_its_right_side(bound):
    near = {
        repr(bound),
        repr(bound * 1.0001),
        repr(bound * 0.9999),
        "0.1",
        "0.10",
        "0.100000000000001",
        "1",
        "0",
        "1.0",
    }
    near |= {str(int(bound) + step) for step in (-1, 0, 1)} | {
        "99999999999999999999999",
        "1" + "0" * 31,
        "-1" + "0" * 31,
    }
    for keyword in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
        schema = {"type": "number", keyword: bound}
        grammar_fits = {text for text in near if fits(schema, text)}
        assert all(validator(schema).is_valid(json.loads(text)) for text in grammar_fits)
        assert grammar_fits


def test_whole_numbers_between_bounds_are_exactly_those():
    tried = {*range(-120, 130, 7), *(end + step for end in (-100, -10, 0, 10, 100) for step in range(-3, 4))}
    for least in (-12, -9, -1, 0, 3, 10, 99):
        for most in range(least, 112, 17):
            schema = {"type": "integer", "minimum": least, "maximum": most}
            near = tried | {end + step for end in (least, most) for step in range(-3, 4)}
            assert {number for number in near if fits(schema, str(number))} == near & {*range(least, most + 1)}


def test_text_is_what_is_searched_for_in_the_schema_and_not_its_json():
    assert fits({"type": "string", "pattern": '^"\\\\\n$'}, r'"\"\\\n"')
    assert fits({"type": "string", "maxLength": 2, "minLength": 2}, r'"\n😀"')
    assert not fits({"type": "string", "maxLength": 2}, r'"\n\"x"')
    assert not fits({"type": "string"}, '"\n"')
    assert not fits({"type": "string", "pattern": r"^\d$"}, '"٣"')
    assert not fits({"type": "string", "pattern": r"^\D$"}, '"٣"')
