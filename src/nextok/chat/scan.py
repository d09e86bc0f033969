"""JSON as it comes: every character is checked once, and nothing calls itself."""

import re

SPACE = " \t\n\r"
DIGITS = "0123456789"
HEX = "0123456789abcdefABCDEF"
VALUE = f'"{{[-{DIGITS}tfn'
"""The characters with which a value begins."""
WORDS = {"t": "rue", "f": "alse", "n": "ull"}

_SPACES = re.compile("[ \t\n\r]*")
_INSIDE = re.compile('[^"\\\\\x00-\x1f\ud800-\udfff]*')  # half characters stand for control tokens, and are no text

# What may follow in a number, by the part of it that has been read; where "" is a key, the number may end there.
_NUMBER: dict[str, dict[str, str]] = {
    "sign": {"0": "zero", "123456789": "whole"},
    "zero": {".": "point", "eE": "e", "": ""},
    "whole": {DIGITS: "whole", ".": "point", "eE": "e", "": ""},
    "point": {DIGITS: "fraction"},
    "fraction": {DIGITS: "fraction", "eE": "e", "": ""},
    "e": {"+-": "e sign", DIGITS: "exponent"},
    "e sign": {DIGITS: "exponent"},
    "exponent": {DIGITS: "exponent", "": ""},
}


class JsonScanner:
    """Follows one object (or what begins with one of `first`) of JSON (RFC 8259) that comes in pieces.

    It breaks inside more than `most_depth` lists and objects.

    It is at one of five steps: between tokens, or inside a string, an escape, a number or a word.
    """

    def __init__(self, most_depth: int, watched: int = 1, first: str = "{") -> None:
        self._most_depth = most_depth
        self._watched = watched
        self._closing: list[str] = []  # brackets that are still to come, the innermost last
        self._next = first  # the characters that may come next, between tokens
        self._step = self._read_between
        self._due: list[str] = []  # the characters of which one must come each, in a word and in an escape
        self._number = ""  # the part of a number that has been read
        self.is_broken = False

    @property
    def depth(self) -> int:
        """Number of lists and objects that are open."""
        return len(self._closing)

    @property
    def is_whole(self) -> bool:
        """Whether the object has ended."""
        return not self._next

    def read(self, text: str, place: int) -> int:
        """Read on from `place`; the place where it stopped.

        That is the end of the text, the first character that cannot follow (then `is_broken`), or what follows a
        bracket that opens or closes one of the `watched` outermost levels.
        """
        while place < len(text) and not self.is_broken:
            depth = self.depth
            place = self._step(text, place)
            if depth != self.depth and min(depth, self.depth) < self._watched:
                break
        return place

    def _read_between(self, text: str, place: int) -> int:
        letter = text[place]
        if letter in SPACE:
            match = _SPACES.match(text, place)
            return match.end() if match else place
        if letter not in self._next or (letter in "{[" and self.depth == self._most_depth):
            return self._break(place)
        if letter in "{[":
            self._closing.append("}" if letter == "{" else "]")
            self._next = '"}' if letter == "{" else f"{VALUE}]"
        elif letter in "}]":
            self._closing.pop()
            self._next = f",{self._closing[-1]}" if self._closing else ""
        elif letter == ",":
            self._next = '"' if self._closing[-1] == "}" else VALUE
        elif letter == ":":
            self._next = VALUE
        else:
            self._begin_token(letter)
        return place + 1

    def _begin_token(self, letter: str) -> None:
        is_key = letter == '"' and "{" not in self._next
        self._next = ":" if is_key else f",{self._closing[-1]}"
        if letter == '"':
            self._step = self._read_string
        elif letter in WORDS:
            self._due = list(reversed(WORDS[letter]))
            self._step = self._read_word
        else:
            self._number = {"-": "sign", "0": "zero"}.get(letter, "whole")
            self._step = self._read_number

    def _read_string(self, text: str, place: int) -> int:
        match = _INSIDE.match(text, place)
        place = match.end() if match else place
        if place == len(text):
            return place
        if text[place] not in '"\\':
            return self._break(place)
        self._step = self._read_between if text[place] == '"' else self._read_escape
        return place + 1

    def _read_escape(self, text: str, place: int) -> int:
        if not self._due:
            self._due = ['"\\/bfnrtu']
        if text[place] not in self._due.pop():
            return self._break(place)
        if text[place] == "u" and not self._due:
            self._due = [HEX] * 4
        if not self._due:
            self._step = self._read_string
        return place + 1

    def _read_word(self, text: str, place: int) -> int:
        if text[place] != self._due.pop():
            return self._break(place)
        if not self._due:
            self._step = self._read_between
        return place + 1

    def _read_number(self, text: str, place: int) -> int:
        follows = _NUMBER[self._number]
        for letters, part in follows.items():
            if text[place] in letters:
                self._number = part
                return place + 1
        if "" not in follows:
            return self._break(place)
        self._step = self._read_between
        return place

    def _break(self, place: int) -> int:
        self.is_broken = True
        return place
