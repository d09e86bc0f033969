"""Token ids to text, one token at a time."""

import codecs
from collections.abc import Sequence


class Detokenizer:
    """Says what generated tokens add to a text as soon as it is whole characters.

    The pieces, joined, are the tokens' bytes decoded at once, with U+FFFD for broken UTF-8.
    """

    def __init__(self, token_bytes: Sequence[bytes]) -> None:
        self._token_bytes = token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token: int) -> str:
        """The characters that this token completes."""
        if not 0 <= token < len(self._token_bytes):
            raise ValueError(
                f"token id {token} is not in this vocabulary; ids go from 0 to {len(self._token_bytes) - 1}"
            )
        return self._decoder.decode(self._token_bytes[token])

    def flush(self) -> str:
        """What is left at the end: U+FFFD if a character stayed broken, else nothing."""
        return self._decoder.decode(b"", final=True)
