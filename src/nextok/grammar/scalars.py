"""Numbers, booleans and null: those that keep all of some keywords."""

import json
from collections.abc import Callable
from fractions import Fraction
from math import ceil, floor, lcm
from typing import Any

from nextok.grammar.keywords import TYPES, refuse
from nextok.grammar.numbers import ANY_NUMBER, write_decimals, write_integers

MOST_MULTIPLES = 1000
"""Largest number of multiples between two bounds that are written one by one."""

Keywords = dict[str, Any]


def find_types(rules: list[Keywords]) -> set[str]:
    """The types that all of these allow; with `number`, whole numbers and others."""
    types = set(TYPES)
    for each in rules:
        if "type" in each:
            named = {each["type"]} if isinstance(each["type"], str) else set(each["type"])
            types &= named | ({"integer"} if "number" in named else set())
    return types


def find_values(listed: list[tuple[Any, ...] | None]) -> list[Any] | None:
    """The values that are in all of these lists; None is no list, and the answer where there is none."""
    lists = [each for each in listed if each is not None]
    if not lists:
        return None
    kept = [{identify(value) for value in each} for each in lists]
    return [value for value in lists[0] if all(identify(value) in each for each in kept)]


def identify(value: Any) -> tuple[str, Any]:
    """Equal for values that are equal in JSON: 1 and 1.0 are, 1 and true are not."""
    return ("number", Fraction(value)) if type(value) in (int, float) else (type(value).__name__, value)


def list_words(values: list[Any] | None, types: set[str]) -> list[str]:
    """`null`, `true` and `false`, as far as they are allowed."""
    words: dict[str, list[Any]] = {"null": [None], "boolean": [True, False]}
    return [
        json.dumps(word)
        for name, listed in words.items()
        for word in listed
        if name in types and (values is None or any(value is word for value in values))
    ]


def find_least(bounds: list[Any]) -> int | None:
    """The least of these numbers, of which some may be missing."""
    return min((int(bound) for bound in bounds if bound is not None), default=None)


def write_numbers(
    rules: list[tuple[Keywords, str]], values: list[Any] | None, types: set[str], wide: bool
) -> str | None:
    """The numbers that keep all of these keywords, as an expression; None if there is none."""
    if values is not None:
        numbers = [value for value in values if type(value) in (int, float)]
        kept = [value for value in numbers if _keeps(value, [each for each, _ in rules], types)]
        return "/" + "|".join(map(_quote, kept)) + "/" if kept else None
    least = [_read_bound(each["minimum"], max) for each, _ in rules if "minimum" in each]
    above = [_read_bound(each["exclusiveMinimum"], max) for each, _ in rules if "exclusiveMinimum" in each]
    most = [_read_bound(each["maximum"], min) for each, _ in rules if "maximum" in each]
    below = [_read_bound(each["exclusiveMaximum"], min) for each, _ in rules if "exclusiveMaximum" in each]
    low, high = max(least + above, default=None), min(most + below, default=None)
    open_low, open_high = low in above, high in below
    steps = [] if wide else [_read_step(each["multipleOf"], where) for each, where in rules if "multipleOf" in each]
    if "number" not in types or steps:
        start = None if low is None else floor(low) + 1 if open_low else ceil(low)
        end = None if high is None else ceil(high) - 1 if open_high else floor(high)
        return _write_multiples(start, end, lcm(*steps), rules)
    if low is None and high is None:
        return f"/{ANY_NUMBER}/"
    if wide:
        possible = low is None or high is None or low < high or (low == high and not open_low and not open_high)
        return f"/{ANY_NUMBER}/" if possible else None
    written = write_decimals(low, high, open_low, open_high)
    return f"/{written}/" if written else None


def _read_bound(bound: int | float, stricter: Callable[..., Fraction]) -> Fraction:
    """The bound of the decimal numbers that a reader takes for float64: 0.1 is 0.1, not the float64 next to it.

    Large whole numbers are read exactly, and compared with the exact float64, so there the stricter of both counts.
    """
    written = Fraction(repr(bound))
    return written if abs(bound) < 1 << 53 else stricter(written, Fraction(bound))


def _read_step(step: int | float, where: str) -> int:
    if step != int(step):
        raise refuse(
            f"{where}/multipleOf", f"it must be a whole number, got {step}: multiples of others depend on rounding"
        )
    return int(step)


def _write_multiples(start: int | None, end: int | None, step: int, rules: list[tuple[Keywords, str]]) -> str | None:
    if step == 1:
        written = write_integers(start, end)
        return f"/{written}/" if written else None
    if start is None or end is None or (end - start) // step > MOST_MULTIPLES:
        return _write_endings(start, end, step, rules)
    first = -(-start // step) * step
    return "/" + "|".join(map(str, range(first, end + 1, step))) + "/" if first <= end else None


def _write_endings(start: int | None, end: int | None, step: int, rules: list[tuple[Keywords, str]]) -> str:
    """Multiples by their last digits, where these decide."""
    for digits in range(1, 4):
        if 10**digits % step == 0:
            endings = [str(number).zfill(digits) for number in range(0, 10**digits, step)]
            short = [str(number) for number in range(0, 10**digits, step)]
            multiples = f"-?(?:{'|'.join(short)}|[1-9][0-9]*(?:{'|'.join(endings)}))"
            return f"/{write_integers(start, end)}/ & /{multiples}/"
    where = next(where for each, where in rules if "multipleOf" in each)
    raise refuse(
        f"{where}/multipleOf",
        f"multiples of {step} need a minimum and a maximum with at most {MOST_MULTIPLES} between",
    )


def _keeps(value: int | float, rules: list[Keywords], types: set[str]) -> bool:
    exact = Fraction(value)
    if "number" not in types and exact.denominator != 1:
        return False
    for each in rules:
        step = each.get("multipleOf")
        if (
            exact < Fraction(each.get("minimum", exact))
            or exact > Fraction(each.get("maximum", exact))
            or ("exclusiveMinimum" in each and exact <= Fraction(each["exclusiveMinimum"]))
            or ("exclusiveMaximum" in each and exact >= Fraction(each["exclusiveMaximum"]))
            or (step is not None and ((exact / Fraction(step)).denominator != 1 or (value / step) % 1 != 0))
        ):
            return False
    return True


def _quote(value: int | float) -> str:
    return "".join(letter if letter.isalnum() else f"\\x{{{ord(letter):x}}}" for letter in json.dumps(value))
