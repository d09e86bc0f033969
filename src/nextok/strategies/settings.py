"""A setting of Greedy or Sample: a field that says which transform it makes, and how the command line asks for it."""

from collections.abc import Iterator
from dataclasses import Field, dataclass, field, fields
from typing import Any

from nextok.checks import is_number
from nextok.sampling.sampler import Transform

METADATA = "setting"
"""Key of a field's metadata."""


@dataclass(frozen=True, slots=True)
class Setting:
    """The transform of a field, which is applied in the order of the fields.

    `neutral`: the values that mean no transform. `metavar` and `text`: the words of the option, none if `metavar` is
    empty. `numbers`: of a field that takes the record itself, how its option spells the record's numbers.
    `option`: the option's name where it is not the field's.
    """

    record: type[Any]
    neutral: tuple[float | None, ...] = (None,)
    metavar: str = ""
    text: str = ""
    numbers: str = ""
    option: str = ""

    def make(self, name: str, value: Any) -> Transform | None:
        """The transform of this value, or None; ValueError if it is out of range."""
        if (value is None or is_number(value)) and value in self.neutral:
            return None
        if self.numbers and not isinstance(value, self.record):
            raise ValueError(f"{name} must be a {self.record.__name__}(...), got {value!r}")
        made: Transform = value if self.numbers else self.record(value)
        return made


def setting(record: type[Transform], default: Any = None, **words: Any) -> Any:
    """A field with this transform; `words` are the other fields of its Setting."""
    return field(default=default, metadata={METADATA: Setting(record, **words)})


def settings_of(kind: Any) -> Iterator[tuple[Field[Any], Setting]]:
    """The fields of a class, or of an object, that are settings, in their order."""
    return ((each, each.metadata[METADATA]) for each in fields(kind) if METADATA in each.metadata)


def transforms_of(settings: Any) -> dict[str, Transform]:
    """The transforms that are set, by field, in the order in which they are applied."""
    made = ((each.name, how.make(each.name, getattr(settings, each.name))) for each, how in settings_of(settings))
    return {name: transform for name, transform in made if transform is not None}
