"""The only question a strategy can ask: score these nodes, and read the scores like this.

Decisions come home, logits do not: a reply holds tokens and log-probabilities, never a row of the vocabulary.
"""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from nextok.core.events import Chosen, Event
from nextok.errors import DeadEndError
from nextok.sampling.sampler import Sampler, Transform

TARGET = "target"
"""The model whose text is being written; any other model in a query is the model object itself."""


class Candidate(NamedTuple):
    """A possible next token and its natural log-probability."""

    token: int
    logprob: float


class Drawn(NamedTuple):
    """A token drawn without replacement, its natural log-probability, and that plus its Gumbel noise."""

    token: int
    logprob: float
    perturbed: float


@dataclass(frozen=True, slots=True)
class Choice:
    """The token at one node, and where they were asked for its log-probability and the best alternatives.

    `logprob` and `top` are those of the model's own scores, the processed ones of the distribution after the
    transforms, from which it was drawn. `surprise` is the token's under the latter, in bits: told where mirostat is
    among the transforms.
    """

    token: int
    logprob: float | None = None
    top: tuple[Candidate, ...] = ()
    processed: float | None = None
    processed_top: tuple[Candidate, ...] = ()
    surprise: float | None = None


@dataclass(frozen=True, slots=True)
class Pick:
    """Draw one token from the node's scores. Reply: a Choice."""

    sampler: Sampler

    @property
    def transforms(self) -> tuple[Transform, ...]:
        """What happens to the scores first."""
        return self.sampler.transforms

    def after(self, transforms: tuple[Transform, ...]) -> "Pick":
        """The same with other transforms."""
        return Pick(Sampler(transforms, self.sampler.noise))


@dataclass(frozen=True, slots=True)
class Top:
    """The `count` most probable tokens after the transforms, best first, ties by lowest id. Reply: Candidates."""

    count: int
    transforms: tuple[Transform, ...] = ()

    def after(self, transforms: tuple[Transform, ...]) -> "Top":
        """The same with other transforms."""
        return Top(self.count, transforms)


@dataclass(frozen=True, slots=True)
class Draws:
    """A sample of `count` different tokens: those with the largest sum of log-probability and noise. Reply: Drawn.

    The noise belongs to the whole path, so that two nodes at one position draw independently. (Gumbel top-k:
    Kool et al., arXiv 1903.06059.)
    """

    count: int
    transforms: tuple[Transform, ...] = ()

    def after(self, transforms: tuple[Transform, ...]) -> "Draws":
        """The same with other transforms."""
        return Draws(self.count, transforms)


@dataclass(frozen=True, slots=True)
class Score:
    """How probable a given token is. Reply: a Choice with that token.

    `per_path`: transforms that use noise (XTC) see that of Draws, which the token came from.
    """

    token: int
    transforms: tuple[Transform, ...] = ()
    per_path: bool = False

    def after(self, transforms: tuple[Transform, ...]) -> "Score":
        """The same with other transforms."""
        return Score(self.token, transforms, self.per_path)


Read = Pick | Top | Draws | Score


@dataclass(frozen=True, slots=True)
class Query:
    """Score these nodes with one model; `reads` has one entry for each node, or a single one for all."""

    nodes: tuple[int, ...]
    reads: tuple[Read, ...]
    model: object = TARGET

    def __post_init__(self) -> None:
        if not self.nodes:
            raise ValueError("a query must name at least one node")
        if len(self.nodes) > 1 and len(set(self.nodes)) < len(self.nodes):
            raise ValueError(f"a query must name each node once, got {self.nodes!r:.80}")
        if len(self.reads) not in (1, len(self.nodes)):
            raise ValueError(f"a query of {len(self.nodes)} nodes needs as many reads or one, got {len(self.reads)}")

    def read(self, index: int) -> Read:
        """How the node at `index` is read."""
        return self.reads[index if len(self.reads) > 1 else 0]


@dataclass(frozen=True, slots=True)
class Row:
    """One readout of one row of logits, with everything a backend needs to know for it.

    None of the transforms of `read` looks back any more.
    """

    index: int  # of the row, counted over all feeds of the pass in their order
    read: Read
    seed: int
    position: int  # of the token to be chosen, in its whole path
    logprobs: int | None = None  # how many alternatives to report; None: no log-probabilities at all
    after: tuple[int, int] | None = None  # of mirostat: the place of an earlier Row of the pass, its token to here


def select_replies(query: Query, answers: Mapping[int, Any]) -> dict[int, Any]:
    """What the strategy hears of the answers, in the order of its question; raises the error of a node among them.

    A guess that cannot be read is left out: the text may never come there, and if it does, it is asked for again.
    So is the dead end of a draft model.
    """
    replies: dict[int, Any] = {}
    for position, node in enumerate(query.nodes):
        answer = answers[node]
        guessed = position > 0 and isinstance(query.read(position), Pick)
        if not isinstance(answer, Exception):
            replies[node] = answer
        elif not (guessed if query.model is TARGET else isinstance(answer, DeadEndError)):
            raise answer
    return replies


@dataclass(frozen=True, slots=True)
class SpeedOf:
    """Tokens per second with guesses: the reply to a Speed question.

    `seconds(guesses, passes)`: time of so many passes of the draft model, and of one of the target that checks so
    many guesses. `gained`: how many tokens other requests gain from the same pass. `otherwise`: tokens per second
    that there are without these guesses, where that is more than plain decoding brings.
    """

    seconds: Callable[[int, int], float]
    gained: int = 0
    otherwise: float = 0.0

    def __call__(self, expected: float, guesses: int, passes: int) -> float:
        """Those of all requests together, if this one gains `expected` tokens from such a pass."""
        speed = (self.gained + expected) / self.seconds(guesses, passes)
        return speed if guesses else max(speed, self.otherwise)


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast would the text grow with guesses of this length? Reply at once: a SpeedOf.

    `model`: the draft model that makes the guesses; None: guesses cost nothing.
    """

    model: object = None


CONSTANT_SPEED = SpeedOf(lambda guesses, passes: 1.0)
"""The speed where a pass takes the same time however much is guessed."""


T = TypeVar("T")
Decoding = Generator[Query | Speed | Event, Any, T]
"""A strategy in flight: it yields questions and events; a Query is answered by {node: reply}."""


def pick(nodes: Iterable[int], sampler: Sampler, model: object = TARGET) -> Decoding[dict[int, int]]:
    """One token for each node, as {node: token}; log-probabilities, if the request wants any, leave as events.

    The first node is where the text stands, the others are guesses, and so is every node of another model than the
    target: those at which nothing could be chosen are missing.
    """
    choices = yield from choose(nodes, sampler, model)
    for node, choice in choices.items():
        if choice.logprob is not None and model is TARGET:
            yield make_chosen_event(node, choice)
    return {node: choice.token for node, choice in choices.items()}


def choose(nodes: Iterable[int], sampler: Sampler, model: object = TARGET) -> Decoding[dict[int, Choice]]:
    """The same as {node: Choice}, and no events; a draft model always tells how probable what it chose is."""
    choices: dict[int, Choice] = yield Query(tuple(nodes), (Pick(sampler),), model)
    return choices


def make_chosen_event(node: int, choice: Choice) -> Chosen:
    """The event that tells what was chosen after a node."""
    return Chosen(node, choice.token, choice.logprob, choice.top, choice.processed, choice.processed_top)


def top(
    nodes: Iterable[int], count: int, transforms: tuple[Transform, ...] = (), model: object = TARGET
) -> Decoding[dict[int, list[Candidate]]]:
    """The `count` best continuations of each node, as {node: [Candidate]}; of a draft model, where it has any."""
    candidates: dict[int, list[Candidate]] = yield Query(tuple(nodes), (Top(count, transforms),), model)
    return candidates


def draws(
    nodes: Iterable[int], count: int, transforms: tuple[Transform, ...] = ()
) -> Decoding[dict[int, list[Drawn]]]:
    """`count` different tokens drawn after each node, as {node: [Drawn]}, the most perturbed first."""
    drawn: dict[int, list[Drawn]] = yield Query(tuple(nodes), (Draws(count, transforms),))
    return drawn


def score(
    nodes: Sequence[int], tokens: Sequence[int], transforms: tuple[Transform, ...] = (), per_path: bool = False
) -> Decoding[dict[int, Choice]]:
    """The Choice of each token under its node, as {node: Choice}."""
    reads = tuple(Score(token, transforms, per_path) for token in tokens)
    choices: dict[int, Choice] = yield Query(tuple(nodes), reads)
    return choices
