"""A JSON schema as a grammar of JSON texts that all fit it; what cannot be kept is refused."""

import re
from typing import Any

from nextok.grammar.branches import Branch, Schema
from nextok.grammar.keywords import check_values, refuse
from nextok.grammar.shapes import Shapes
from nextok.grammar.writing import Writer, find_possible

WIDE_RULES = 60
"""Number of rules to look through to find out whether a value can fit two schemas at once."""


def translate_schema(schema: dict[str, Any] | bool, stem: str = "") -> str:
    """The grammar, as llguidance reads it; ValueError if the schema cannot be kept.

    The first line is `start: NAME`. The names of all rules begin with `stem`, so that several schemas can stand in
    one grammar.
    """
    check_values(schema)
    spacing = _read_spacing(schema.get("x-guidance", {}) if isinstance(schema, dict) else {})
    whole = Schema(schema)

    def never_both(branch: Branch, where: str) -> bool:
        wide = Shapes(whole, wide=True, most=WIDE_RULES)
        wide.build([branch], where)
        return not find_possible(wide.rules)[0]

    whole.never_both = never_both
    shapes = Shapes(whole)
    shapes.build(whole.list_branches(whole.get_part("#", schema)), "#")
    return Writer(shapes, *spacing, stem).write()


def _read_spacing(options: Any) -> tuple[str, str, bool]:
    """What stands between two items, what between a name and its value, and whether there may be more white space."""
    known: dict[str, Any] = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False}
    if not isinstance(options, dict) or options.keys() - known.keys():
        raise refuse("#/x-guidance", f"its options are {', '.join(known)}, got {options!r:.80}")
    known |= options
    for name, mark in (("item_separator", ","), ("key_separator", ":")):
        if not isinstance(known[name], str) or not re.fullmatch(
            f"[ \t\r\n]{{0,20}}{mark}[ \t\r\n]{{0,20}}", known[name]
        ):
            raise refuse(
                f"#/x-guidance/{name}", f"it must be {mark!r}, with white space or without, got {known[name]!r:.40}"
            )
    if not isinstance(known["whitespace_flexible"], bool):
        raise refuse(
            "#/x-guidance/whitespace_flexible", f"it must be true or false, got {known['whitespace_flexible']!r:.40}"
        )
    return str(known["item_separator"]), str(known["key_separator"]), bool(known["whitespace_flexible"])
