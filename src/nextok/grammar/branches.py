"""A JSON schema taken apart: each schema as branches, of which a text must keep one, and of that one every rule."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import product
from typing import Any
from urllib.parse import unquote

from nextok.grammar.keywords import TYPES, check_keywords, refuse

MOST_BRANCHES = 400
"""Largest number of branches of one place of a schema."""
MOST_STEPS = 100_000
"""Largest number of branches made for one schema; a rule counts 10, and a question whether there is a text 120."""
DEEPEST_REFERENCES = 60
"""Largest number of schemas that speak of the same value, each reached from another by $ref, allOf or the like."""


@dataclass(frozen=True, eq=False, slots=True)
class Part:
    """A schema inside the schema. The same place is always the same object."""

    rules: dict[str, Any] | bool
    where: str  # JSON pointer


@dataclass(frozen=True, eq=False, slots=True)
class Rules:
    """The keywords of one schema that need no other schema of the same value."""

    rules: dict[str, Any]
    where: str
    values: tuple[Any, ...] | None = None  # null, booleans, numbers and texts: those that are allowed
    banned: tuple[str, ...] = ()  # texts that are not
    names: dict[str, Part] = field(default_factory=dict)
    patterns: dict[str, Part] = field(default_factory=dict)
    prefix: tuple[Part, ...] = ()
    evaluates: bool = True  # whether its names and items count for unevaluatedProperties and unevaluatedItems


@dataclass(frozen=True, eq=False, slots=True)
class Others:
    """The schema of all members but those with these names, or in whose names one of these patterns is found."""

    names: frozenset[str]
    patterns: tuple[str, ...]
    part: Part
    evaluates: bool = True


@dataclass(frozen=True, eq=False, slots=True)
class Behind:
    """The schema of all items behind so many."""

    skip: int
    part: Part
    evaluates: bool = True


Branch = tuple[Rules | Others | Behind, ...]


class NotYetKnown(Exception):
    """The branches of a schema are asked for while they are being listed, of a value inside its value."""


class Schema:
    """A schema, and the branches of its parts."""

    def __init__(self, root: dict[str, Any] | bool) -> None:
        self.root = root
        self.steps = 0
        self.never_both: Callable[[Branch, str], bool] = lambda branch, where: False
        self._parts: dict[str, Part] = {}
        self._branches: dict[Part, list[Branch]] = {}
        self._begun: set[Part] = set()

    def get_part(self, where: str, rules: Any) -> Part:
        """The schema at this place; `rules` are what stands there."""
        return self._parts.setdefault(where, Part(rules, where))

    def list_branches(self, part: Part, inside: tuple[Part, ...] = ()) -> list[Branch]:
        """The branches of a schema; `inside` are the schemas of the same value on the way to it."""
        if part in inside:
            raise refuse(part.where, "this $ref leads back to itself without an item or a member in between")
        if len(inside) >= DEEPEST_REFERENCES:
            raise refuse(part.where, f"over {DEEPEST_REFERENCES} schemas of one value refer to each other")
        if part in self._begun:
            raise NotYetKnown
        if part not in self._branches:
            self._begun.add(part)
            try:
                self._branches[part] = self._take_apart(part, (*inside, part))
            finally:
                self._begun.remove(part)
        return self._branches[part]

    def cross(self, left: list[Branch], right: list[Branch], where: str) -> list[Branch]:
        """The branches of a value that keeps both."""
        self.count(len(left) * len(right), where)
        if len(left) * len(right) > MOST_BRANCHES:
            raise refuse(where, f"its anyOf, oneOf and the like have over {MOST_BRANCHES} combinations; use fewer")
        return left if right == [()] else [_merge(one, other) for one, other in product(left, right)]

    def count(self, steps: int, where: str) -> None:
        """ValueError if all that is done for this schema is too much."""
        self.steps += steps
        if self.steps > MOST_STEPS:
            raise refuse(where, "the schema is too complex; use fewer schemas in anyOf and oneOf")

    def cross_all(self, parts: Iterable[Part]) -> list[Branch]:
        """The branches of a value that keeps all these schemas."""
        branches: list[Branch] = [()]
        for part in parts:
            branches = self.cross(branches, self.list_branches(part), part.where)
        return branches

    def _take_apart(self, part: Part, inside: tuple[Part, ...]) -> list[Branch]:
        rules, where = part.rules, part.where
        if isinstance(rules, bool):
            return [()] if rules else []
        check_keywords(rules, where)
        if isinstance(rules.get("$id"), str) and where != "#":
            raise refuse(f"{where}/$id", "a schema inside the schema must have no $id; use $defs and $ref")
        if "if" in rules and ("then" in rules or "else" in rules):
            raise refuse(f"{where}/if", "if, then and else are not supported; use anyOf with a const in each case")
        branches: list[Branch] = self.cross([self._own_rules(part, rules)], self._list_values(part, rules), where)
        for inner in self._list_inner(part, rules):
            branches = self.cross(branches, self.list_branches(inner, inside), inner.where)
        if "anyOf" in rules:
            options = [self.list_branches(each, inside) for each in self._sub_list(part, "anyOf")]
            branches = self.cross(branches, [branch for each in options for branch in each], f"{where}/anyOf")
        branches = self._add_dependent(part, rules, branches, inside)
        if "oneOf" in rules:
            branches = self._add_one_of(part, branches, inside)
        if "not" in rules:
            branches = self._add_not(part, rules["not"], branches, inside)
        return [self._add_unevaluated(part, rules, branch) for branch in branches]

    def _own_rules(self, part: Part, rules: dict[str, Any]) -> Branch:
        names = self._sub_map(part, "properties")
        patterns = self._sub_map(part, "patternProperties")
        prefix = tuple(self._sub_list(part, "prefixItems"))
        found: list[Rules | Others | Behind] = [
            Rules(rules, part.where, names=names, patterns=patterns, prefix=prefix)
        ]
        if "additionalProperties" in rules:
            found.append(Others(frozenset(names), tuple(patterns), self._sub(part, "additionalProperties")))
        if "items" in rules:
            found.append(Behind(len(prefix), self._sub(part, "items")))
        return tuple(found)

    def _list_values(self, part: Part, rules: dict[str, Any]) -> list[Branch]:
        """The branches of `enum` and `const`."""
        branches: list[Branch] = [()]
        for keyword in ("enum", "const"):
            if keyword not in rules:
                continue
            values = rules["enum"] if keyword == "enum" else [rules["const"]]
            where = f"{part.where}/{keyword}"
            plain = tuple(value for value in values if not isinstance(value, dict | list))
            options: list[Branch] = [(Rules({}, where, values=plain),)] if plain else []
            for place, value in enumerate(values):
                if isinstance(value, dict | list):
                    options.append(self._expect(value, f"{where}/{place}"))
            branches = self.cross(branches, options, where)
        return branches

    def _expect(self, value: Any, where: str) -> Branch:
        """The branch of a value that is this list or object."""
        if isinstance(value, list):
            parts = tuple(self.get_part(f"{where}/={i}", {"const": each}) for i, each in enumerate(value))
            none = Behind(len(value), self.get_part(f"{where}/=none", False), evaluates=False)
            rules = {"type": "array", "minItems": len(value)}
            return Rules(rules, where, prefix=parts, evaluates=False), none
        names = {name: self.get_part(f"{where}/={name}", {"const": each}) for name, each in value.items()}
        others = Others(frozenset(value), (), self.get_part(f"{where}/=none", False), evaluates=False)
        return Rules({"type": "object", "required": [*value]}, where, names=names, evaluates=False), others

    def _list_inner(self, part: Part, rules: dict[str, Any]) -> list[Part]:
        inner = [self._find(rules["$ref"], part.where)] if "$ref" in rules else []
        return inner + self._sub_list(part, "allOf")

    def _add_dependent(
        self, part: Part, rules: dict[str, Any], branches: list[Branch], inside: tuple[Part, ...]
    ) -> list[Branch]:
        for name, needed in rules.get("dependentRequired", {}).items():
            where = f"{part.where}/dependentRequired/{_escape(name)}"
            options: list[Branch] = [self._forbid(name, where), (Rules({"required": needed}, where),)]
            branches = self.cross(branches, options, where)
        for name, inner in self._sub_map(part, "dependentSchemas").items():
            options = [self._forbid(name, inner.where), *self.list_branches(inner, inside)]
            branches = self.cross(branches, options, inner.where)
        return branches

    def _forbid(self, name: str, where: str) -> Branch:
        """The branch of a value without this member."""
        return (Rules({}, where, names={name: self.get_part(f"{where}/=no", False)}),)

    def _add_one_of(self, part: Part, branches: list[Branch], inside: tuple[Part, ...]) -> list[Branch]:
        options = [self.list_branches(each, inside) for each in self._sub_list(part, "oneOf")]
        where = f"{part.where}/oneOf"
        for place, option in enumerate(options):
            for later in options[place + 1 :]:
                for both in self.cross(option, later, where):
                    if not all(self.never_both(_merge(branch, both), where) for branch in branches):
                        raise refuse(
                            where, "a value may fit two of these at once; use anyOf, or tell them by a const"
                        )
        return self.cross(branches, [branch for option in options for branch in option], where)

    def _add_not(self, part: Part, denied: Any, branches: list[Branch], inside: tuple[Part, ...]) -> list[Branch]:
        where = f"{part.where}/not"
        if isinstance(denied, dict) and denied.keys() == {"required"}:
            check_keywords(denied, where)
            must: Branch = (Rules({"type": "object"}, where),)
            return self.cross(branches, [must + self._forbid(name, where) for name in denied["required"]], where)
        if isinstance(denied, dict) and len(denied) == 1:
            check_keywords(denied, where)
            ((keyword, value),) = denied.items()
            if simple := _deny(keyword, value, where):
                return self.cross(branches, [(simple,)], where)
        denied_branches = self.list_branches(self._sub(part, "not"), inside)
        for both in self.cross(branches, denied_branches, where) if denied_branches else []:
            if not self.never_both(both, where):
                raise refuse(where, "this `not` cannot be guaranteed; say what is allowed instead")
        return branches

    def _add_unevaluated(self, part: Part, rules: dict[str, Any], branch: Branch) -> Branch:
        for keyword in ("unevaluatedProperties", "unevaluatedItems"):
            if keyword not in rules:
                continue
            inner = self._sub(part, keyword)
            counted = [each for each in branch if each.evaluates]
            own = [each for each in counted if isinstance(each, Rules)]
            if keyword == "unevaluatedProperties" and not any(isinstance(each, Others) for each in counted):
                patterns = tuple(dict.fromkeys(pattern for each in own for pattern in each.patterns))
                branch += (Others(frozenset(name for each in own for name in each.names), patterns, inner),)
            if keyword == "unevaluatedItems" and not any(isinstance(each, Behind) for each in counted):
                branch += (Behind(max((len(each.prefix) for each in own), default=0), inner),)
        return branch

    def _sub(self, part: Part, keyword: str) -> Part:
        assert isinstance(part.rules, dict)
        return self.get_part(f"{part.where}/{keyword}", part.rules[keyword])

    def _sub_list(self, part: Part, keyword: str) -> list[Part]:
        listed = part.rules.get(keyword, []) if isinstance(part.rules, dict) else []
        return [self.get_part(f"{part.where}/{keyword}/{place}", each) for place, each in enumerate(listed)]

    def _sub_map(self, part: Part, keyword: str) -> dict[str, Part]:
        named = part.rules.get(keyword, {}) if isinstance(part.rules, dict) else {}
        return {name: self.get_part(f"{part.where}/{keyword}/{_escape(name)}", each) for name, each in named.items()}

    def _find(self, reference: str, where: str) -> Part:
        """The part that a `$ref` names."""
        own = self.root.get("$id") if isinstance(self.root, dict) else None
        base, _, pointer = reference.partition("#")
        if base and base != own:
            raise refuse(
                f"{where}/$ref", f"nextok does not fetch {reference!r:.80}; put it into $defs, and refer to #/$defs"
            )
        if pointer and not pointer.startswith("/"):
            raise refuse(f"{where}/$ref", f"an anchor ({reference!r:.60}) is not supported; refer to #/$defs")
        value: Any = self.root
        path = "#"
        for step in unquote(pointer).split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            path += f"/{_escape(name)}"
            if isinstance(value, dict) and name in value:
                value = value[name]
            elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
                value = value[int(name)]
            else:
                raise refuse(f"{where}/$ref", f"nothing stands at {reference!r:.80}")
            if isinstance(value, dict) and isinstance(value.get("$id"), str):
                raise refuse(f"{where}/$ref", f"a schema on the way to {reference!r:.60} must have no $id")
        if not isinstance(value, dict | bool):
            raise refuse(f"{where}/$ref", f"there is no schema at {reference!r:.80}")
        return self.get_part(path, value)


def _deny(keyword: str, value: Any, where: str) -> Rules | None:
    """What holds of each value that does not keep this keyword, where that can be said simply."""
    texts = [value] if keyword == "const" else value if keyword == "enum" else None
    if isinstance(texts, list) and texts and all(isinstance(text, str) for text in texts):
        return Rules({}, where, banned=tuple(texts))
    if keyword != "type":
        return None
    denied = {value} if isinstance(value, str) else set(value)
    denied |= {"number"} if "integer" in denied else {"integer"} if "number" in denied else set()
    return Rules({"type": [name for name in TYPES if name not in denied]}, where)


def _merge(left: Branch, right: Branch) -> Branch:
    return (*left, *(each for each in right if each not in left))


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
