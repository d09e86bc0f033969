"""Commands take their options in records, so that options which several commands share are written once."""

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Annotated, Any

from nextok.cli.flags import option


@dataclass(frozen=True, slots=True)
class CommonFlags:
    """The options of every command; `main` has applied them before the command runs."""

    no_color: Annotated[bool, option("--no-color", text="No color, as with NO_COLOR set.")] = False
    debug: Annotated[bool, option("--debug", text="Show the full traceback of an error.")] = False


def build_command(function: Callable[..., None]) -> Callable[..., None]:
    """The function as typer needs it: each field of a parameter that is a dataclass becomes an option."""
    parameters = list(inspect.signature(function).parameters.values())
    records: dict[str, Any] = {each.name: each.annotation for each in parameters if is_dataclass(each.annotation)}
    plain = [each.replace(kind=each.KEYWORD_ONLY) for each in parameters if each.name not in records]
    expanded = [each for record in (*records.values(), CommonFlags) for each in _list_options(record)]

    def run(**values: Any) -> None:
        for each in fields(CommonFlags):
            del values[each.name]
        for name, record in records.items():
            values[name] = record(*(values.pop(each.name) for each in fields(record)))
        function(**values)

    run.__doc__ = function.__doc__
    run.__signature__ = inspect.Signature([*plain, *expanded])  # type: ignore[attr-defined]
    return run


def _list_options(record: Any) -> list[inspect.Parameter]:
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=field.type,
        )
        for field in fields(record)
    ]
