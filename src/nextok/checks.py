"""Checks of arguments, each with one wording: the name, the rule, the value that was given, and the fix."""

import math
import operator
from collections.abc import Iterable
from numbers import Integral, Rational, Real
from typing import Any


def is_number(value: Any) -> bool:
    """Whether this is a real number that a float can hold; True, False and fractions are not."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    if isinstance(value, Rational) and not isinstance(value, Integral):
        return False
    try:
        float(value)
    except OverflowError:
        return False
    return True


def is_whole(value: Any) -> bool:
    """Whether this is a whole number, of Python or numpy; True and False are not."""
    return type(value) is not bool and hasattr(value, "__index__")


def check_number(name: str, value: Any, least: float, most: float, advice: str = "") -> None:
    """ValueError unless `value` is a finite number from `least` to `most`; an infinite bound is none."""
    if is_number(value) and least <= value <= most and math.isfinite(value):
        return
    bounds = f"from {least:g} to {most:g}" if math.isfinite(most) else f"{least:g} or above"
    raise ValueError(f"{name} must be a finite number, {bounds}, got {value!r}{advice}")


def check_whole(name: str, value: Any, least: int | None = None, most: int | None = None, advice: str = "") -> None:
    """ValueError unless `value` is a whole number from `least` to `most`; None is no bound."""
    if is_whole(value) and (least is None or value >= least) and (most is None or value <= most):
        return
    bounds = "" if least is None else f" from {least} up" if most is None else f" from {least} to {most:,}"
    raise ValueError(f"{name} must be a whole number{bounds}, got {value!r}{advice}")


def check_flag(name: str, value: Any) -> None:
    """ValueError unless `value` is True or False."""
    if type(value) is not bool:
        raise ValueError(f"{name} must be True or False, got {value!r}")


def check_ids(ids: Iterable[Any], vocab_size: int, of: str = "") -> list[int]:
    """Token ids as plain ints; ValueError if one is outside the vocabulary. `of`: whose, for the error."""
    if isinstance(ids, bytes | bytearray):
        raise ValueError(f"token ids{of} must be whole numbers, got bytes; text must be a str, as in data.decode()")
    try:
        plain = [_plain(token) for token in ids]
    except TypeError:
        raise ValueError(f"token ids{of} must be whole numbers, got {ids!r:.80}") from None
    for token in plain:
        if not 0 <= token < vocab_size:
            raise ValueError(f"token id {token}{of} is outside the vocabulary; ids go from 0 to {vocab_size - 1}")
    return plain


def _plain(token: Any) -> int:
    if type(token) is bool:
        raise TypeError
    return operator.index(token)
