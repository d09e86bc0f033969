"""The rules of a schema's values, written as a grammar in llguidance's variant of Lark."""

from nextok.grammar.keywords import refuse
from nextok.grammar.patterns import quote_text
from nextok.grammar.shapes import DistinctShape, Lexeme, ListShape, Member, ObjectShape, Shape, Shapes

MOST_STATES = 4000
"""Largest number of rules for one object whose members are counted."""


def find_possible(rules: list[list[Shape] | None]) -> list[bool]:
    """Which rules have a text that ends; those that are not known count as such."""
    possible = [shapes is None for shapes in rules]
    changed = True
    while changed:
        changed = False
        for number, shapes in enumerate(rules):
            if not possible[number] and any(_is_possible(shape, possible) for shape in shapes or []):
                possible[number] = changed = True
    return possible


def _is_possible(shape: Shape, possible: list[bool]) -> bool:
    if isinstance(shape, Lexeme):
        return True
    if isinstance(shape, DistinctShape):
        return shape.least <= shape.most
    if isinstance(shape, ListShape):
        most = _bound_list(shape, possible)
        return most is None or shape.least <= most
    if not all(possible[member.value] for member in shape.members if member.required):
        return False
    named = sum(possible[member.value] for member in shape.members)
    needed = sum(member.required for member in shape.members)
    count = named + any(possible[value] for _, value in shape.others)
    return shape.least <= count and (shape.most is None or needed <= shape.most >= shape.least)


def _bound_list(shape: ListShape, possible: list[bool]) -> int | None:
    """The largest number of items that there can be."""
    for place, value in enumerate(shape.prefix):
        if not possible[value]:
            return place if shape.most is None else min(place, shape.most)
    if possible[shape.rest]:
        return shape.most
    return len(shape.prefix) if shape.most is None else min(len(shape.prefix), shape.most)


class Writer:
    """Writes the rules in llguidance's variant of Lark; their names begin with `stem`."""

    def __init__(self, shapes: Shapes, between: str, colon: str, flexible: bool, stem: str = "") -> None:
        self._shapes = shapes
        self._possible = find_possible(shapes.rules)
        self._between = self._quote(between.strip() if flexible else between)
        self._colon = self._quote(colon.strip() if flexible else colon)
        self._flexible = flexible
        self._stem = stem
        self._lines: list[str] = []
        self._lexemes: dict[str, str] = {}

    def write(self) -> str:
        """The whole grammar; ValueError if no text fits the schema."""
        if not self._possible[0]:
            reason = self._shapes.notes[0] if self._shapes.notes else "#: no text that ends fits"
            raise ValueError(f"the JSON schema is unsatisfiable: {reason}")
        for number, shapes in enumerate(self._shapes.rules):
            if self._possible[number]:
                fitting = [shape for shape in shapes or [] if _is_possible(shape, self._possible)]
                self._add_rule(
                    self._name_rule(number),
                    [self._write_shape(shape, f"{self._name_rule(number)}x{i}") for i, shape in enumerate(fitting)],
                )
        lexemes = [f"{name}: {expression}" for expression, name in self._lexemes.items()]
        ignored = ["%ignore /[\\x{20}\\x{a}\\x{d}\\x{9}]+/"] if self._flexible else []
        return "\n".join([f"start: {self._name_rule(0)}", *self._lines, *lexemes, *ignored])

    @staticmethod
    def _quote(text: str) -> str:
        return "/" + "".join(f"\\x{{{ord(letter):x}}}" for letter in text) + "/"

    def _add_rule(self, name: str, options: list[str]) -> None:
        self._lines.append(f"{name}: " + " | ".join(options))

    def _name_rule(self, number: int) -> str:
        return f"{self._stem}r{number}"

    def _name_lexeme(self, expression: str) -> str:
        return self._lexemes.setdefault(expression, f"{self._stem.upper()}L{len(self._lexemes)}")

    def _write_shape(self, shape: Shape, name: str) -> str:
        if isinstance(shape, Lexeme):
            return self._name_lexeme(shape.expression)
        if isinstance(shape, DistinctShape):
            return f'"[" {self._write_distinct(shape, name)} "]"'
        inside = self._write_list(shape, name) if isinstance(shape, ListShape) else self._write_object(shape, name)
        return f'"[" {inside} "]"' if isinstance(shape, ListShape) else f'"{{" {inside} "}}"'

    def _write_list(self, shape: ListShape, name: str) -> str:
        """The items, from the last: a rule for each with a place of its own, and for all that follows it."""
        most = _bound_list(shape, self._possible)
        count = len(shape.prefix) if most is None else min(len(shape.prefix), most)
        inside = ""
        if most is None or most > count:
            inside = self._repeat(
                self._name_rule(shape.rest),
                count > 0,
                max(0, shape.least - count),
                None if most is None else most - count,
            )
        for place in reversed(range(count)):
            before = f"{self._separator} " if place else ""
            inside = f"{before}{self._name_rule(shape.prefix[place])} {inside}".strip()
            self._add_rule(f"{name}p{place}", [inside] if place < shape.least else [inside, '""'])
            inside = f"{name}p{place}"
        return inside

    def _write_distinct(self, shape: DistinctShape, name: str) -> str:
        """The items: a rule for what may follow, with a bit for each value that stands before it."""
        if shape.most == 0:
            return ""
        values = [self._name_lexeme(value) for value in shape.values]
        more = [f'"" %if bit_count_ge(_, {shape.least})']
        for place, value in enumerate(values):
            free = f"and(bit_clear({place}), bit_count_lt(_, {shape.most}))"
            more.append(f"{self._separator} {value} {name}d::set_bit({place}) %if {free}")
        self._add_rule(f"{name}d::_", more)
        first = [f"{value} {name}d::{1 << place}" for place, value in enumerate(values)]
        self._add_rule(f"{name}f", first if shape.least else [*first, '""'])
        return f"{name}f"

    @property
    def _separator(self) -> str:
        return self._name_lexeme(self._between)

    def _repeat(self, item: str, inside: bool, least: int, most: int | None) -> str:
        """An item so many times; `inside`: behind another one."""
        if most == 0:
            return ""
        if inside:
            return f"({self._separator} {item}){{{least},{'' if most is None else most}}}"
        more = self._repeat(item, True, max(0, least - 1), None if most is None else most - 1)
        return f"{item} {more}" if least else f"({item} {more})?"

    def _write_object(self, shape: ObjectShape, name: str) -> str:
        """The members: a rule for what may follow each of them, by how many there are before it."""
        members = [member for member in shape.members if self._possible[member.value]]
        pairs = [
            f"{self._name_lexeme(names)} {self._name_lexeme(self._colon)} {self._name_rule(value)}"
            for names, value in shape.others
            if self._possible[value]
        ]
        if pairs:
            self._add_rule(f"{name}o", pairs)
        return self._write_members(shape, members, f"{name}o" if pairs else "", name)

    def _write_members(self, shape: ObjectShape, members: list[Member], other: str, name: str) -> str:
        """A rule for each member and number of members before it, which is counted as far as it matters."""
        most, cap = shape.most, len(members) if shape.most is not None else max(shape.least, 1)
        reached = [{0}]
        for member in members:
            taken = {min(count + 1, cap) for count in reached[-1] if most is None or count < most}
            reached.append(taken if member.required else taken | reached[-1])
        if sum(map(len, reached)) > MOST_STATES:
            raise refuse(shape.where, "it counts too many members; leave out minProperties or maxProperties")
        after: dict[int, str | None] = {count: self._write_end(shape, other, count) for count in reached[-1]}
        for place in reversed(range(len(members))):
            member = members[place]
            here: dict[int, str | None] = {}
            for count in reached[place]:
                then = after.get(min(count + 1, cap)) if most is None or count < most else None
                skipped = None if member.required else after.get(count)
                separator = f"{self._separator} " if count else ""
                taken_first = [] if then is None else [f"{separator}{self._write_pair(member)} {then}".strip()]
                options = taken_first + ([] if skipped is None else [skipped or '""'])
                if options:
                    here[count] = rule = f"{name}m{place}c{count}"
                    self._add_rule(rule, options)
            after = here
        return after.get(0) or ""

    def _write_end(self, shape: ObjectShape, other: str, count: int) -> str | None:
        """What may follow the members that have a name, of which there are so many; None if nothing may."""
        if not other:
            return "" if count >= shape.least else None
        most = None if shape.most is None else shape.most - count
        least = 0 if count >= shape.least else 1
        if count + 1 < shape.least or (most is not None and least > most):
            return None
        return self._repeat(other, count > 0, least, most)

    def _write_pair(self, member: Member) -> str:
        """A member of an object."""
        key = self._name_lexeme(f'/"{quote_text(member.name)}"/')
        return f"{key} {self._name_lexeme(self._colon)} {self._name_rule(member.value)}"
