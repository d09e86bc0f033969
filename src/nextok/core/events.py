"""What a strategy tells while it works. A trace is a list of these."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Token:
    """A token joined the text."""

    token: int
    node: int


@dataclass(frozen=True, slots=True)
class Chosen:
    """What was chosen after `node`, with log-probabilities; only for requests that ask for them.

    The first ones are those of the model's own scores, the processed ones those that were drawn from.
    """

    node: int
    token: int
    logprob: float | None
    top: tuple[tuple[int, float], ...]  # the most probable tokens there, best first
    processed: float | None = None
    processed_top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Verified:
    """One draft was checked: how many tokens it held and how many of them the target drew as well."""

    drafted: int
    accepted: int


@dataclass(frozen=True, slots=True)
class DraftFailed:
    """A draft failed; the text goes on without one."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One beam: its last node, the sum of its log-probabilities, and its score (length-normalised once finished)."""

    node: int
    logprob: float
    score: float


@dataclass(frozen=True, slots=True)
class Beams:
    """The state of a beam search after a step, each list best first."""

    live: tuple[Hypothesis, ...]
    finished: tuple[Hypothesis, ...]


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a request: stop, length, context, cancelled or error."""

    reason: str
    error: Exception | None = None


Event = Token | Chosen | Verified | DraftFailed | Beams | Finished
