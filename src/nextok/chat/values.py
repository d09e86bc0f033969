"""Values of a caller to plain ones: what a template gets is a copy, of limited size and depth."""

import math
from collections.abc import Mapping
from typing import Any

MOST_DEPTH = 64
"""Largest number of lists and mappings around a value."""
MOST_VALUES = 300_000
"""Largest number of values of one call."""
MOST_BITS = 1024
"""Largest number of bits of a whole number."""


class PlainCopier:
    """Copies values of plain kinds until so many characters and values have been copied."""

    def __init__(self, what: str, most_characters: int, most_values: int = MOST_VALUES) -> None:
        self.what = what  # what is copied, for the errors
        self.most_characters = most_characters
        self.most_values = most_values
        self._characters = self._values = 0

    def copy(self, value: Any, place: str, depth: int = 0) -> Any:
        """The value as str, int, float, bool, None, list or dict; ValueError, with its place, for any other."""
        self._values += 1
        if self._values > self.most_values:
            raise ValueError(f"{self.what} must hold at most {self.most_values:,} values: leave some out")
        if value is None or type(value) is bool:
            return value
        if isinstance(value, str):
            return self._copy_text(str.__str__(value), place)
        if isinstance(value, int):
            if int.bit_length(value) > MOST_BITS:
                raise ValueError(f"{place}: a whole number must have at most {MOST_BITS} bits; give it as a text")
            return int(value)
        if isinstance(value, float):
            if not math.isfinite(value):
                raise ValueError(f"{place}: a number must be finite, got {value!r}; give it as a text")
            return float(value)
        if isinstance(value, Mapping | list | tuple):
            if depth == MOST_DEPTH:
                raise ValueError(f"{place}: values must be nested at most {MOST_DEPTH} deep, and never in a circle")
            if isinstance(value, Mapping):
                return {self._copy_name(name, place): self.copy(value[name], place, depth + 1) for name in value}
            return [self.copy(each, place, depth + 1) for each in value]
        raise ValueError(
            f"{place}: {self.what} must hold plain values only (strings, numbers, lists and mappings), "
            f"got {type(value).__name__}"
        )

    def _copy_name(self, name: Any, place: str) -> str:
        if not isinstance(name, str):
            raise ValueError(f"{place}: the keys of a mapping must be texts, got {name!r:.40}")
        return self._copy_text(str.__str__(name), place)

    def _copy_text(self, text: str, place: str) -> str:
        self._characters += len(text)
        if self._characters > self.most_characters:
            raise ValueError(f"{self.what} must hold at most {self.most_characters:,} characters: shorten them")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"{place}: the text has half a character (a lone surrogate, {text[error.start]!r}) at index "
                f'{error.start}; decode its bytes with errors="replace"'
            ) from None
        return text
