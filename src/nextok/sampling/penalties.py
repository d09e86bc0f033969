"""Transforms that look at the text so far: for one row, each of them becomes an edit of single tokens."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nextok.checks import check_number, check_whole
from nextok.sampling.edits import Add, Forbid, Scale
from nextok.sampling.past import Past
from nextok.sampling.sampler import Transform
from nextok.sampling.transforms import Surprise


@dataclass(frozen=True, slots=True)
class RepetitionPenalty(Transform):
    """Divides positive logits of tokens in prompt or text by `penalty`, multiplies negative ones.

    From CTRL (Keskar et al., arXiv 1909.05858), where it looked at the text alone.
    """

    penalty: float

    def __post_init__(self) -> None:
        check_number("repetition_penalty", self.penalty, 1e-6, 1e6, "; 1 is no penalty")

    def at(self, past: Past) -> Scale:
        """Each token counts once, however often it occurred."""
        return Scale(tuple(past.distinct()), self.penalty)


@dataclass(frozen=True, slots=True)
class PresencePenalty(Transform):
    """Subtracted from the logit of every token that has been generated; the prompt does not count."""

    penalty: float

    def __post_init__(self) -> None:
        check_number("presence_penalty", self.penalty, -1000, 1000)

    def at(self, past: Past) -> Add | None:
        """Once for each token."""
        generated = past.generated()
        return Add(tuple(generated), (-self.penalty,) * len(generated)) if generated else None


@dataclass(frozen=True, slots=True)
class FrequencyPenalty(Transform):
    """Subtracted from a logit once for each time that its token has been generated; the prompt does not count."""

    penalty: float

    def __post_init__(self) -> None:
        check_number("frequency_penalty", self.penalty, -1000, 1000)

    def at(self, past: Past) -> Add | None:
        """In proportion to the count."""
        generated = past.generated()
        if not generated:
            return None
        return Add(tuple(generated), tuple([-self.penalty * count for count in generated.values()]))


@dataclass(frozen=True, slots=True)
class NoRepeatNGram(Transform):
    """Forbids every token that would complete a run of `size` tokens that prompt or text hold already."""

    size: int

    def __post_init__(self) -> None:
        check_whole("no_repeat_ngram_size", self.size, 1)

    def at(self, past: Past) -> Forbid | None:
        """What followed the last size - 1 tokens before."""
        if self.size == 1:
            return Forbid(frozenset(past.distinct()))
        after = [past[place + 1] for place, length in past.matches().items() if length >= self.size - 1]
        return Forbid(frozenset(after)) if after else None


@dataclass(frozen=True, slots=True)
class DRY(Transform):
    """ "Don't repeat yourself": a token that would lengthen a repetition loses multiplier * base ** extra length.

    The extra length is that of the repeated text beyond `allowed_length`. A token whose bytes hold one of `breakers`
    ends a repetition and loses nothing; `window` (None: all) is how many tokens back repetitions are looked for.
    """

    multiplier: float
    base: float = 1.75
    allowed_length: int = 2
    window: int | None = None
    breakers: tuple[str, ...] = ("\n", ":", '"', "*")

    def __post_init__(self) -> None:
        check_number("multiplier of DRY", self.multiplier, 0, 1e6)
        check_number("base of DRY", self.base, 1, 100)
        check_whole("allowed_length of DRY", self.allowed_length, 1)
        if self.window is not None:
            check_whole("window of DRY", self.window, 1)
        if type(self.breakers) is not tuple or not all(isinstance(each, str) and each for each in self.breakers):
            raise ValueError(f"breakers of DRY must be a tuple of texts, none of them empty, got {self.breakers!r}")

    def at(self, past: Past) -> Add | None:
        """For each token that ever followed the text's end, the longest repetition that it would lengthen."""
        matches = past.matches()
        most = max(matches.values(), default=0)
        if most < self.allowed_length:
            return None
        breaks = self._breaks(past.token_bytes)
        reach = next((back for back in range(most) if breaks(past[len(past) - 1 - back])), most)
        start = 0 if self.window is None else len(past) - self.window
        longest: dict[int, int] = {}
        for place, length in matches.items():
            length, token = min(length, reach, place + 1 - start), past[place + 1]
            if length >= max(self.allowed_length, longest.get(token, 0)):
                longest[token] = length
        longest = {token: length for token, length in longest.items() if not breaks(token)}
        amounts = [-self.multiplier * self._power(length - self.allowed_length) for length in longest.values()]
        return Add(tuple(longest), tuple(amounts)) if longest else None

    def _power(self, extra: int) -> float:
        try:
            return min(self.base**extra, 1e30)
        except OverflowError:
            return 1e30

    def _breaks(self, token_bytes: Sequence[bytes]) -> Callable[[int], bool]:
        """Whether a token ends repetitions; none does if it is not known what tokens stand for."""
        breakers = [breaker.encode(errors="surrogatepass") for breaker in self.breakers] if token_bytes else []
        return lambda token: any(breaker in token_bytes[token] for breaker in breakers)


@dataclass(frozen=True, slots=True)
class BadWords(Transform):
    """Forbids the last token of each sequence where the text ends with the others; one token is always forbidden."""

    sequences: tuple[tuple[int, ...], ...]

    def at(self, past: Past) -> Forbid | None:
        """The tokens that would complete one of them."""
        longest = past.last(max((len(sequence) for sequence in self.sequences), default=1) - 1)
        banned = [sequence[-1] for sequence in self.sequences if _ends_with(longest, sequence[:-1])]
        return Forbid(frozenset(banned)) if banned else None


@dataclass(frozen=True, slots=True)
class Mirostat(Transform):
    """Keeps the surprise of the text near `tau` bits a token, learning at rate `eta` (arXiv 2007.14966).

    Version 1 chooses a k for top-k from an estimate of Zipf's exponent, version 2 removes every token of more than mu
    bits; both then move mu by eta times the error of the token that was drawn.
    """

    version: int = 2
    tau: float = 5.0
    eta: float = 0.1

    def __post_init__(self) -> None:
        if type(self.version) is not int or self.version not in (1, 2):
            raise ValueError(f"the version of mirostat must be 1 or 2, got {self.version!r}")
        check_number("tau of mirostat", self.tau, 0, 100)
        check_number("eta of mirostat", self.eta, 0, 10)

    def at(self, past: Past) -> Surprise:
        """With mu after this text, which is 2 tau to begin with."""
        return Surprise(self.version, self.tau, self.eta, 2 * self.tau if past.mu is None else past.mu)


def _ends_with(tokens: Sequence[int], end: Sequence[int]) -> bool:
    return not end or tuple(tokens[-len(end) :]) == tuple(end)
