"""What comes back from a generation: texts, their tokens, why they ended, and what they cost."""

from dataclasses import dataclass
from typing import Any, Self

MOST_SHOWN = 30
"""Largest number of characters of a text that a repr shows; the whole line stays within 100."""


def _shorten(text: str) -> str:
    """A text in quotes, on one line, cut at its end where it is long."""
    shown = repr(text)
    return shown if len(shown) <= MOST_SHOWN else f"{shown[: MOST_SHOWN - 4]}...{shown[0]}"


@dataclass(frozen=True, slots=True, repr=False)
class TokenLogprob:
    """A generated token's log-probability, and the most probable tokens at its place, best first.

    `logprob` and `top` are those of the model's own scores; the processed ones those of what was drawn from, after
    masks, penalties and filters.
    """

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]
    processed: float
    processed_top: tuple[tuple[int, float], ...]

    def __repr__(self) -> str:
        return f"<TokenLogprob of {self.token}: {self.logprob:.4f}, {len(self.top)} alternatives>"


@dataclass(frozen=True, slots=True, repr=False)
class Completion:
    """One text.

    `tokens` holds all generated ids; a stop token is among them, but neither it nor a stop string is in `text`.
    `finish_reason`: stop, length, context, timeout, cancelled or error; `error` says which.
    `score`: of a beam, its length-normalised log-probability; of a StochasticBeam, its perturbed log-probability.
    `logprobs`: if they were asked for; None of a beam search that was cut short.
    `message`: of a chat, the text as a message in OpenAI's form: `content`, `reasoning_content`, `tool_calls`.
    """

    text: str
    tokens: list[int]
    finish_reason: str
    seed: int
    logprobs: list[TokenLogprob] | None = None
    score: float | None = None
    error: Exception | None = None
    message: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return f"<Completion {_describe(self)}>"


@dataclass(frozen=True, slots=True, repr=False)
class Stats:
    """What a generation cost. `passes`: of the target model, its prompt's included; drafts count as drafted.

    `accepted_lengths[i]` is how many verifications accepted exactly i tokens; an empty draft accepts none.
    """

    prompt_tokens: int
    generated_tokens: int
    passes: int
    verifications: int  # passes that checked a draft
    drafted: int
    accepted: int  # drafted tokens that the target drew as well; its own extra token is not counted
    accepted_lengths: tuple[int, ...]
    seconds_to_first_token: float
    seconds: float
    draft_error: Exception | None = None  # why drafting stopped before the text did
    cached_tokens: int = 0  # of the prompt, those that had been read before, for this text or another one

    def __repr__(self) -> str:
        drafts = f", {self.accepted} of {self.drafted} drafted accepted" if self.drafted else ""
        return f"<Stats {self.generated_tokens} tokens in {self.passes} passes, {self.seconds:.3g} s{drafts}>"

    @property
    def acceptance_rate(self) -> float | None:
        """Accepted of drafted tokens; None without a draft."""
        return self.accepted / self.drafted if self.drafted else None

    @property
    def mean_accepted(self) -> float | None:
        """Accepted tokens a verification, the target's own extra token not counted; None without a draft."""
        return self.accepted / self.verifications if self.verifications else None

    @property
    def tokens_per_second(self) -> float:
        """Generated tokens after the first, per second after the first."""
        rest = self.seconds - self.seconds_to_first_token
        return (self.generated_tokens - 1) / rest if rest > 0 else 0.0


@dataclass(frozen=True, slots=True, repr=False)
class Scores:
    """How probable a given text is: `logprobs[i]` and `top[i]`, the best tokens there, belong to `tokens[i]`.

    The first token has no log-probability.
    """

    tokens: list[int]
    logprobs: list[float | None]
    top: list[tuple[tuple[int, float], ...]]

    def __repr__(self) -> str:
        return f"<Scores of {len(self.tokens)} tokens, total {self.total:.4f}>"

    @property
    def total(self) -> float:
        """The natural log-probability of the text after its first token."""
        return sum(logprob for logprob in self.logprobs if logprob is not None)


@dataclass(frozen=True, slots=True, repr=False)
class Output:
    """The result for one prompt; with several choices, the properties are those of the first."""

    choices: tuple[Completion, ...]
    stats: Stats
    prompt_logprobs: Scores | None = None

    def __repr__(self) -> str:
        more = f", and {len(self.choices) - 1} more" if len(self.choices) > 1 else ""
        return f"<Output {_describe(self.choices[0])}{more}>"

    def raise_for_error(self) -> Self:
        """Raise the error of the first choice that has one; else this output."""
        for choice in self.choices:
            if choice.error:
                raise choice.error
        return self

    @property
    def text(self) -> str:
        """The generated text."""
        return self.choices[0].text

    @property
    def tokens(self) -> list[int]:
        """The generated token ids."""
        return self.choices[0].tokens

    @property
    def message(self) -> dict[str, Any] | None:
        """Of a chat, the answer as a message in OpenAI's form."""
        return self.choices[0].message

    @property
    def finish_reason(self) -> str:
        """Why the text ended."""
        return self.choices[0].finish_reason

    @property
    def seed(self) -> int:
        """The seed that gives this text again."""
        return self.choices[0].seed

    @property
    def logprobs(self) -> list[TokenLogprob] | None:
        """Log-probabilities, if they were asked for."""
        return self.choices[0].logprobs

    @property
    def error(self) -> Exception | None:
        """What went wrong, if the text ended in an error."""
        return self.choices[0].error


class Outputs(list[Output]):
    """The outputs of several prompts, in the order of the prompts; a list, also in comparisons."""

    def raise_for_error(self) -> Self:
        """Raise the first error that an output has; else this list."""
        for output in self:
            output.raise_for_error()
        return self


def _describe(choice: Completion) -> str:
    reason = f"{choice.finish_reason}: {type(choice.error).__name__}" if choice.error else choice.finish_reason
    return f"{_shorten(choice.text)} {len(choice.tokens)} tokens, {reason}"


def make_failed_output(error: Exception) -> Output:
    """The output of a prompt that could not be begun."""
    stats = Stats(0, 0, 0, 0, 0, 0, (), 0.0, 0.0)
    return Output((Completion("", [], "error", seed=0, error=error),), stats)
