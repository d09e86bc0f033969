"""Regular expressions of JSON schemas, read into their parts."""

import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

Ranges = tuple[tuple[int, int], ...]
"""Code points, as ranges in order; both ends belong to a range."""

DEEPEST_PATTERN = 40
"""Largest number of levels of groups."""
MOST_REPEATS = 5000
"""Largest product of the bounds of repetitions inside each other."""
ALL: Ranges = ((0, sys.maxunicode),)
_CONTROLS = {"t": 9, "n": 10, "r": 13, "f": 12, "v": 11, "a": 7}


@dataclass(frozen=True, slots=True)
class Letters:
    """One character."""

    narrow: Ranges
    wide: Ranges


@dataclass(frozen=True, slots=True)
class Edge:
    """The start of the text, or its end."""

    start: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One after the other."""

    items: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of these."""

    options: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """Again and again; `most` is None where there is no bound."""

    item: "Node"
    least: int
    most: int | None


Node = Letters | Edge | Row | Choice | Repeat


def cut_ranges(ranges: Ranges, away: Ranges) -> Ranges:
    """What is left of the ranges."""
    left: list[tuple[int, int]] = []
    for low, high in ranges:
        for first, last in away:
            if first > low:
                left.append((low, min(high, first - 1)))
            low = max(low, last + 1)
            if low > high:
                break
        if low <= high:
            left.append((low, high))
    return tuple((low, high) for low, high in left if low <= high)


def _join_ranges(ranges: Iterable[tuple[int, int]]) -> Ranges:
    joined: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if joined and low <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(high, joined[-1][1]))
        else:
            joined.append((low, high))
    return tuple(joined)


@cache
def _find_class(letter: str) -> Letters:
    """`\\d`, `\\w` or `\\s`: of ASCII where it is narrow, all that Python or ECMAScript take where it is wide."""
    tests: dict[str, Callable[[str], bool]] = {"d": str.isdecimal, "s": str.isspace}
    narrow = {"d": ((48, 57),), "w": ((48, 57), (65, 90), (95, 95), (97, 122)), "s": ((9, 13), (32, 32))}[letter]
    if letter == "w":  # exact, it has so many ranges that a text could end its request
        return Letters(narrow, (*narrow, (128, sys.maxunicode)))
    found = [code for code in range(128, sys.maxunicode + 1) if tests[letter](chr(code))]
    more = [(0x1C, 0x1F), (0xFEFF, 0xFEFF)] if letter == "s" else []
    return Letters(narrow, _join_ranges([*narrow, *more, *((code, code) for code in found)]))


def _negate(letters: Letters) -> Letters:
    return Letters(cut_ranges(ALL, letters.wide), cut_ranges(ALL, letters.narrow))


class Reader:
    """Reads a pattern from left to right."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.place = 0

    def read(self) -> Node:
        """The whole pattern; ValueError if it is wrong, or not of the kind that can be translated."""
        node = self._read_choice(0)
        if self.place < len(self.pattern):
            raise ValueError("a ) has no (")
        try:
            re.compile(self.pattern)
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(str(error)) from None
        _check_repeats(node, 1)
        return node

    def _peek(self) -> str:
        return self.pattern[self.place : self.place + 1]

    def _take(self) -> str:
        if self.place >= len(self.pattern):
            raise ValueError("it ends too early")
        self.place += 1
        return self.pattern[self.place - 1]

    def _read_choice(self, depth: int) -> Node:
        if depth > DEEPEST_PATTERN:
            raise ValueError(f"its groups may be nested {DEEPEST_PATTERN} deep")
        options = [self._read_row(depth)]
        while self._peek() == "|":
            self._take()
            options.append(self._read_row(depth))
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def _read_row(self, depth: int) -> Node:
        items: list[Node] = []
        while self._peek() not in ("", "|", ")"):
            items.append(self._read_repeats(self._read_item(depth)))
        return Row(tuple(items))

    def _read_item(self, depth: int) -> Node:
        letter = self._take()
        if letter == "(":
            return self._read_group(depth)
        if letter == "[":
            return self._read_set()
        if letter == ".":
            return Letters(cut_ranges(ALL, ((10, 10), (13, 13), (0x2028, 0x2029))), cut_ranges(ALL, ((10, 10),)))
        if letter in "^$":
            return Edge(letter == "^")
        if letter in "*+?":
            raise ValueError(f"nothing to repeat before {letter}")
        return self._read_escape() if letter == "\\" else _take_letter(letter)

    def _read_group(self, depth: int) -> Node:
        if self._peek() == "?" and (head := re.compile(r"\?(?::|P<[A-Za-z_]\w*>)").match(self.pattern, self.place)):
            self.place = head.end()
        elif self._peek() == "?":
            raise ValueError(f"{self.pattern[self.place - 1 : self.place + 3]} is not supported")
        node = self._read_choice(depth + 1)
        if self._peek() != ")":
            raise ValueError("a ( has no )")
        self._take()
        return node

    def _read_repeats(self, node: Node) -> Node:
        bounds = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(self._peek())
        if bounds:
            self.place += 1
        elif match := re.compile(r"\{([0-9]{1,6})(,?)([0-9]{0,6})\}").match(self.pattern, self.place):
            self.place = match.end()
            least = int(match[1])
            most = int(match[3]) if match[3] else None if match[2] else least
            bounds = (least, most)
        elif re.compile(r"\{[0-9]*,?[0-9]*\}").match(self.pattern, self.place):
            raise ValueError("a repetition must be {m}, {m,} or {m,n} with at most six digits")
        else:
            return node
        if isinstance(node, Edge) or (bounds[1] is not None and bounds[0] > bounds[1]):
            raise ValueError("^ and $ cannot be repeated" if isinstance(node, Edge) else "a repetition counts down")
        if self._peek() == "?":  # lazy: the same texts
            self.place += 1
        if self._peek() in ("*", "+", "?") and self._peek():
            raise ValueError("a repetition cannot be repeated; use a group")
        return Repeat(node, *bounds)

    def _read_escape(self, inside: bool = False) -> Node:
        letter = self._take()
        if letter in "dws":
            return _find_class(letter)
        if letter in "DWS":
            return _negate(_find_class(letter.lower()))
        if letter in _CONTROLS:
            return _take_letter(chr(_CONTROLS[letter]))
        if letter == "Z" and not inside:
            return Edge(False)
        if letter in "xu":
            digits = self.pattern[self.place : self.place + (2 if letter == "x" else 4)]
            if not re.fullmatch("[0-9a-fA-F]{2}|[0-9a-fA-F]{4}", digits):
                raise ValueError(f"\\{letter} needs hexadecimal digits")
            self.place += len(digits)
            return _take_letter(chr(int(digits, 16)))
        if letter == "b" and inside:
            return _take_letter("\b")
        if letter.isalnum():
            raise ValueError(f"\\{letter} is not supported")
        return _take_letter(letter)

    def _read_set(self) -> Letters:
        negative = self._peek() == "^"
        self.place += negative
        if self._peek() == "]":
            raise ValueError("a set must not be empty; write \\] for the character")
        narrow: list[tuple[int, int]] = []
        wide: list[tuple[int, int]] = []
        while self._peek() != "]":
            item = self._read_member()
            narrow += item.narrow
            wide += item.wide
        self._take()
        letters = Letters(_join_ranges(narrow), _join_ranges(wide))
        return _negate(letters) if negative else letters

    def _read_member(self) -> Letters:
        first = self._read_set_letter()
        if self.pattern[self.place : self.place + 1] != "-" or self.pattern[self.place + 1 : self.place + 2] == "]":
            return first
        self._take()
        last = self._read_set_letter()
        low, high = first.narrow[0][0], last.narrow[-1][1]
        if len(first.narrow) + len(last.narrow) > 2 or first.wide != first.narrow or low > high:
            raise ValueError("a range of a set goes from one character to a later one")
        return Letters(((low, high),), ((low, high),))

    def _read_set_letter(self) -> Letters:
        letter = self._take()
        if letter == "[" or (letter in "&~|-" and self._peek() == letter):
            raise ValueError(f"inside a set, write \\{letter} for the character {letter}")
        node = self._read_escape(inside=True) if letter == "\\" else _take_letter(letter)
        assert isinstance(node, Letters)
        return node


def _take_letter(letter: str) -> Letters:
    code = ord(letter)
    return Letters(((code, code),), ((code, code),))


def _check_repeats(node: Node, product: int) -> None:
    if isinstance(node, Repeat):
        product *= max(1, node.least, node.most or 0)
        if product > MOST_REPEATS:
            raise ValueError(f"it repeats more than {MOST_REPEATS:,} times; use * or +, or a smaller bound")
        _check_repeats(node.item, product)
    for inner in node.items if isinstance(node, Row) else node.options if isinstance(node, Choice) else ():
        _check_repeats(inner, product)
