"""Regular expressions of JSON schemas, as regular expressions over the JSON that spells the texts they match.

A pattern is Python's, as the library `jsonschema` reads it, and is searched for in the text. It has two translations:
the narrow one matches only texts in which Python and ECMAScript both find it, the wide one all those in which one of
them does. Texts are written by the narrow one; what a pattern must not touch is cut out by the wide one.
"""

from functools import lru_cache

from nextok.grammar.pattern_reader import ALL, Choice, Edge, Letters, Node, Ranges, Reader, Repeat, Row, cut_ranges

_SHORT = {8: "b", 9: "t", 10: "n", 12: "f", 13: "r", 34: '"', 92: "\\"}


@lru_cache(maxsize=1024)
def translate_pattern(pattern: str, wide: bool = False) -> str:
    """The JSON (without quotes) of all texts in which the pattern is found; ValueError if it cannot be translated."""
    node = Reader(pattern).read()
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
    plain = "".join(map(_write_range, cut_ranges(ranges, ((0, 31), (34, 34), (92, 92), (0xD800, 0xDFFF)))))
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
