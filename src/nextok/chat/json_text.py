"""JSON as a model writes it."""

import json
import re
from typing import Any


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


DECODER = json.JSONDecoder(parse_int=len, parse_float=len, parse_constant=_refuse)
"""Numbers stay as they are written: no limit on their digits, and none becomes infinite."""
SPACE = re.compile(r"\s*")


def is_json(text: str) -> bool:
    """Whether this is JSON, whole."""
    try:
        DECODER.decode(text)
    except (ValueError, RecursionError):
        return False
    return True


def skip(pattern: re.Pattern[str], text: str, place: int) -> int:
    """Where what the pattern matches at this place ends."""
    found = pattern.match(text, place)
    return found.end() if found else place
