"""What a caller may ask of one generation besides its strategy, checked before any model runs."""

import operator
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nextok.request import Limits

MOST_SAMPLES = 256
MOST_ALTERNATIVES = 1000


@dataclass(frozen=True, slots=True)
class Options:
    """The keyword arguments of `LM.generate`, with the meanings given there."""

    max_tokens: int = 256
    min_tokens: int = 0
    stop: str | Sequence[str] = ()
    stop_token_ids: Sequence[int] = ()
    ignore_eos: bool = False
    seed: int | None = None
    n: int = 1
    logprobs: int | None = None

    def __post_init__(self) -> None:
        _whole("max_tokens", self.max_tokens, 1, 1 << 31)
        _whole("min_tokens", self.min_tokens, 0, self.max_tokens)
        _whole("n", self.n, 1, MOST_SAMPLES)
        if self.logprobs is not None:
            _whole("logprobs", self.logprobs, 0, MOST_ALTERNATIVES)
        if self.seed is not None:
            _whole("seed", self.seed)
        for stop in self.stop_strings:
            if not isinstance(stop, str) or not stop:
                raise ValueError(f"a stop string must be text and not empty, got {stop!r}")

    @property
    def stop_strings(self) -> Sequence[str]:
        """The stop strings, also where a single one was given."""
        return [self.stop] if isinstance(self.stop, str) else self.stop

    def limits(self, eos_ids: frozenset[int], token_bytes: Sequence[bytes], vocab_size: int, context: int) -> Limits:
        """These wishes for one model and its vocabulary."""
        stop_ids = checked_ids(self.stop_token_ids, len(token_bytes))
        return Limits(
            max_tokens=self.max_tokens,
            min_tokens=self.min_tokens,
            context=context,
            stop_ids=frozenset(stop_ids) | (frozenset() if self.ignore_eos else eos_ids),
            stop=tuple(stop.encode() for stop in self.stop_strings),
            token_bytes=token_bytes,
            vocab_size=vocab_size,
        )

    def drawn_seed(self) -> int:
        """The seed that was given, or a new one."""
        return secrets.randbits(48) if self.seed is None else self.seed


def checked_ids(ids: Sequence[Any], vocab_size: int) -> list[int]:
    """Token ids as plain ints, all of them inside the vocabulary."""
    if isinstance(ids, bytes | bytearray):
        raise ValueError("a prompt is text or token ids, got bytes; decode them first, as in prompt.decode()")
    try:
        plain = [operator.index(token) for token in ids]
    except TypeError:
        raise ValueError(f"token ids must be whole numbers, got {ids!r:.80}") from None
    for token in plain:
        if not 0 <= token < vocab_size:
            raise ValueError(f"token id {token} is outside the vocabulary; ids go from 0 to {vocab_size - 1}")
    return plain


def _whole(name: str, value: Any, least: int | None = None, most: int | None = None) -> None:
    if type(value) is bool or not hasattr(value, "__index__"):
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    if (least is not None and value < least) or (most is not None and value > most):
        raise ValueError(f"{name} must be from {least} to {most:,}, got {value!r}")
