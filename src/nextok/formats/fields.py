"""Settings of a file: the type and the range of every value are checked when it is read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nextok.errors import ModelFileError
from nextok.formats.files import quote


@dataclass(frozen=True, slots=True)
class Fields:
    """A mapping of settings whose names share a prefix; None counts as absent, as in JSON configurations.

    `absent` is the value of a setting that is not there; where it is None, the setting is required. Each method
    raises ModelFileError for a missing or wrong value.
    """

    values: Mapping[str, Any]
    prefix: str = ""

    def read_integer(self, name: str, most: int, absent: int | None = None, least: int = 1) -> int:
        """A whole number from `least` to `most`."""
        value = self._find_value(name, absent)
        if type(value) is int and least <= value <= most:
            return value
        raise self._make_error(name, value, f"a whole number from {least} to {most}")

    def read_number(self, name: str, least: float, most: float, absent: float | None = None) -> float:
        """A number from `least` to `most`, whole or not; never NaN."""
        value = self._find_value(name, absent)
        if type(value) in (int, float) and least <= value <= most:
            return float(value)
        raise self._make_error(name, value, f"a number from {least:g} to {most:g}")

    def read_text(self, name: str, absent: str | None = None) -> str:
        """A string."""
        value = self._find_value(name, absent)
        if isinstance(value, str):
            return value
        raise self._make_error(name, value, "a string")

    def read_flag(self, name: str, absent: bool | None = None) -> bool:
        """True or False."""
        value = self._find_value(name, absent)
        if isinstance(value, bool):
            return value
        raise self._make_error(name, value, "true or false")

    def allow_only(self, name: str, *allowed: object) -> None:
        """ModelFileError unless the setting is absent or one of the values that nextok computes."""
        value = self.values.get(self.prefix + name)
        if value is not None and value not in allowed:
            raise self._make_error(name, value, " or ".join(map(quote, allowed)) or "absent")

    def _find_value(self, name: str, absent: object) -> Any:
        value = self.values.get(self.prefix + name)
        value = absent if value is None else value
        if value is None:
            raise ModelFileError(f"{self.prefix}{name} is missing, but required: download the model again")
        return value

    def _make_error(self, name: str, value: object, rule: str) -> ModelFileError:
        return ModelFileError(
            f"{self.prefix}{name} is {quote(value)}, but nextok needs {rule}: "
            "the file is damaged, or of another kind of model"
        )
