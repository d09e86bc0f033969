"""Numbers of JSON between bounds, as regular expressions.

Numbers are written without exponent where they have a bound, and with so few digits that a float64 next to a bound is
on the same side of it as the decimal number.
"""

from collections.abc import Callable
from fractions import Fraction
from math import ceil, floor

MOST_DIGITS = 200
"""Largest number of digits before the point and behind it, of a number without bounds."""
_FRACTION = 15

ANY_NUMBER = rf"-?(?:0|[1-9][0-9]{{0,{MOST_DIGITS - 1}}})(?:\.[0-9]{{1,{MOST_DIGITS}}})?(?:[eE][+\-]?[0-9]{{1,2}})?"


def write_integers(least: int | None, most: int | None) -> str | None:
    """The whole numbers from `least` to `most`, None is no bound; None if there is none."""
    parts = []
    if most is None or most >= 0:
        parts.append(_write_positive(max(least or 0, 0), most))
    if least is None or least < 0:
        parts.append("-" + (_write_positive(max(1, -(most or 0)), None if least is None else -least)))
    return None if least is not None and most is not None and least > most else _join(parts)


def write_decimals(least: Fraction | None, most: Fraction | None, above: bool, below: bool) -> str | None:
    """The numbers from `least` to `most`, without these where `above` or `below`; None if none can be written."""
    bounds = [abs(bound) for bound in (least, most) if bound is not None]
    places = max(0, _FRACTION - len(str(ceil(max(bounds)))))
    scale = 10**places
    low = None if least is None else floor(least * scale) + 1 if above else ceil(least * scale)
    high = None if most is None else ceil(most * scale) - 1 if below else floor(most * scale)
    if low is not None and high is not None and low > high:
        return None
    parts = []
    if high is None or high >= 0:
        parts.append(_write_scaled(max(low or 0, 0), high, places))
    if low is None or low < 0:
        parts.append("-" + _write_scaled(max(1, -(high or 0)), None if low is None else -low, places))
    return _join(parts)


def _join(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"(?:{'|'.join(parts)})"


def _write_positive(least: int, most: int | None) -> str:
    """Whole numbers, neither of the bounds below zero."""
    if most is None:
        digits = len(str(least))
        longer = f"[1-9][0-9]{{{digits},{max(digits, MOST_DIGITS)}}}"
        return _join([_write_positive(least, 10**digits - 1), longer])
    parts = []
    for digits in range(len(str(least)), len(str(most)) + 1):
        low, high = max(least, 10 ** (digits - 1) if digits > 1 else 0), min(most, 10**digits - 1)
        parts.append(_write_digits(str(low), str(high)))
    return _join(parts)


def _write_digits(low: str, high: str) -> str:
    """Rows of as many digits as `low` and `high` have, between them."""
    if not low:
        return ""
    if low == "0" * len(low) and high == "9" * len(high):
        return f"[0-9]{{{len(low)}}}"
    return _branch(low, high, _write_digits)


def _write_tail(low: str, high: str) -> str:
    """Digits behind a point, zeros at the end may be missing, all of them too."""
    if not low:
        return ""
    if low == "0" * len(low) and high == "9" * len(high):
        return f"[0-9]{{0,{len(low)}}}"
    some = _branch(low, high, _write_tail)
    return f"(?:{some})?" if not low.strip("0") else some


def _branch(low: str, high: str, write: Callable[[str, str], str]) -> str:
    first, last = int(low[0]), int(high[0])
    if first == last:
        return low[0] + write(low[1:], high[1:])
    nines, zeros = "9" * (len(low) - 1), "0" * (len(low) - 1)
    parts = [low[0] + write(low[1:], nines)]
    if last - first > 1:
        parts.append(f"[{first + 1}-{last - 1}]" + write(zeros, nines))
    parts.append(high[0] + write(zeros, high[1:]))
    return _join(parts)


def _write_scaled(low: int, high: int | None, places: int) -> str:
    """Numbers from `low` to `high`, counted in units of the last of these decimal places."""
    if places == 0:
        return _write_positive(low, high)
    scale = 10**places
    whole, rest = divmod(low, scale)
    end, end_rest = (None, scale - 1) if high is None else divmod(high, scale)
    if whole == end:
        return _write_positive(whole, whole) + _write_point(rest, end_rest, places)
    parts = [_write_positive(whole, whole) + _write_point(rest, scale - 1, places)]
    if end is None or end - whole > 1:
        parts.append(
            _write_positive(whole + 1, None if end is None else end - 1) + _write_point(0, scale - 1, places)
        )
    if end is not None:
        parts.append(_write_positive(end, end) + _write_point(0, end_rest, places))
    return _join(parts)


def _write_point(low: int, high: int, places: int) -> str:
    first, last = str(low).zfill(places), str(high).zfill(places)
    if low == 0 and high == 10**places - 1:
        return rf"(?:\.[0-9]{{1,{places}}})?"
    digits = _branch(first, last, _write_tail)
    return rf"\.{digits}" if low else rf"(?:\.{digits})?"
