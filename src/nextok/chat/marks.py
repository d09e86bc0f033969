"""Spellings that a vocabulary reads as one control token, and how a text is kept from being read so."""

import json
import re
import secrets
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from nextok.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    import tokenizers

MARK_SHAPE = re.compile(r"<[|｜].*[|｜]>", re.DOTALL)
BRACKETS = re.compile(r"[<\[].*[>\]]", re.DOTALL)
STAND_INS = range(0xE000, 0xF900)
"""Characters of the Basic Multilingual Plane's private use: no case, no space, no meaning."""
ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")


class Piece(NamedTuple):
    """A part of a prompt: text of the template, or a spelling that is only text."""

    text: str
    is_plain: bool = False


class Marks:
    """The marks of one vocabulary: control tokens, and further added tokens that its chat template names.

    Other added tokens, such as runs of spaces, are usual text in every vocabulary that has them.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        added = tokenizer.encoder.get_added_tokens_decoder()
        self._added = {token: added[token] for token in sorted(added)}
        template = tokenizer.chat_template or ""
        self.spellings = {each.content: token for token, each in added.items() if _is_mark(each, template)}
        # Then the vocabulary finds marks in other characters as well, such as wide ones, which no scan can foresee.
        normal = any(each.normalized for each in added.values() if each.content in self.spellings)
        self._always_rename = normal and tokenizer.encoder.normalizer is not None
        self._sorted = sorted(self.spellings)
        self._firsts = {spelling[0] for spelling in self._sorted}
        self._longest = max(map(len, self._sorted), default=0)
        # No text holds these names except by a guess at 64 random bits.
        self._prefix, self._cut = f"\U000f0000{secrets.token_hex(8)}x", f"\U000f0000{secrets.token_hex(8)}y\U000f0001"
        self._scanner = self._build_scanner()
        self._renamed, self._ids = self._build_renamed()

    def find(self, text: str) -> list[tuple[int, int]]:
        """Where marks begin and end in a text, and at its end the beginning of one that the next text could complete.

        The longest of several at a place counts, as for the vocabulary itself.
        """
        if not any(first in text for first in self._firsts):
            return []
        spans = list(self._scanner.encode(text, add_special_tokens=False).offsets)
        end = len(text.rstrip())
        for start in range(max(spans[-1][1] if spans else 0, end - self._longest + 1), end):
            if text[start] in self._firsts and self._begins_mark(text[start:end]):
                return [*spans, (start, end)]
        return spans

    def encode(self, pieces: Iterable[Piece]) -> list[int]:
        """The token ids of a prompt: marks are control tokens in the template's pieces, and text in plain ones.

        Without plain pieces these are the ids of `Tokenizer.encode_chat`. What stands around a plain piece is cut
        into tokens together with it, as for any text.
        """
        pieces = list(pieces)
        if not self._always_rename and not any(piece.is_plain for piece in pieces):
            return self.tokenizer.encode_chat("".join(piece.text for piece in pieces))
        ids = self._encode_renamed(
            "".join(each.text if each.is_plain else self._rename(each.text) for each in pieces)
        )
        if self._has_marks(ids):  # a vocabulary whose merges lead to a mark: cut its spelling apart
            cut = (f"{text[:1]}{self._cut}{text[1:]}" if plain else self._rename(text) for text, plain in pieces)
            ids = self._encode_renamed("".join(cut))
        return [own for token in ids if (own := self._ids.get(token, token)) is not None]

    def _begins_mark(self, text: str) -> bool:
        place = bisect_left(self._sorted, text)
        return place < len(self._sorted) and self._sorted[place].startswith(text)

    def _has_marks(self, ids: list[int]) -> bool:
        return not set(self.spellings.values()).isdisjoint(ids)

    def _rename(self, text: str) -> str:
        """The text with its marks under the names that only the second encoder knows."""
        parts, end = [], 0
        for start, stop in self._scanner.encode(text, add_special_tokens=False).offsets:
            parts += [text[end:start], self._name(self.spellings[text[start:stop]])]
            end = stop
        return "".join([*parts, text[end:]])

    def _name(self, token: int) -> str:
        return f"{self._prefix}{token}\U000f0001"

    def _encode_renamed(self, text: str) -> list[int]:
        return list(self._renamed.encode(text, add_special_tokens=False).ids)

    def _build_scanner(self) -> "tokenizers.Tokenizer":
        """A tokenizer of marks alone: it drops all other characters, and its offsets say where marks stand."""
        from tokenizers import AddedToken, Tokenizer
        from tokenizers.models import BPE

        scanner: tokenizers.Tokenizer = Tokenizer(BPE())
        scanner.add_tokens([AddedToken(spelling, normalized=False) for spelling in self._sorted])
        return scanner

    def _build_renamed(self) -> "tuple[tokenizers.Tokenizer, Mapping[int, int | None]]":
        """The vocabulary's encoder with its marks under other names, and which of its ids stand for which token."""
        from tokenizers import AddedToken, Tokenizer

        encoder = self.tokenizer.encoder
        renamed: tokenizers.Tokenizer = Tokenizer(encoder.model)
        renamed.normalizer, renamed.pre_tokenizer = encoder.normalizer, encoder.pre_tokenizer
        names = {
            token: self._name(token) if each.content in self.spellings else each.content
            for token, each in self._added.items()
        }
        cut = AddedToken(self._cut, normalized=False)
        renamed.add_tokens([*(_rename_added(each, names[token]) for token, each in self._added.items()), cut])
        own: list[tuple[str, int | None]] = [*((name, token) for token, name in names.items()), (self._cut, None)]
        return renamed, {known: token for name, token in own if (known := renamed.token_to_id(name)) is not None}


class Escape:
    """Puts single characters in place of marks before a template is rendered, and takes them out afterwards.

    A template cannot cut one character, and trimming, changing case or comparing leaves it alone. The characters are
    those that neither the messages nor the template hold.
    """

    def __init__(self, marks: Marks, values: object, template: str) -> None:
        self._marks = marks
        self._values, self._template = values, template
        self._free: list[str] | None = None
        self._spellings: dict[str, str] = {}  # stand-in -> spelling
        self._stand_ins: dict[str, str] = {}  # spelling -> stand-in

    def take(self) -> str:
        """A character that is nowhere in the messages and the template."""
        if self._free is None:
            text = json.dumps(self._values, ensure_ascii=False) + self._template
            used = {*text, *(chr(int(code, 16)) for code in ESCAPED.findall(text))}
            self._free = [chr(code) for code in reversed(STAND_INS) if chr(code) not in used]
        if not self._free:
            raise ValueError(
                f"the messages hold all {len(STAND_INS):,} private characters and marks to escape: leave some out"
            )
        return self._free.pop()

    def hide(self, value: Any) -> Any:
        """A copy of a plain value with a stand-in for each mark in its texts and keys."""
        if isinstance(value, str):
            return self._hide_in_text(value)
        if isinstance(value, dict):
            return {self._hide_in_text(name): self.hide(each) for name, each in value.items()}
        return [self.hide(each) for each in value] if isinstance(value, list) else value

    def show(self, text: str) -> list[Piece]:
        """The rendered text in pieces: each stand-in, also where a template wrote it as `\\u....`, is a plain one."""
        if not self._spellings:
            return [Piece(text)]
        codes = "|".join(f"{each}|(?i:\\\\u{ord(each):04x})" for each in self._spellings)
        pieces, end = [], 0
        for match in re.finditer(codes, text):
            found = match[0] if len(match[0]) == 1 else chr(int(match[0][2:], 16))
            pieces += [Piece(text[end : match.start()]), Piece(self._spellings[found], True)]
            end = match.end()
        return [*pieces, Piece(text[end:])]

    def _hide_in_text(self, text: str) -> str:
        parts, end = [], 0
        for start, stop in self._marks.find(text):
            parts += [text[end:start], self._stand_in(text[start:stop])]
            end = stop
        return "".join([*parts, text[end:]]) if parts else text

    def _stand_in(self, spelling: str) -> str:
        if spelling not in self._stand_ins:
            self._stand_ins[spelling] = self.take()
            self._spellings[self._stand_ins[spelling]] = spelling
        return self._stand_ins[spelling]


def _is_mark(added: "tokenizers.AddedToken", template: str) -> bool:
    text = added.content
    if added.special:
        return bool(text.strip())
    return bool(MARK_SHAPE.fullmatch(text) or (BRACKETS.fullmatch(text) and text in template))


def _rename_added(added: "tokenizers.AddedToken", name: str) -> "tokenizers.AddedToken":
    from tokenizers import AddedToken

    return AddedToken(
        name,
        single_word=added.single_word,
        lstrip=added.lstrip,
        rstrip=added.rstrip,
        normalized=added.normalized,
        special=added.special,
    )
