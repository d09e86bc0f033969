"""What has been written on the way to a node: indexed as it grows, so that no step walks through the whole text."""

from collections import Counter
from collections.abc import Iterable, Sequence

Matches = dict[int, int]
"""Place -> how many tokens up to there are the same as those that the text ends with."""


MANY = 32
"""Number of new tokens from which their matches are found at once instead of one after the other."""


def _find_matches(tokens: list[int]) -> Matches:
    """The matches of a whole text in linear time: the Z-algorithm (Gusfield 1997), read from the end."""
    backwards = tokens[::-1]
    same = [0] * len(tokens)  # same[i]: how many tokens backwards[i:] and backwards begin with alike
    left = right = 0  # the stretch known to be alike that reaches furthest
    for i in range(1, len(tokens)):
        length = min(right - i, same[i - left]) if i < right else 0
        while i + length < len(tokens) and backwards[length] == backwards[i + length]:
            length += 1
        same[i] = length
        if i + length > right:
            left, right = i, i + length
    return {len(tokens) - 1 - i: length for i, length in enumerate(same) if length}


class Ledger:
    """The prompt and the committed text of one request."""

    def __init__(self, prompt: Iterable[int], token_bytes: Sequence[bytes] = ()) -> None:
        self.tokens: list[int] = []
        self.token_bytes = token_bytes
        self.places: dict[int, list[int]] = {}  # token -> where it stands, ascending
        self.generated: Counter[int] = Counter()
        self._matches: Matches = {}
        self._matched = 0  # tokens of which the matches are known
        for token in prompt:
            self._place(token)

    def add(self, token: int) -> None:
        """Take in one generated token."""
        self._place(token)
        self.generated[token] += 1

    def matches(self) -> Matches:
        """Where the text's end has occurred before, and how far back it is the same."""
        if len(self.tokens) - self._matched > MANY:
            self._matches, self._matched = _find_matches(self.tokens), len(self.tokens)
        for end in range(self._matched, len(self.tokens)):
            before = self.places[self.tokens[end]]
            self._matches = {place: self._matches.get(place - 1, 0) + 1 for place in before if place < end}
        self._matched = len(self.tokens)
        return self._matches

    def _place(self, token: int) -> None:
        self.places.setdefault(token, []).append(len(self.tokens))
        self.tokens.append(token)


class Past:
    """The text that ends in one node: what is committed, and a `tail` of tokens that are only considered."""

    def __init__(
        self, ledger: Ledger, tail: list[int], node: int, step: tuple[int, int] | None, mu: float | None = None
    ) -> None:
        self.ledger = ledger
        self.tail = tail
        self.node = node
        self.step = step  # the node before and the token that led here from it; None at the end of the prompt
        self.mu = mu  # of mirostat, in bits, for the next token; None where no answer has said it

    def __len__(self) -> int:
        return len(self.ledger.tokens) + len(self.tail)

    def __getitem__(self, place: int) -> int:
        committed = self.ledger.tokens
        return committed[place] if place < len(committed) else self.tail[place - len(committed)]

    @property
    def tokens(self) -> list[int]:
        """All token ids, the prompt's first."""
        return self.ledger.tokens + self.tail

    @property
    def token_bytes(self) -> Sequence[bytes]:
        """What each token stands for; empty if that is not known."""
        return self.ledger.token_bytes

    def last(self, count: int) -> tuple[int, ...]:
        """The last `count` tokens, or as many as there are."""
        return tuple(self[place] for place in range(max(0, len(self) - count), len(self)))

    def distinct(self) -> dict[int, None]:
        """Every token that has occurred, once."""
        return dict.fromkeys(self.ledger.places) | dict.fromkeys(self.tail)

    def generated(self) -> Counter[int]:
        """How often each token has been generated; do not change it."""
        return self.ledger.generated + Counter(self.tail) if self.tail else self.ledger.generated

    def matches(self) -> Matches:
        """Where the text's end has occurred before, and how far back it is the same."""
        matches, committed = self.ledger.matches(), len(self.ledger.tokens)
        for index, token in enumerate(self.tail):
            places = list(self.ledger.places.get(token, ()))
            places += [committed + before for before in range(index) if self.tail[before] == token]
            matches = {place: matches.get(place - 1, 0) + 1 for place in places}
        return matches
