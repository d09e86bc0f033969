"""Regular expressions of JSON schemas, as regular expressions over the JSON that spells the texts they match.

A pattern is Python's, as the library `jsonschema` reads it, and is searched for in the text. It has two translations:
the narrow one matches only texts in which Python and ECMAScript both find it, the wide one all those in which one of
them does. Texts are written by the narrow one; what a pattern must not touch is cut out by the wide one.
"""

import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, lru_cache

Ranges = tuple[tuple[int, int], ...]
"""Code points, as ranges in order; both ends belong to a range."""

DEEPEST_PATTERN = 40
"""Largest number of levels of groups."""
MOST_REPEATS = 5000
"""Largest product of the bounds of repetitions inside each other."""
ALL: Ranges = ((0, sys.maxunicode),)
_SHORT = {8: "b", 9: "t", 10: "n", 12: "f", 13: "r", 34: '"', 92: "\\"}
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


@lru_cache(maxsize=1024)
def translate_pattern(pattern: str, wide: bool = False) -> str:
    """The JSON (without quotes) of all texts in which the pattern is found; ValueError if it cannot be translated."""
    node = _Reader(pattern).read()
    anything = quote_letters(ALL) + "*"
    options = []
    for start, end, inner in _split_edges(node):
        after = "" if end and not wide else "(?:\\\\n)?" if end else anything  # `$` may stand before a last newline
        options.append(("" if start else anything) + _write(inner, wide) + after)
    return _join(options)


def quote_text(text: str) -> str:
    """A regular expression for the JSON of this text, without quotes."""
    return "".join(quote_letters(((ord(letter), ord(letter)),)) for letter in text)


@lru_cache(maxsize=4096)
def quote_letters(ranges: Ranges) -> str:
    """A regular expression for the JSON of one of these characters, escaped where `json.dumps` would do it."""
    plain = "".join(map(_write_range, _cut(ranges, ((0, 31), (34, 34), (92, 92), (0xD800, 0xDFFF)))))
    options = [f"[{plain}]"] if plain else []
    inside = [code for code in (*range(32), 34, 92) if any(low <= code <= high for low, high in ranges)]
    if short := "".join(_escape(ord(_SHORT[code])) for code in inside if code in _SHORT):
        options.append(rf"\\[{short}]")
    for high in (0, 1):
        if low := "".join(f"{code & 15:x}" for code in inside if code >> 4 == high and code not in _SHORT):
            options.append(rf"\\u00{high}[{low}]")
    if len(ranges) == 1 and 0xD800 <= ranges[0][0] == ranges[0][1] <= 0xDFFF:
        options.append(rf"\\u{ranges[0][0]:x}")
    return _join(options)


def _join(options: list[str]) -> str:
    return options[0] if len(options) == 1 else f"(?:{'|'.join(options)})" if options else "[^\\x{0}-\\x{10ffff}]"


def _escape(code: int) -> str:
    return chr(code) if code < 128 and chr(code).isalnum() else f"\\x{{{code:x}}}"


def _write_range(bounds: tuple[int, int]) -> str:
    low, high = bounds
    return _escape(low) if low == high else f"{_escape(low)}-{_escape(high)}"


def _join_ranges(ranges: Iterable[tuple[int, int]]) -> Ranges:
    joined: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if joined and low <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(high, joined[-1][1]))
        else:
            joined.append((low, high))
    return tuple(joined)


def _cut(ranges: Ranges, away: Ranges) -> Ranges:
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


@cache
def _find_class(letter: str) -> Letters:
    """`\\d`, `\\w` or `\\s`: of ASCII where it is narrow, all that Python or ECMAScript take where it is wide."""
    tests: dict[str, Callable[[str], bool]] = {"d": str.isdecimal, "w": str.isalnum, "s": str.isspace}
    narrow = {"d": ((48, 57),), "w": ((48, 57), (65, 90), (95, 95), (97, 122)), "s": ((9, 13), (32, 32))}[letter]
    found = [code for code in range(128, sys.maxunicode + 1) if tests[letter](chr(code))]
    more = [(0x1C, 0x1F), (0xFEFF, 0xFEFF)] if letter == "s" else []
    return Letters(narrow, _join_ranges([*narrow, *more, *((code, code) for code in found)]))


def _negate(letters: Letters) -> Letters:
    return Letters(_cut(ALL, letters.wide), _cut(ALL, letters.narrow))


def _has_edge(node: Node) -> bool:
    if isinstance(node, Edge):
        return True
    inner = node.items if isinstance(node, Row) else node.options if isinstance(node, Choice) else ()
    return any(map(_has_edge, inner)) or (isinstance(node, Repeat) and _has_edge(node.item))


def _split_edges(node: Node) -> list[tuple[bool, bool, Node]]:
    """Ways to match, each with whether it begins at the start of the text, and whether it ends at its end."""
    if not _has_edge(node):
        return [(False, False, node)]
    if isinstance(node, Edge):
        return [(node.start, not node.start, Row(()))]
    if isinstance(node, Choice):
        return [way for option in node.options for way in _split_edges(option)]
    if isinstance(node, Row):
        return _split_row(node.items)
    raise ValueError("^ and $ cannot be repeated")


def _split_row(items: tuple[Node, ...]) -> list[tuple[bool, bool, Node]]:
    if len(items) == 1:
        return _split_edges(items[0])
    if any(map(_has_edge, items[1:-1])):
        if isinstance(items[0], Edge) and items[0].start:
            return [(True, end, node) for _, end, node in _split_row(items[1:])]
        raise ValueError("^ and $ must stand at the start and the end of the pattern")
    ways: list[tuple[bool, bool, Node]] = []
    for start, ended, first in _split_edges(items[0]):
        for started, end, last in _split_edges(items[-1]):
            if (ended or started) and not (len(items) == 2 and isinstance(items[0], Edge)):
                raise ValueError("^ and $ must stand at the start and the end of the pattern")
            if ended:  # `$` and something behind it
                raise ValueError("nothing may stand behind $")
            ways.append((start or started, end, Row((first, *items[1:-1], last))))
    return ways


def _write(node: Node, wide: bool) -> str:
    if isinstance(node, Letters):
        return quote_letters(node.wide if wide else node.narrow)
    if isinstance(node, Row):
        return "".join(_write(item, wide) for item in node.items)
    if isinstance(node, Choice):
        return f"(?:{'|'.join(_write(option, wide) for option in node.options)})"
    assert isinstance(node, Repeat)
    return f"(?:{_write(node.item, wide)}){{{node.least},{'' if node.most is None else node.most}}}"


class _Reader:
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
            return Letters(_cut(ALL, ((10, 10), (13, 13), (0x2028, 0x2029))), _cut(ALL, ((10, 10),)))
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
