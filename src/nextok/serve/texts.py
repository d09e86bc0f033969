"""How tokens are told as texts: whole characters where they are, and the bytes of every token."""

from collections.abc import Sequence
from typing import Any

from nextok.generation.output import TokenLogprob
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


def completion_logprobs(
    tokenizer: Tokenizer,
    tokens: Sequence[int],
    logprobs: Sequence[float | None],
    top: Sequence[Sequence[tuple[int, float]]],
    offset: int = 0,
) -> dict[str, Any]:
    """The form of completions: four lists of equal length. Raw, before any transform."""
    texts = [spell(tokenizer, token) for token in tokens]
    offsets = []
    for text in texts:
        offsets.append(offset)
        offset += len(text)
    return {
        "tokens": texts,
        "token_logprobs": [None if each is None else max(each, LEAST) for each in logprobs],
        "top_logprobs": [
            None if logprob is None else {spell(tokenizer, token): max(value, LEAST) for token, value in best}
            for logprob, best in zip(logprobs, top)
        ],
        "text_offset": offsets,
    }
