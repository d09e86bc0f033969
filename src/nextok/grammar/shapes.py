"""The shapes of the values that fit a schema: what stands in a list or an object is named by the number of a rule.

A rule is a list of shapes. Where there are schemas that speak of the same value, there is one rule for all of them
together, so references that lead in a circle end in the same rule.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from typing import Any

from nextok.grammar.branches import Behind, Branch, NotYetKnown, Others, Part, Rules, Schema
from nextok.grammar.keywords import refuse
from nextok.grammar.patterns import quote_text, translate_pattern
from nextok.grammar.scalars import find_least, find_types, find_values, identify, list_words, write_numbers
from nextok.grammar.texts import Texts, find_in, list_rules, translate

MOST_RULES = 2000
"""Largest number of rules of one schema."""
MOST_PATTERNS = 5
"""Largest number of different patterns for the members of one object."""
MOST_MATCHES = 500
"""Largest number of names times patterns of one object."""
MOST_DISTINCT = 30
"""Largest number of values of which a list can hold each once."""
FIRST_PLACES = 4
"""Number of places of a list where what it must contain can begin."""


@dataclass(frozen=True, slots=True)
class Lexeme:
    """A value that is written in one go; `expression` is one of llguidance's terminals."""

    expression: str


@dataclass(frozen=True, slots=True)
class ListShape:
    """A list."""

    prefix: tuple[int, ...]
    rest: int
    least: int
    most: int | None


@dataclass(frozen=True, slots=True)
class DistinctShape:
    """A list of some of these values, each at most once, as expressions."""

    values: tuple[str, ...]
    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Member:
    """A member of an object."""

    name: str
    value: int
    required: bool


@dataclass(frozen=True, slots=True)
class ObjectShape:
    """An object: its named members in their order, and then others, each as an expression of its name and a rule."""

    members: tuple[Member, ...]
    others: tuple[tuple[str, int], ...]
    least: int
    most: int | None
    where: str


Shape = Lexeme | ListShape | DistinctShape | ObjectShape


class Shapes:
    """The rules of a schema. `wide`: of more values than fit, to find out whether there may be any."""

    def __init__(self, schema: Schema, wide: bool = False, most: int = MOST_RULES) -> None:
        self.schema = schema
        self.wide = wide
        self.most = most
        self.rules: list[list[Shape] | None] = []  # None: not known
        self.notes: list[str] = []  # why there is nothing, where there is nothing
        self._numbers: dict[frozenset[Part], int] = {}
        self._waiting: list[tuple[int, tuple[Part, ...]]] = []

    def build(self, branches: list[Branch], where: str) -> None:
        """Rule 0 for a value that keeps one of these branches, and the rules of all that it needs."""
        self.rules.append(None)
        with suppress(NotYetKnown):  # only where `wide`, and then there may be such values
            self.rules[0] = self._list_shapes(branches, where)
        for number, parts in self._waiting:  # which grows
            if len(self.rules) > self.most and not self.wide:
                raise refuse(where, f"it needs over {self.most:,} rules; use fewer schemas inside each other")
            if len(self.rules) > self.most:
                return
            with suppress(NotYetKnown):
                self.rules[number] = self._list_shapes(
                    self.schema.cross_all(parts), parts[0].where if parts else where
                )

    def _get_rule(self, parts: Iterable[Part]) -> int:
        kept = tuple(dict.fromkeys(part for part in parts if part.rules is not True))
        key = frozenset(kept)
        if key not in self._numbers:
            self._numbers[key] = len(self.rules)
            self.rules.append(None)
            self._waiting.append((self._numbers[key], kept))
        return self._numbers[key]

    def _list_shapes(self, branches: list[Branch], where: str) -> list[Shape]:
        self.schema.count(10 * len(branches), where)
        shapes: dict[Shape, None] = {}
        for branch in branches:
            own = [each for each in branch if isinstance(each, Rules)]
            types = find_types([each.rules for each in own])
            values = find_values([each.values for each in own])
            found: list[Shape | None] = [Lexeme(f"/{word}/") for word in list_words(values, types)]
            found.append(self._make_text(own, values) if "string" in types else None)
            found.append(self._make_number(own, values, types) if {"integer", "number"} & types else None)
            if values is None:
                found += self._make_list(branch, own) if "array" in types else []
                found.append(self._make_object(branch, own) if "object" in types else None)
            shapes |= dict.fromkeys(shape for shape in found if shape)
        if not shapes and len(self.notes) < 9:
            self.notes.append(f"{where:.100}: no value fits")
        return list(shapes)

    def _make_number(self, own: list[Rules], values: list[Any] | None, types: set[str]) -> Lexeme | None:
        expression = write_numbers([(each.rules, each.where) for each in own], values, types, self.wide)
        if expression is None and values is None:
            self._note(own, "no number fits")
        return None if expression is None else Lexeme(expression)

    def _make_text(self, own: list[Rules], values: list[Any] | None) -> Lexeme | None:
        texts = self._list_texts(own, values)
        if texts and (len(texts.needed) > 1 or texts.banned):
            self.schema.count(120, own[0].where if own else "#")
        if texts and texts.is_empty(own[0].where if own else "#"):
            self._note(own, "no text fits")
            return None
        return Lexeme(texts.write()) if texts else None

    def _list_texts(self, own: list[Rules], values: list[Any] | None) -> Texts | None:
        texts = Texts()
        if values is not None:
            literals = [quote_text(value) for value in values if isinstance(value, str)]
            if not literals:
                return None
            texts = texts.add(("(?:" + "|".join(literals) + ")",))
        for each in own:
            found = list_rules(each.rules, each.where, self.wide)
            texts = texts.add(found.needed, found.banned + tuple(map(quote_text, each.banned)))
        return texts

    def _note(self, own: list[Rules], reason: str) -> None:
        if len(self.notes) < 9:
            self.notes.append(f"{own[0].where if own else '#':.100}: {reason}")

    # Lists

    def _make_list(self, branch: Branch, own: list[Rules]) -> Sequence[Shape]:
        behind = [each for each in branch if isinstance(each, Behind)]
        count = max([0, *(len(each.prefix) for each in own), *(each.skip for each in behind)])
        places = [
            [each.prefix[place] for each in own if place < len(each.prefix)]
            + [each.part for each in behind if place >= each.skip]
            for place in range(count)
        ]
        rest = [each.part for each in behind]
        least = int(max([0, *(each.rules.get("minItems", 0) for each in own)]))
        most = find_least([each.rules.get("maxItems") for each in own])
        if not self.wide and (most is None or most > 1):
            for each in own:
                if each.rules.get("uniqueItems"):
                    return self._make_distinct(own, places, rest, least, most, f"{each.where}/uniqueItems")
        return self._add_contained(own, places, rest, least, most)

    def _make_distinct(
        self, own: list[Rules], places: list[list[Part]], rest: list[Part], least: int, most: int | None, where: str
    ) -> list[DistinctShape]:
        """The list of different values; ValueError unless these are known one by one."""
        found: dict[Any, str] = {}
        known = not places and not any("contains" in each.rules for each in own)
        for branch in self.schema.cross_all(rest) if known else [()]:
            values = find_values([each.values for each in branch if isinstance(each, Rules)])
            if values is None or len(values) > MOST_DISTINCT:
                raise refuse(where, f"it is kept for items that are one of at most {MOST_DISTINCT} texts or numbers "
                             "(enum); leave it out, or use an object whose names are the items")  # fmt: skip
            for value in values:
                for shape in self._list_shapes([(*branch, Rules({}, where, values=(value,)))], where):
                    assert isinstance(shape, Lexeme)
                    found[identify(value)] = shape.expression
        if len(found) > MOST_DISTINCT:
            raise refuse(where, f"it is kept for at most {MOST_DISTINCT} values")
        bound = len(found) if most is None else min(most, len(found))
        return [DistinctShape(tuple(found.values()), least, bound)]

    def _add_contained(
        self, own: list[Rules], places: list[list[Part]], rest: list[Part], least: int, most: int | None
    ) -> list[ListShape]:
        """Lists with what they must contain at one of the first places."""
        holders = [] if self.wide else [each for each in own if "contains" in each.rules]
        needed = [(each, int(each.rules.get("minContains", 1))) for each in holders]
        if holders and ("maxContains" in holders[0].rules or len(holders) > 1):
            raise refuse(f"{holders[0].where}/contains", "maxContains, or contains twice, is not supported")
        if not needed or not needed[0][1]:
            return [self._shape_list(places, rest, least, most)]
        holder, count = needed[0]
        if count > 50:
            raise refuse(f"{holder.where}/minContains", "it may be at most 50")
        part = self.schema.get_part(f"{holder.where}/contains", holder.rules["contains"])
        shapes = []
        for start in range(FIRST_PLACES):
            longer = places + [rest] * (start + count - len(places))
            held = [[*parts, part] if start <= place < start + count else parts for place, parts in enumerate(longer)]
            shapes.append(self._shape_list(held, rest, max(least, start + count), most))
        return shapes

    def _shape_list(self, places: list[list[Part]], rest: list[Part], least: int, most: int | None) -> ListShape:
        places = places if most is None else places[:most]
        return ListShape(tuple(map(self._get_rule, places)), self._get_rule(rest), least, most)

    # Objects

    def _make_object(self, branch: Branch, own: list[Rules]) -> ObjectShape | None:
        others = [each for each in branch if isinstance(each, Others)]
        required = {name: None for each in own for name in each.rules.get("required", [])}
        names = [*dict.fromkeys([name for each in own for name in each.names] + [*required])]
        patterns = [*dict.fromkeys(pattern for each in own for pattern in each.patterns)]
        where = own[0].where if own else "#"
        if len(patterns) > MOST_PATTERNS or len(patterns) * len(names) > MOST_MATCHES:
            raise refuse(
                where,
                f"at most {MOST_PATTERNS} patternProperties can be kept, and {MOST_MATCHES} names times patterns",
            )
        for each in own:
            for pattern in each.patterns:
                translate(pattern, f"{each.where}/patternProperties", self.wide)
        allowed = self._list_names(own)
        members = []
        for name in names:
            found = {pattern for pattern in patterns if find_in(pattern, name, where)}
            fits = (
                any(not each.add((quote_text(name),)).is_empty(where) for each in allowed)
                if allowed != [Texts()]
                else True
            )
            parts = [each.names[name] for each in own if name in each.names]
            parts += _list_parts(own, [each for each in others if name not in each.names], found)
            if fits and not any(part.rules is False for part in parts):
                members.append(Member(name, self._get_rule(parts), name in required))
            elif name in required:
                self._note(own, f"the required member {name!r:.40} is not allowed")
                return None
        least = int(max([0, *(each.rules.get("minProperties", 0) for each in own)]))
        most = find_least([each.rules.get("maxProperties") for each in own])
        extra = self._list_others(own, others, names, patterns, allowed, where)
        if extra and least > len(members) + 1 and not self.wide:
            raise refuse(f"{where}/minProperties", "of members without a name of their own only one can be counted; "
                         "name more in properties")  # fmt: skip
        return ObjectShape(tuple(members), extra, 0 if extra and self.wide else least, most, where)

    def _list_names(self, own: list[Rules]) -> list[Texts]:
        """The names that `propertyNames` allows: one of these sets."""
        parts = [
            self.schema.get_part(f"{each.where}/propertyNames", each.rules["propertyNames"])
            for each in own
            if "propertyNames" in each.rules
        ]
        if not parts:
            return [Texts()]
        found = []
        for branch in self.schema.cross_all(parts):
            rules = [each for each in branch if isinstance(each, Rules)]
            if "string" in find_types([each.rules for each in rules]) and (
                texts := self._list_texts(rules, find_values([each.values for each in rules]))
            ):
                found.append(texts)
        return found

    def _list_others(
        self,
        own: list[Rules],
        others: list[Others],
        names: list[str],
        patterns: list[str],
        allowed: list[Texts],
        where: str,
    ) -> tuple[tuple[str, int], ...]:
        """Members without a name of their own, by which of the patterns are found in their names."""
        found = []
        for chosen in product((False, True), repeat=len(patterns)):
            inside = {pattern for pattern, taken in zip(patterns, chosen) if taken}
            parts = _list_parts(own, others, inside)
            if any(part.rules is False for part in parts):
                continue
            needed = tuple(translate_pattern(each, self.wide) for each in patterns if each in inside)
            banned = tuple(translate_pattern(each, not self.wide) for each in patterns if each not in inside)
            banned = tuple(map(quote_text, names)) + banned
            for texts in allowed:
                if not (keys := texts.add(needed, banned)).is_empty(where):
                    found.append((keys.write(), self._get_rule(parts)))
        return tuple(found)


def _list_parts(own: list[Rules], others: list[Others], found: set[str]) -> list[Part]:
    """The schemas of a member in whose name these patterns are found, without those of its own name."""
    parts = [part for each in own for pattern, part in each.patterns.items() if pattern in found]
    return parts + [each.part for each in others if not found.intersection(each.patterns)]
