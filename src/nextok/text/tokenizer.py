"""Text to token ids and back, for vocabularies from all kinds of files."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nextok.errors import ModelFileError

if TYPE_CHECKING:
    import tokenizers


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Tokenizer:
    """A vocabulary and the rules that cut text into its tokens.

    `token_bytes[id]` are the exact bytes a token adds to a text: none for control tokens, which `spell` shows.
    """

    names: Sequence[str] = field(repr=False)  # as the vocabulary spells them: `Ġthe`, `▁the`, `<|im_end|>`
    token_bytes: Sequence[bytes] = field(repr=False)
    control_ids: frozenset[int] = field(repr=False)  # tokens that are no text, such as `<|im_end|>`
    bos_id: int | None
    eos_id: int | None  # the end token that a chat template writes
    eos_ids: frozenset[int]  # all tokens that end a text
    before: tuple[int, ...]  # ids that the model expects before a text: none, or bos
    after: tuple[int, ...]  # ids that the model expects after a text
    drops_first_space: bool  # whether decoding drops the space that SentencePiece puts before every text
    chat_template: str | None = field(repr=False)
    encoder: "tokenizers.Tokenizer" = field(repr=False)
    literal_encoder: "tokenizers.Tokenizer" = field(repr=False)  # reads `<|im_end|>` as ten plain characters

    @property
    def vocab_size(self) -> int:
        """Number of ids; a model may have more rows, padded to a round number."""
        return len(self.names)

    def encode(self, text: str, special: bool = True) -> list[int]:
        """The token ids of a text.

        With `special`, control tokens written in the text are recognised, and bos and eos are put around it where the
        model's file asks for that and the text does not have them yet. Without, every character is plain text.
        ValueError for a text that is not Unicode, ModelFileError if the vocabulary fails on it.
        """
        if not special:
            return _encode(self.literal_encoder, text)
        ids = self.encode_chat(text)
        before = () if _starts_with(ids, self.before) else self.before
        after = () if _starts_with(ids[::-1], self.after[::-1]) else self.after
        return [*before, *ids, *after]

    def encode_chat(self, text: str) -> list[int]:
        """The token ids of a rendered chat template, which contains its own bos: nothing is added."""
        return _encode(self.encoder, text)

    def decode(self, ids: Iterable[int], *, special: bool = False) -> str:
        """The text of `ids`, U+FFFD for broken UTF-8; `special` shows control tokens. ValueError for a bad id."""
        data = bytearray()
        at_start = self.drops_first_space
        for token in ids:
            piece = self._find_bytes(token)
            if at_start and piece:
                piece, at_start = piece.removeprefix(b" "), False
            data += self.names[token].encode() if special and token in self.control_ids else piece
        return data.decode("utf-8", "replace")

    def decode_continuation(self, ids: Iterable[int]) -> str:
        """The text that `ids` add to a prompt: the same as the pieces of a `HeldText` without stop strings."""
        return b"".join(map(self._find_bytes, ids)).decode("utf-8", "replace")

    def spell(self, token: int) -> str:
        """A token as the vocabulary spells it, control tokens too; ValueError for a bad id."""
        self._find_bytes(token)
        return self.names[token]

    def same_vocabulary(self, other: "Tokenizer") -> bool:
        """Whether every id stands for the same token in both, so that one model can draft for the other."""
        return self.token_bytes == other.token_bytes and self.names == other.names

    def _find_bytes(self, token: int) -> bytes:
        if not 0 <= token < len(self.token_bytes):
            raise ValueError(f"token id {token} is not in this vocabulary; ids go from 0 to {self.vocab_size - 1}")
        return self.token_bytes[token]


def _encode(encoder: "tokenizers.Tokenizer", text: str) -> list[int]:
    try:
        return list(encoder.encode(text, add_special_tokens=False).ids)
    except TypeError:  # also raised for text that is not Unicode
        half = next((i for i, character in enumerate(text) if "\ud800" <= character <= "\udfff"), None)
        if half is None:
            raise
        raise ValueError(
            f"the text has half a character (a lone surrogate, {text[half]!r}) at index {half}; "
            'decode its bytes with errors="replace"'
        ) from None
    except (
        BaseException
    ) as error:  # the library's own failures have no class but `Exception`, its panics not even that
        if type(error) is not Exception and type(error).__name__ != "PanicException":
            raise
        reason = str(error)[:200]
        raise ModelFileError(f"the vocabulary fails on this text ({reason!r}): download the model again") from None


def _starts_with(ids: Sequence[int], head: Sequence[int]) -> bool:
    return list(ids[: len(head)]) == list(head)
