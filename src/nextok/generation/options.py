"""What a caller may ask of one generation besides its strategy, checked before any model runs."""

import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, TypedDict, Unpack, get_args, get_type_hints

from nextok.checks import check_flag, check_ids, check_number, check_whole, is_number
from nextok.core.ending import Limits
from nextok.generation.explain import explain_options
from nextok.grammar.grammar import Grammar
from nextok.sampling.edits import Add, Allow, Forbid
from nextok.sampling.penalties import BadWords
from nextok.sampling.sampler import Transform
from nextok.text.tokenizer import Tokenizer

MOST_SAMPLES = 256
MOST_ALTERNATIVES = 1000
MOST_BIAS = 1e6
MOST_SECONDS = 1e9


@dataclass(frozen=True, slots=True)
class Says:
    """The default of an option and its meaning, as `help` shows them."""

    default: Any
    meaning: str


class GenerateOptions(TypedDict, total=False):
    """The keyword arguments of `LM.generate`, `stream` and `chat`: type, default and meaning, written only here."""

    max_tokens: Annotated[int, Says(256, "Generate at most this many tokens.")]
    min_tokens: Annotated[int, Says(0, "No stop token and no stop string counts before so many tokens.")]
    stop: Annotated[str | Sequence[str] | None, Says((), "The text ends before this text, or before one of these.")]
    stop_token_ids: Annotated[Sequence[int], Says((), "Tokens that end the text, besides the model's own.")]
    ignore_eos: Annotated[bool, Says(False, "The model's own end tokens end nothing.")]
    seed: Annotated[int | None, Says(None, "The same seed gives the same text; None draws one and reports it.")]
    n: Annotated[int, Says(1, "How many samples of the prompt, which is read once.")]
    logprobs: Annotated[int | None, Says(None, "Report log-probabilities, with so many alternatives.")]
    logit_bias: Annotated[Mapping[int, float], Says({}, "Added to these tokens' scores; -inf forbids a token.")]
    allowed_token_ids: Annotated[Sequence[int] | None, Says(None, "No other token can be chosen; None allows all.")]
    forbidden_token_ids: Annotated[Sequence[int], Says((), "These tokens cannot be chosen.")]
    bad_words: Annotated[
        Sequence[str | Sequence[int]], Says((), "Texts, or lists of token ids, that are never written.")
    ]
    grammar: Annotated[Grammar | None, Says(None, "The text follows this grammar, and ends when it is complete.")]
    prompt_logprobs: Annotated[bool, Says(False, "Report log-probabilities of the prompt's tokens as well.")]
    timeout: Annotated[
        float | None, Says(None, 'End the text after so many seconds, with finish_reason "timeout"; None never does.')
    ]


class Option(NamedTuple):
    """One of the options, as data."""

    kind: Any
    default: Any
    meaning: str


def read_options(kind: type) -> dict[str, Option]:
    """Every option of a TypedDict such as GenerateOptions by its name, in the order in which `help` shows them."""
    hints = get_type_hints(kind, include_extras=True)
    parts = {name: get_args(hint) for name, hint in hints.items()}
    return {name: Option(kind, says.default, says.meaning) for name, (kind, says) in parts.items()}


OPTIONS = read_options(GenerateOptions)


class CheckedOptions:
    """The options of one call, complete and checked; ValueError if one is wrong, and for an option that is none."""

    __slots__ = ("values",)

    def __init__(self, **given: Unpack[GenerateOptions]) -> None:
        if unknown := {name: value for name, value in given.items() if name not in OPTIONS}:
            raise ValueError(explain_options(unknown, OPTIONS))
        complete: Any = {name: option.default for name, option in OPTIONS.items()} | {**given}
        self.values: GenerateOptions = complete
        _check_numbers(self.values)
        _check_texts(self.values)
        _check_bias(self.values["logit_bias"])

    @property
    def n(self) -> int:
        """How many samples."""
        return self.values["n"]

    @property
    def logprobs(self) -> int | None:
        """How many alternatives are reported with log-probabilities; None: nothing is reported."""
        return self.values["logprobs"]

    @property
    def prompt_logprobs(self) -> bool:
        """Whether those of the prompt are reported too."""
        return self.values["prompt_logprobs"]

    @property
    def timeout(self) -> float | None:
        """After how many seconds the text ends."""
        return self.values["timeout"]

    def with_grammar(self, grammar: Grammar | None) -> "CheckedOptions":
        """The same with the grammar of a forced tool call; ValueError if the caller gave another one."""
        if grammar is None:
            return self
        if self.values["grammar"] is not None:
            raise ValueError("grammar and a forced tool_choice contradict each other: leave one of them out")
        values: GenerateOptions = {**self.values, "grammar": grammar}
        return CheckedOptions(**values)

    def draw_seed(self) -> int:
        """The seed that was given, or a new one."""
        seed = self.values["seed"]
        return secrets.randbits(48) if seed is None else seed

    def make_limits(
        self, eos_ids: frozenset[int], token_bytes: Sequence[bytes], vocab_size: int, context: int
    ) -> Limits:
        """When a text ends, for one model and its vocabulary."""
        values = self.values
        stop_ids = check_ids(values["stop_token_ids"], len(token_bytes), " of stop_token_ids")
        return Limits(
            max_tokens=values["max_tokens"],
            min_tokens=values["min_tokens"],
            context=context,
            stop_ids=frozenset(stop_ids) | (frozenset() if values["ignore_eos"] else eos_ids),
            stop=tuple(stop.encode() for stop in _list_stops(values)),
            token_bytes=token_bytes,
            vocab_size=vocab_size,
        )

    def make_masks(
        self, tokenizer: Tokenizer, vocab_size: int, ends: frozenset[int]
    ) -> Callable[[], tuple[Transform, ...]]:
        """A function that makes, for each request, what is done to every row of scores: bias, masks, grammar.

        `ends`: the tokens that end a text.
        """
        masks = _mask_tokens(self.values, vocab_size, ends)
        words = self.values["bad_words"]
        if sequences := [each for word in words for each in _spell(word, tokenizer, vocab_size)]:
            masks.append(BadWords(tuple(dict.fromkeys(sequences))))
        if self.values["grammar"] is None:
            return lambda: tuple(masks)
        compiled = self.values["grammar"].compile(tokenizer, vocab_size, ends)
        return lambda: (*masks, compiled.begin())


def _check_numbers(values: GenerateOptions) -> None:
    most = values["max_tokens"]
    check_whole("max_tokens", most, 1, 1 << 31)
    check_whole("min_tokens", values["min_tokens"], 0, most, "; the upper bound is max_tokens")
    check_whole("n", values["n"], 1, MOST_SAMPLES)
    if values["logprobs"] is not None:
        check_whole("logprobs", values["logprobs"], 0, MOST_ALTERNATIVES)
    if values["seed"] is not None:
        check_whole("seed", values["seed"])
    check_flag("ignore_eos", values["ignore_eos"])
    check_flag("prompt_logprobs", values["prompt_logprobs"])
    timeout: Any = values["timeout"]
    if timeout is not None and not (is_number(timeout) and 0 < timeout <= MOST_SECONDS):
        raise ValueError(
            f"timeout must be a number of seconds above 0, at most {MOST_SECONDS:g}, got {timeout!r}; None never ends"
        )


def _list_stops(values: GenerateOptions) -> Sequence[str]:
    """The stop strings, also where a single one was given, or None."""
    stop = values["stop"]
    return [stop] if isinstance(stop, str) else () if stop is None else stop


def _check_texts(values: GenerateOptions) -> None:
    if not isinstance(values["stop"], str | Sequence | None):
        raise ValueError(f"stop must be a text or a list of texts, got {values['stop']!r}")
    for stop in _list_stops(values):
        if not isinstance(stop, str) or not stop:
            raise ValueError(f"a stop string must be text and not empty, got {stop!r}")
    words = values["bad_words"]
    if isinstance(words, str | bytes) or not isinstance(words, Sequence):
        raise ValueError(f"bad_words must be a list of texts or of lists of token ids, got {words!r}")
    for word in words:
        if isinstance(word, bytes) or not isinstance(word, Sequence) or not word:
            raise ValueError(f"a bad word must be a text or a list of token ids and not empty, got {word!r}")
    if not isinstance(values["grammar"], Grammar | None):
        raise ValueError(
            "grammar must be Grammar.choices(...), .regex(...), .json_schema(...) or .lark(...), "
            f"got {values['grammar']!r:.80}"
        )


def _check_bias(biases: Mapping[int, float]) -> None:
    if not isinstance(biases, Mapping):
        raise ValueError(f"logit_bias must be a mapping as in {{token: 2.5}}, got {biases!r}")
    for token, bias in biases.items():
        if not (is_number(bias) and bias == -math.inf):
            check_number(f"the logit_bias of token {token!r}", bias, -MOST_BIAS, MOST_BIAS, "; -inf forbids a token")


def _mask_tokens(values: GenerateOptions, vocab_size: int, ends: frozenset[int]) -> list[Transform]:
    """The bias, and which tokens can be chosen."""
    biased = check_ids([*values["logit_bias"]], vocab_size, " of logit_bias")
    bias = dict(zip(biased, map(float, values["logit_bias"].values())))
    forbidden = {*check_ids(values["forbidden_token_ids"], vocab_size, " of forbidden_token_ids")}
    forbidden |= {token for token, value in bias.items() if value == -math.inf}
    added = {token: value for token, value in bias.items() if token not in forbidden}
    masks: list[Transform] = [Add(tuple(added), tuple(added.values()))] if added else []
    if values["allowed_token_ids"] is not None:
        allowed = {*check_ids(values["allowed_token_ids"], vocab_size, " of allowed_token_ids")} - forbidden
        masks.append(_allow(allowed, ends if values["min_tokens"] else frozenset()))
    elif len(forbidden) >= vocab_size:
        raise ValueError(f"all {vocab_size} tokens are forbidden; allow at least one")
    elif forbidden:
        masks.append(Forbid(frozenset(forbidden)))
    return masks


def _spell(word: str | Sequence[int], tokenizer: Tokenizer, vocab_size: int) -> list[tuple[int, ...]]:
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
