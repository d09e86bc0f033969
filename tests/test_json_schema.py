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
from schemas import compiled, schemas, walk

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
