"""Stop strings, matched on bytes: tokens may cut them, and characters, anywhere."""

import codecs
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StopStrings:
    """Strings that end a text.

    Of all places where one of them stands, the one that ends first counts; of those that end together, the one
    that begins first. So the choice depends on the bytes alone, never on how tokens cut them.
    """

    stops: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if any(not stop for stop in self.stops):
            raise ValueError("a stop string must not be empty; leave it out instead")

    def find(self, text: bytes) -> tuple[int, int] | None:
        """Where the match that counts begins and ends, or None."""
        found = [(start + len(stop), start) for stop in self.stops if (start := text.find(stop)) >= 0]
        if not found:
            return None
        end, start = min(found)
        return start, end


class HeldText:
    """Turns the bytes of tokens into text that can be shown for good.

    Held back is what may still become a stop string or a character. After a stop string nothing is shown.
    """

    def __init__(self, stops: StopStrings) -> None:
        self.stopped = False
        self._matchers = [_Matcher(stop) for stop in stops.stops]
        self._held = b""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, data: bytes, may_stop: bool = True) -> str:
        """The text that is safe to show now; sets `stopped` when a stop string is complete, if one may end here."""
        if self.stopped:
            return ""
        for position, byte in enumerate(data):
            matched = max([len(m.stop) for m in self._matchers if m.advance(byte)], default=0)
            if matched and may_stop:
                self.stopped = True
                return self._show(self._held + data[: position + 1], matched, final=True)
        return self._show(self._held + data, max([m.length for m in self._matchers], default=0))

    def flush(self) -> str:
        """The rest, once no more bytes come: what looked like a stop string was none."""
        return "" if self.stopped else self._show(self._held, 0, final=True)

    def _show(self, text: bytes, hold: int, final: bool = False) -> str:
        shown = len(text) - hold
        self._held = text[shown:]
        return self._decoder.decode(text[:shown], final)


class _Matcher:
    """How much of one stop string stands at the end of what was read: Knuth, Morris and Pratt's automaton."""

    def __init__(self, stop: bytes) -> None:
        self.stop = stop
        self.length = 0
        self._shorter = _shorter_matches(stop)

    def advance(self, byte: int) -> bool:
        """Read one byte; whether the stop string is complete with it."""
        while self.length and self.stop[self.length] != byte:
            self.length = self._shorter[self.length]
        self.length += self.stop[self.length] == byte
        if self.length < len(self.stop):
            return False
        self.length = self._shorter[self.length]
        return True


def _shorter_matches(stop: bytes) -> Sequence[int]:
    """For each length of a match, the next shorter match that ends at the same byte."""
    shorter = [0, 0]
    for end in range(1, len(stop)):
        length = shorter[end]
        while length and stop[length] != stop[end]:
            length = shorter[length]
        shorter.append(length + (stop[length] == stop[end]))
    return shorter
