"""Tokens to parts of a text that can be shown, each with the tokens that end in it."""

import codecs
from collections import deque
from collections.abc import Sequence

from nextok.text.held import HeldText

Part = tuple[str, tuple[int, ...]]
"""Text, and the nodes of the tokens whose text it ends."""


class Cutter:
    """Reads the tokens of one text in order; their parts joined are the text, and all of its nodes.

    A token without text has a part of its own, with empty text, at its place: so marks of a model can be told from
    text that looks like one. Only inside a character or after a stop string it comes with other tokens.
    """

    def __init__(self, stops: Sequence[bytes]) -> None:
        self._held = HeldText(stops)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._waiting: deque[tuple[int, bytes]] = deque()  # nodes, and what is held back of their bytes
        self._ended: list[int] = []  # nodes of the part that is being made
        self._open: list[int] = []  # nodes that end inside a character, which is not whole yet
        self._is_plain = not self._held.has_stops

    def feed(self, node: int, data: bytes, may_stop: bool = True) -> list[Part]:
        """The parts that one more token makes showable."""
        if self._is_plain and not self._open and data and data[-1] < 0x80:  # the usual case, at every token
            return [(self._decoder.decode(data), (node,))]
        self._waiting.append((node, data))
        return self._cut(self._held.release(data, may_stop), self._held.stopped)

    def flush(self) -> list[Part]:
        """The rest: the text held back, and the tokens whose text is never shown."""
        parts = self._cut(self._held.release_rest(), True)
        rest = tuple(node for node, _ in self._waiting)
        self._waiting.clear()
        return [*parts, ("", rest)] if rest else parts

    def _cut(self, shown: bytes, final: bool) -> list[Part]:
        parts: list[Part] = []
        text = ""
        while self._waiting and len(self._waiting[0][1]) <= len(shown):
            node, data = self._waiting.popleft()
            if not data and not self._open:
                self._end_part(parts, text)
                text = ""
            text += self._decode(data)
            shown = shown[len(data) :]
            (self._open if self._decoder.getstate()[0] else self._ended).append(node)
            if not data and not self._open:
                self._end_part(parts, "")
        if shown:
            node, data = self._waiting[0]
            self._waiting[0] = node, data[len(shown) :]
            text += self._decode(shown)
        if final:
            text += self._decoder.decode(b"", True)
            self._ended += self._open
            self._open.clear()
        self._end_part(parts, text)
        return parts

    def _decode(self, data: bytes) -> str:
        text = self._decoder.decode(data)
        if text:
            self._ended += self._open
            self._open.clear()
        return text

    def _end_part(self, parts: list[Part], text: str) -> None:
        """A part of this text and of the nodes that have ended, if there is any."""
        if text or self._ended:
            parts.append((text, tuple(self._ended)))
            self._ended.clear()
