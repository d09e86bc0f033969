"""A model under test: the texts that it writes alone, and where texts written in another way differ from them.

Texts go on after an end token, so that all of them have the same length.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

from nextok.core.ending import Limits
from nextok.core.events import Chosen, Event
from nextok.core.query import Row, Score
from nextok.core.request import Request
from nextok.core.tree import ROOT, Tree
from nextok.engine.engine import Engine
from nextok.engine.timing import FreeTiming
from nextok.models.base import Feed, Model
from nextok.strategies.base import Strategy

if TYPE_CHECKING:
    from nextok.lm import LM

PROMPTS = (
    "One two three four. One two three four. One two three",
    "Once upon a time there was a",
    "def fibonacci(n):\n    if n <",
    "从前有座山，山里有",
    '{"name": "Ada", "age":',
    "The capital of France is",
    "Hello",
    "1 + 1 = 2\n2 + 2 = 4\n3 + 3 =",
)
STORY = (
    "The lighthouse stood where the river meets the sea. Every evening its keeper, an old woman named Ada, climbed "
    "the hundred and twelve steps, lit the lamp, and wrote down what she had seen: the ships and their flags, the "
    "wind, the first stars. On the ninth of October she saw nothing at all, wrote that down too, and went to bed. In "
    "the morning the harbour was full of strangers, all of whom were looking for the same"
)
TOKENS, LEAST_TOKENS = 16, 4
"""Number of tokens of a text of a fast model, and of a slow one."""
QUICK = 0.4
"""Longest time for a text that is not made shorter, in seconds."""
LONG = 96
"""Largest number of tokens of the story."""
SEED = 7
"""Seed of all texts."""


class WrittenText(NamedTuple):
    """A text, and the log-probability of each of its tokens."""

    tokens: list[int]
    logprobs: list[float]


@dataclass(frozen=True, slots=True)
class Case:
    """A text that was written in another way, and its sampling; it must be the same as the plain text."""

    prompt: list[int]
    sampling: Any
    way: str
    written: WrittenText


@dataclass(frozen=True, slots=True)
class Difference:
    """The first difference of two texts that must be the same.

    `position` counts generated tokens from 0; `gap` is by how much the model prefers the expected token to the one
    found, both scored by themselves after the whole text so far.
    """

    prompt: str
    way: str
    position: int
    expected: str
    found: str
    gap: float | None
    precision: str

    def __str__(self) -> str:
        gap = "" if self.gap is None else f"; their scores are {self.gap:.6g} apart"
        return (
            f"after {shorten(self.prompt)!r}, {self.way}: token {self.position} is {self.found} "
            f"instead of {self.expected}{gap} (precision {self.precision})"
        )


def shorten(text: str) -> str:
    """The first 40 characters of a text, for a line of a report."""
    return text if len(text) <= 40 else text[:39] + "…"


class Probe:
    """A model, and the texts that it writes alone.

    `tolerance`: log-probabilities that lie closer are the same; 0: they must be equal to the last bit.
    """

    def __init__(self, lm: "LM", precision: str, tolerance: float = 0.0) -> None:
        self.lm = lm
        self.model = lm.model
        self.precision = precision
        self.tolerance = tolerance
        self.tokens = max(1, min(TOKENS, lm.model.context // 4))
        room = max(1, lm.model.context - self.tokens)
        self.prompts = [lm.tokenizer.encode(text)[:room] for text in PROMPTS]
        self.story = lm.tokenizer.encode(STORY)[: min(room, LONG)]
        self._plain: dict[tuple[Any, ...], WrittenText] = {}

    def slow_down(self, seconds: float) -> None:
        """Make all further texts shorter if the model took so many seconds for one that this is needed."""
        self.tokens = max(min(self.tokens, LEAST_TOKENS), min(self.tokens, int(self.tokens * QUICK / seconds)))
        self._plain.clear()

    def write_plain(self, prompt: list[int], sampling: Any) -> WrittenText:
        """The text that the model writes alone, in an engine of its own."""
        key = (*prompt, sampling)
        if key not in self._plain:
            self._plain[key] = self.write(prompt, sampling)
        return self._plain[key]

    def write(self, prompt: list[int], strategy: Strategy, engine: Engine | None = None) -> WrittenText:
        """One text, in an engine of its own unless another is given."""
        return self.write_together([(prompt, strategy)], engine)[0]

    def write_together(
        self, asked: Iterable[tuple[list[int], Strategy]], engine: Engine | None = None
    ) -> list[WrittenText]:
        """Several texts at once."""
        engine = engine or Engine(self.model, timing=FreeTiming())
        requests: list[tuple[Request, list[Event]]] = []
        for prompt, strategy in asked:
            requests.append((self.make_request(prompt), []))
            engine.submit(requests[-1][0], strategy, requests[-1][1].append)
        engine.run()
        return [collect_text(request, events) for request, events in requests]

    def make_request(self, prompt: list[int]) -> Request:
        """A request for a text of the usual length, on a tree of its own."""
        tree = Tree()
        limits = Limits(self.tokens, context=self.model.context, vocab_size=self.lm.tokenizer.vocab_size)
        return Request(tree, tree.extend(ROOT, prompt), limits, SEED, logprobs=0)

    def find_difference(self, case: Case) -> Difference | None:
        """Where a text differs from the plain one; None if it does not, or only at a tie."""
        plain, empty = self.write_plain(case.prompt, case.sampling), (None, 0.0)
        pairs = zip_longest(zip(*plain), zip(*case.written), fillvalue=empty)
        for position, ((expected, logprob), (found, other)) in enumerate(pairs):
            if expected != found:
                gap, margin = self._measure_gap(case, plain.tokens[:position], expected, found)
                if margin is not None and abs(margin) <= self.tolerance:
                    return None
                return self._make_difference(case, position, self.name_token(expected), self.name_token(found), gap)
            if not abs(logprob - other) <= self.tolerance:
                one, two = self.describe_score(expected, logprob), self.describe_score(found, other)
                return self._make_difference(case, position, one, two, None)
        return None

    def name_token(self, token: int | None) -> str:
        """A token's text and id."""
        if token is None:
            return "the end"
        known = token < self.lm.tokenizer.vocab_size
        return f"{self.lm.tokenizer.decode([token])!r} ({token})" if known else f"the padding {token}"

    def describe_score(self, token: int | None, logprob: float) -> str:
        """A token with its log-probability."""
        return f"{self.name_token(token)} with log-probability {logprob:.9g}"

    def decode(self, prompt: list[int]) -> str:
        """A prompt as text."""
        return self.lm.tokenizer.decode(prompt)

    def _make_difference(self, case: Case, position: int, expected: str, found: str, gap: float | None) -> Difference:
        return Difference(self.decode(case.prompt), case.way, position, expected, found, gap, self.precision)

    def _measure_gap(
        self, case: Case, before: list[int], expected: int | None, found: int | None
    ) -> tuple[float | None, float | None]:
        """How far two tokens lie apart in the model's scores, and in what was drawn from: after filters and noise."""
        if expected is None or found is None:
            return None, None
        import numpy as np

        from nextok.readout.noise import gumbel

        sampler, path = case.sampling.sampler, [*case.prompt, *before]
        reads = [Score(token, sampler.transforms) for token in (expected, found)]
        one, other = read_alone(self.model, path, [len(path) - 1], [[(read, None) for read in reads]])[0]
        noise = gumbel(SEED, len(path), np.array([expected, found])) if sampler.noise else np.zeros(2)
        return one.logprob - other.logprob, float(one.processed - other.processed + noise[0] - noise[1])


def collect_text(request: Request, events: Iterable[Event]) -> WrittenText:
    """The text of a request that has ended, or its error."""
    logprobs = {(each.node, each.token): each.logprob for each in events if isinstance(each, Chosen)}
    if request.error:
        raise request.error
    tree = request.tree
    keys = [(tree.parent[node], tree.token[node]) for node in tree.nodes(request.tip, above=request.prompt)]
    return WrittenText(list(request.tokens), [logprobs[key] or 0.0 for key in keys])


def read_alone(
    model: Model, path: list[int], places: Sequence[int], reads: Sequence[Sequence[tuple[Any, int | None]]]
) -> list[list[Any]]:
    """One pass through an empty cache: for each place on the path, what each (read, alternatives) there answers."""
    feed = Feed.from_run(model.open(), path, rows=places)
    rows = [
        Row(index, read, SEED, places[index] + 1, count) for index, all in enumerate(reads) for read, count in all
    ]
    replies = model.answer([feed], rows)
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    answers = iter(replies)
    return [[next(answers) for _ in each] for each in reads]
