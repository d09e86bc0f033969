"""Random JSON schemas of all keywords, small and nested, and random texts that follow a grammar."""

import random

from hypothesis import strategies as st

from nextok.errors import DeadEndError
from tiny import EOS, VOCAB, tiny_tokenizer

NAMES = ["a", "b", "ab", "xy", "é", 'q"\\', "1"]
PATTERNS = [
    "a",
    "^a",
    "b$",
    "^(a|b)$",
    "^[a-c]{1,3}$",
    r"^\w+$",
    r"^\D*$",
    "[^a]",
    "^x.*y$",
    "^$",
    r"\s",
    "(^a|b$)",
    "a|^b",
]
FORMATS = """date date-time time duration email idn-email hostname idn-hostname ipv4 ipv6 uri uri-reference iri
iri-reference uri-template uuid json-pointer relative-json-pointer regex int32""".split()  # noqa: SIM905
TYPES = ["null", "boolean", "integer", "number", "string", "array", "object"]
NUMBERS = [-3, -1, 0, 1, 2, 7, 0.5, -0.1, 1.0, 100, 1e3, 12345678901234567890, 1e-7, 1e23, 1e-9]
SCALARS = st.sampled_from([None, True, False, 0, 1, 1.0, -2, 0.1, "", "a", "ab", "x\ny", "é", "\ud800", "2024-02-29"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=2),
    max_leaves=3,
)
COUNTS = st.integers(0, 3)
SOME_NAMES = st.lists(st.sampled_from(NAMES), max_size=2, unique=True)


def schemas(depth=2):
    """Schemas that may have the definitions `#/$defs/d0` and `#/$defs/d1`, which they and others refer to."""
    return st.builds(
        lambda top, first, second: {**top, "$defs": {"d0": first, "d1": second}} if isinstance(top, dict) else top,
        parts(depth), parts(depth - 1), parts(depth - 1),
    )  # fmt: skip


def parts(depth):
    if depth == 0:
        return st.one_of(st.booleans(), keywords(0), st.sampled_from(TYPES).map(lambda name: {"type": name}))
    return st.one_of(keywords(depth), keywords(depth), objects(depth), lists(depth), unions(depth), parts(0))


def unions(depth):
    """Objects that are told apart by a const, and may hold themselves."""
    inner = parts(depth - 1) | st.sampled_from(["#", "#/$defs/d0"]).map(lambda target: {"$ref": target})
    return st.builds(
        lambda values: {
            "oneOf": [
                {"type": "object", "properties": {"k": {"const": kind}, "v": value}, "required": ["k"]}
                for kind, value in enumerate(values)
            ]
        },
        st.lists(inner, min_size=1, max_size=3),
    )


def objects(depth):
    inner = parts(depth - 1)
    extra = {
        "patternProperties": st.dictionaries(st.sampled_from(PATTERNS), inner, max_size=2),
        "additionalProperties": inner | st.just(False),
        "required": SOME_NAMES,
        "minProperties": COUNTS,
        "maxProperties": COUNTS,
    }
    return st.fixed_dictionaries(
        {"type": st.just("object"), "properties": st.dictionaries(st.sampled_from(NAMES), inner, max_size=3)},
        optional=extra,
    )


def lists(depth):
    inner = parts(depth - 1)
    return st.fixed_dictionaries(
        {"type": st.just("array")},
        optional={
            "items": inner,
            "prefixItems": st.lists(inner, min_size=1, max_size=3),
            "minItems": COUNTS,
            "maxItems": COUNTS,
            "contains": inner,
            "uniqueItems": st.booleans(),
        },
    )


def keywords(depth):
    """A few keywords of any kind."""
    choices = {
        "type": st.sampled_from(TYPES) | st.lists(st.sampled_from(TYPES), min_size=1, max_size=3, unique=True),
        "enum": st.lists(VALUES, max_size=4),
        "const": VALUES,
        **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), st.sampled_from(NUMBERS)),
        "multipleOf": st.sampled_from([1, 2, 3, 5, 2.0, 0.5, 10]),
        **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"), COUNTS),
        "pattern": st.sampled_from(PATTERNS),
        "format": st.sampled_from(FORMATS),
        "required": SOME_NAMES,
        "uniqueItems": st.booleans(),
        "minContains": COUNTS,
        "dependentRequired": st.dictionaries(st.sampled_from(NAMES), SOME_NAMES, max_size=2),
        "$ref": st.sampled_from(["#", "#/$defs/d0", "#/$defs/d1"]),
        "title": st.just("t"),
    }
    if depth:
        inner = parts(depth - 1)
        many = st.lists(inner, min_size=1, max_size=3)
        named = st.dictionaries(st.sampled_from(NAMES), inner, max_size=2)
        choices |= dict.fromkeys(("allOf", "anyOf", "oneOf", "prefixItems"), many)
        choices |= dict.fromkeys(("items", "contains", "additionalProperties", "propertyNames", "not"), inner)
        choices |= dict.fromkeys(("unevaluatedItems", "unevaluatedProperties"), inner | st.just(False))
        choices |= {"properties": named, "dependentSchemas": named}
        choices["patternProperties"] = st.dictionaries(st.sampled_from(PATTERNS), inner, max_size=2)
    return st.lists(st.sampled_from([*choices]), min_size=1, max_size=4, unique=True).flatmap(
        lambda chosen: st.fixed_dictionaries({name: choices[name] for name in chosen})
    )


TOKENIZER = tiny_tokenizer()
HASTY = [EOS, *b'"]},0: ZnulrteafsTX:-.1@']
"""Tokens that lead to the end of a text, the best first."""


def compiled(grammar):
    return grammar.compile(TOKENIZER, VOCAB, frozenset({EOS}))


def walk(grammar, seed, patience=60, most=600):
    """A random text that follows a compiled grammar; None if it does not end. An AssertionError if it gets stuck."""
    dice, state, text = random.Random(seed), grammar.build_start(0), bytearray()
    while len(text) < most:
        try:
            mask = int.from_bytes(grammar.find_allowed(state).mask, "little")
        except DeadEndError as error:
            raise AssertionError(f"{bytes(text)!r}: {error}") from None
        allowed = [token for token in range(VOCAB) if mask >> token & 1]
        assert allowed, f"nothing may follow {bytes(text)!r}"
        hasty = [token for token in HASTY if token in allowed]
        in_haste = len(text) > patience or dice.random() < 0.2
        token = (
            (hasty[0] if len(text) > patience else dice.choice(hasty)) if hasty and in_haste else dice.choice(allowed)
        )
        if token == EOS:
            return text.decode()
        text += TOKENIZER.token_bytes[token]
        assert state.matcher.try_consume_tokens([token])
        state.allowed = None
    return None
