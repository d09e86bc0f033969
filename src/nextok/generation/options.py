"""What a caller may ask of one generation besides its strategy, checked before any model runs."""

import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

from nextok.checks import check_flag, check_ids, check_number, check_whole, is_number
from nextok.core.ending import Limits
from nextok.grammar.grammar import Grammar
from nextok.sampling.edits import Add, Allow, Forbid
from nextok.sampling.penalties import BadWords
from nextok.sampling.sampler import Transform
from nextok.text.tokenizer import Tokenizer

MOST_SAMPLES = 256
MOST_ALTERNATIVES = 1000
MOST_BIAS = 1e6


class Wishes(TypedDict, total=False):
    """What a caller may say as keyword arguments of `LM.generate`, `LM.stream` and `LM.chat`."""

    max_tokens: int  # to generate at most; 256
    min_tokens: int  # before a stop counts
    stop: str | Sequence[str]  # the text ends before one of these
    stop_token_ids: Sequence[int]  # tokens that end the text, besides the model's own
    ignore_eos: bool  # the model's own end tokens end nothing
    seed: int | None  # None draws one and reports it
    n: int  # samples of the prompt, which is read once
    logprobs: int | None  # report log-probabilities, with so many alternatives
    prompt_logprobs: bool  # of the prompt's tokens as well
    timeout: float | None  # seconds after which the text ends with what exists
    logit_bias: Mapping[int, float]  # added to these tokens' scores; -inf forbids one
    allowed_token_ids: Sequence[int] | None  # no other token can be chosen
    forbidden_token_ids: Sequence[int]  # these cannot be chosen
    bad_words: Sequence[str | Sequence[int]]  # token ids never to be completed, or texts as they are usually cut
    grammar: Grammar | None  # the text must follow it, and ends when it is complete


@dataclass(frozen=True, slots=True)
class Options:
    """The wishes of one call, checked, with their defaults."""

    max_tokens: int = 256
    min_tokens: int = 0
    stop: str | Sequence[str] = ()
    stop_token_ids: Sequence[int] = ()
    ignore_eos: bool = False
    seed: int | None = None
    n: int = 1
    logprobs: int | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    allowed_token_ids: Sequence[int] | None = None
    forbidden_token_ids: Sequence[int] = ()
    bad_words: Sequence[str | Sequence[int]] = ()
    grammar: Grammar | None = None
    prompt_logprobs: bool = False
    timeout: float | None = None

    def __post_init__(self) -> None:
        check_whole("max_tokens", self.max_tokens, 1, 1 << 31)
        check_whole("min_tokens", self.min_tokens, 0, self.max_tokens, "; the upper bound is max_tokens")
        check_whole("n", self.n, 1, MOST_SAMPLES)
        if self.logprobs is not None:
            check_whole("logprobs", self.logprobs, 0, MOST_ALTERNATIVES)
        if self.seed is not None:
            check_whole("seed", self.seed)
        check_flag("ignore_eos", self.ignore_eos)
        check_flag("prompt_logprobs", self.prompt_logprobs)
        if not isinstance(self.grammar, Grammar | None):
            raise ValueError(
                "grammar must be Grammar.choices(...), .regex(...), .json_schema(...) or .lark(...), "
                f"got {self.grammar!r:.80}"
            )
        self._check_texts()
        self._check_bias()

    def _check_texts(self) -> None:
        if not isinstance(self.stop, str | Sequence):
            raise ValueError(f"stop must be a text or a list of texts, got {self.stop!r}")
        for stop in self.stop_strings:
            if not isinstance(stop, str) or not stop:
                raise ValueError(f"a stop string must be text and not empty, got {stop!r}")
        words = self.bad_words
        if isinstance(words, str | bytes) or not isinstance(words, Sequence):
            raise ValueError(f"bad_words must be a list of texts or of lists of token ids, got {words!r}")
        for word in words:
            if isinstance(word, bytes) or not isinstance(word, Sequence) or not word:
                raise ValueError(f"a bad word must be a text or a list of token ids and not empty, got {word!r}")

    def _check_bias(self) -> None:
        if not isinstance(self.logit_bias, Mapping):
            raise ValueError(f"logit_bias must be a mapping as in {{token: 2.5}}, got {self.logit_bias!r}")
        for token, bias in self.logit_bias.items():
            if not (is_number(bias) and bias == -math.inf):
                check_number(
                    f"the logit_bias of token {token!r}", bias, -MOST_BIAS, MOST_BIAS, "; -inf forbids a token"
                )

    @property
    def stop_strings(self) -> Sequence[str]:
        """The stop strings, also where a single one was given."""
        return [self.stop] if isinstance(self.stop, str) else self.stop

    def limits(self, eos_ids: frozenset[int], token_bytes: Sequence[bytes], vocab_size: int, context: int) -> Limits:
        """These wishes for one model and its vocabulary."""
        stop_ids = check_ids(self.stop_token_ids, len(token_bytes), " of stop_token_ids")
        return Limits(
            max_tokens=self.max_tokens,
            min_tokens=self.min_tokens,
            context=context,
            stop_ids=frozenset(stop_ids) | (frozenset() if self.ignore_eos else eos_ids),
            stop=tuple(stop.encode() for stop in self.stop_strings),
            token_bytes=token_bytes,
            vocab_size=vocab_size,
        )

    def masks(
        self, tokenizer: Tokenizer, vocab_size: int, ends: frozenset[int]
    ) -> Callable[[], tuple[Transform, ...]]:
        """Makes, for each request, what these wishes do to every row of scores: bias, what is allowed, grammar.

        `ends`: the tokens that end a text.
        """
        biased = check_ids([*self.logit_bias], vocab_size, " of logit_bias")
        bias = dict(zip(biased, map(float, self.logit_bias.values())))
        forbidden = {*check_ids(self.forbidden_token_ids, vocab_size, " of forbidden_token_ids")}
        forbidden |= {token for token, value in bias.items() if value == -math.inf}
        added = {token: value for token, value in bias.items() if token not in forbidden}
        masks: list[Transform] = [Add(tuple(added), tuple(added.values()))] if added else []
        if self.allowed_token_ids is not None:
            allowed = {*check_ids(self.allowed_token_ids, vocab_size, " of allowed_token_ids")} - forbidden
            masks.append(_allow(allowed, ends if self.min_tokens else frozenset()))
        elif len(forbidden) >= vocab_size:
            raise ValueError(f"all {vocab_size} tokens are forbidden; allow at least one")
        elif forbidden:
            masks.append(Forbid(frozenset(forbidden)))
        if sequences := [each for word in self.bad_words for each in _spellings(word, tokenizer, vocab_size)]:
            masks.append(BadWords(tuple(dict.fromkeys(sequences))))
        if self.grammar is None:
            return lambda: tuple(masks)
        compiled = self.grammar.compile(tokenizer, vocab_size, ends)
        return lambda: (*masks, compiled.begin())

    def drawn_seed(self) -> int:
        """The seed that was given, or a new one."""
        return secrets.randbits(48) if self.seed is None else self.seed


def _spellings(word: str | Sequence[int], tokenizer: Tokenizer, vocab_size: int) -> list[tuple[int, ...]]:
    """The token ids of a bad word: as they were given, or of a text at the start and in the middle of a line."""
    if not isinstance(word, str):
        return [tuple(check_ids(word, vocab_size, " of bad_words"))]
    spelled = (tokenizer.encode(text, special=False) for text in (word, " " + word.lstrip()))
    return [tuple(tokens) for tokens in spelled if tokens]


def _allow(tokens: set[int], early_stops: frozenset[int]) -> Allow:
    if not tokens:
        raise ValueError(
            "allowed_token_ids leaves no token that is not forbidden; allow one, or leave it out to allow all"
        )
    if tokens <= early_stops:
        raise ValueError(
            "allowed_token_ids allows only stop tokens, and min_tokens none of them at first; "
            "allow another token, or leave min_tokens out"
        )
    mask = bytearray(max(tokens) // 8 + 1)
    for token in tokens:
        mask[token >> 3] |= 1 << (token & 7)
    return Allow(bytes(mask))
