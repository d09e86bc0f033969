"""How tokens are told as texts: whole characters where they are, and the bytes of every token."""

from collections.abc import Sequence
from typing import Any

from nextok.generation.output import Scores, TokenLogprob
from nextok.text.tokenizer import Tokenizer

LEAST = -9999.0
"""What OpenAI's API has in place of minus infinity, which JSON has not."""


def spell(tokenizer: Tokenizer, token: int) -> str:
    """A token as text: a control token by its name, a part of a character as `bytes:\\x..`, as OpenAI does."""
    if token in tokenizer.control_ids:
        return tokenizer.spell(token)
    data = find_bytes(tokenizer, token)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def find_bytes(tokenizer: Tokenizer, token: int) -> bytes:
    """What a token adds to a text; nothing for an id that only pads the model's vocabulary."""
    return tokenizer.token_bytes[token] if token < len(tokenizer.token_bytes) else b""


def chat_logprobs(tokenizer: Tokenizer, logprobs: Sequence[TokenLogprob], most: int) -> dict[str, Any]:
    """The form of chats: each token with its bytes, and the alternatives at its place. Raw, before any transform."""

    def tell(token: int, logprob: float) -> dict[str, Any]:
        data = find_bytes(tokenizer, token)
        return {"token": spell(tokenizer, token), "logprob": max(logprob, LEAST), "bytes": list(data)}

    content = [
        {**tell(each.token, each.logprob), "top_logprobs": [tell(*other) for other in each.top[:most]]}
        for each in logprobs
    ]
    return {"content": content, "refusal": None}


class LogprobTexts:
    """The form of completions: four lists of equal length. Raw, before any transform.

    `text_offset` counts the characters of the tokens before, in this part and in the parts before it.
    """

    def __init__(self, tokenizer: Tokenizer, most: int) -> None:
        self._tokenizer = tokenizer
        self._most = most
        self._offset = 0
        self.begin_part()

    def begin_part(self) -> None:
        """Forget the tokens so far, which have been told; only the offset goes on."""
        self._tokens: list[str] = []
        self._logprobs: list[float | None] = []
        self._top: list[dict[str, float] | None] = []
        self._offsets: list[int] = []

    def add_tokens(self, logprobs: Sequence[TokenLogprob]) -> None:
        """More tokens of the text."""
        for each in logprobs:
            self._add(each.token, each.logprob, each.top)

    def add_scores(self, scores: Scores) -> None:
        """The tokens of a prompt; the first has no log-probability."""
        for token, logprob, top in zip(scores.tokens, scores.logprobs, scores.top):
            self._add(token, logprob, top)

    def _add(self, token: int, logprob: float | None, top: Sequence[tuple[int, float]]) -> None:
        text = spell(self._tokenizer, token)
        self._tokens.append(text)
        self._offsets.append(self._offset)
        self._offset += len(text)
        self._logprobs.append(None if logprob is None else max(logprob, LEAST))
        best = {spell(self._tokenizer, other): max(value, LEAST) for other, value in top[: self._most]}
        self._top.append(None if logprob is None else best)

    def to_json(self) -> dict[str, Any]:
        """The lists of this part."""
        return {
            "tokens": self._tokens,
            "token_logprobs": self._logprobs,
            "top_logprobs": self._top,
            "text_offset": self._offsets,
        }


def tell_prompt_logprobs(tokenizer: Tokenizer, scores: Scores | None, most: int | None) -> dict[str, Any]:
    """vLLM's form of a prompt's log-probabilities: of each token, and of the most probable ones at its place.

    A token that is not among these has no rank. Nothing where they were not asked for.
    """
    if most is None or scores is None:
        return {}

    def tell(token: int, logprob: float, rank: int | None) -> dict[str, Any]:
        return {"logprob": max(logprob, LEAST), "rank": rank, "decoded_token": spell(tokenizer, token)}

    places: list[dict[str, Any] | None] = []
    for token, logprob, top in zip(scores.tokens, scores.logprobs, scores.top):
        if logprob is None:
            places.append(None)
            continue
        place = {str(token): tell(token, logprob, None)}
        place |= {str(other): tell(other, value, rank) for rank, (other, value) in enumerate(top[:most], 1)}
        places.append(place)
    return {"prompt_logprobs": places}
