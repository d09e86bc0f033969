"""One text in the making: where it stands in its tree, when it ends, and how it grows."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from nextok.core.events import Finished, Token
from nextok.core.query import Draws, Query, Read, Row, Score
from nextok.core.tree import Tree
from nextok.errors import LimitError
from nextok.sampling.edits import Forbid
from nextok.sampling.past import Ledger, Past
from nextok.sampling.sampler import Transform, transforms_after
from nextok.sampling.seeds import salted


@dataclass(frozen=True, slots=True)
class Limits:
    """When a text ends; lengths count generated tokens, except `context`, which counts the prompt too."""

    max_tokens: int = 256
    min_tokens: int = 0  # before this many, no stop token can be chosen and no stop string ends the text
    context: int | None = None
    stop_ids: frozenset[int] = frozenset()
    stop: tuple[bytes, ...] = ()
    token_bytes: Sequence[bytes] = ()  # what each token stands for; needed for stop strings only
    vocab_size: int | None = None  # ids from here on are padding: a draft must not guess them

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {self.max_tokens}")
        if not 0 <= self.min_tokens <= self.max_tokens:
            raise ValueError(f"min_tokens must be from 0 to max_tokens ({self.max_tokens}), got {self.min_tokens}")
        if any(not stop for stop in self.stop):
            raise ValueError("a stop string must not be empty; leave it out instead")


def free(expected: float, guesses: int, seconds: float) -> float:
    """The speed of a request whose passes take the same time however much is guessed."""
    return expected


class Request:
    """A prompt (a node of `tree`), its limits and its seed; `commit` is the only way its text grows.

    `masks` are applied to every row of scores before what the strategy wants: the rules of this text.
    """

    def __init__(
        self,
        tree: Tree,
        prompt: int,
        limits: Limits,
        seed: int = 0,
        logprobs: int | None = None,
        masks: tuple[Transform, ...] = (),
    ) -> None:
        if prompt < 0:
            raise ValueError("the prompt is empty; give at least one token")
        length = tree.depth[prompt] + 1
        if limits.context is not None and length >= limits.context:
            raise LimitError(
                f"the prompt has {length} tokens and the model's context is {limits.context}; "
                f"shorten the prompt to at most {limits.context - 1}"
            )
        self.tree = tree
        self.prompt = prompt
        self.tip = prompt  # the end of the committed text
        self.limits = limits
        self.seed = seed
        self.logprobs = logprobs
        self.masks = masks
        self.tokens: list[int] = []  # generated so far
        self.finish_reason: str | None = None
        self.error: Exception | None = None
        self.speed = free  # what a draft weighs its guesses by; an engine knows better
        self._ledger: Ledger | None = None  # from when a transform first looks back

    @property
    def room(self) -> int:
        """How many more tokens the text may take."""
        room = self.limits.max_tokens - len(self.tokens)
        if self.limits.context is not None:
            room = min(room, self.limits.context - self.tree.depth[self.tip] - 1)
        return room

    def commit(self, tokens: Iterable[int]) -> Iterator[Token | Finished]:
        """Append tokens to the text until one of them ends it; the rest is dropped."""
        for token in tokens:
            if self.finish_reason:
                return
            self.tip = self.tree.add(self.tip, token)
            self.tokens.append(token)
            if self._ledger:
                self._ledger.add(token)
            yield Token(token, self.tip)
            if reason := self.ending(self.tip):
                yield self.finish(reason)

    def finish(self, reason: str, error: Exception | None = None) -> Finished:
        """Close the request for good."""
        self.finish_reason, self.error = reason, error
        return Finished(reason, error)

    def ending(self, node: int) -> str | None:
        """Why a text that ends in `node` is finished, or None if it goes on."""
        limits, length = self.limits, self._length(node)
        if length == 0:
            return None  # the prompt may say what it likes
        if length >= limits.min_tokens and (
            self.tree.token[node] in limits.stop_ids or (limits.stop and self._completes_stop(node))
        ):
            return "stop"
        if length >= limits.max_tokens:
            return "length"
        if limits.context is not None and self.tree.depth[node] + 1 >= limits.context:
            return "context"
        return None

    def row(self, index: int, node: int, query: Query, position: int) -> Row:
        """The readout of `node`, entry `position` of `query`, from row `index` of a pass."""
        read, seed = self._after(node, query.read(position)), self.seed
        if isinstance(read, Draws) or (isinstance(read, Score) and read.per_path):
            seed = salted(seed, self.tree.path(node, above=self.prompt))
        return Row(index, read, seed, self.tree.depth[node] + 1, self.logprobs)

    def permits(self, node: int, token: int) -> bool:
        """Whether the grammar of this text, if there is one, lets `token` follow `node`: no use guessing others."""
        return all(each.permits(self.past(node), token) for each in self.masks)

    def past(self, node: int) -> Past:
        """The text that ends in `node`, which is the end of the prompt or below it."""
        tree, tail, above = self.tree, list[int](), node
        while above not in (self.tip, self.prompt):
            tail.append(tree.token[above])
            above = tree.parent[above]
        step = None if node == self.prompt else (tree.parent[node], tree.token[node])
        return Past(self._ledger_at(above), tail[::-1], node, step)

    def _ledger_at(self, node: int) -> Ledger:
        """The index of the committed text, or of the prompt alone."""
        if node != self.tip:
            ledger = Ledger(self.tree.path(node), self.limits.token_bytes)
            if self._ledger:
                ledger.mu = self._ledger.mu  # what mirostat has learnt holds for every path
            return ledger
        if self._ledger is None:
            self._ledger = Ledger(self.tree.path(self.prompt), self.limits.token_bytes)
            for token in self.tokens:
                self._ledger.add(token)
        return self._ledger

    def _after(self, node: int, read: Read) -> Read:
        """What `read` means at this node: the masks first, and for a transform that looks back what it found."""
        length = self._length(node)
        if length < 0:
            return read.after(())  # the prompt was not written by any rules
        early = (Forbid(self.limits.stop_ids),) if length < self.limits.min_tokens else ()
        rules = (*early, *self.masks)
        wanted = (*rules, *read.transforms) if rules else read.transforms
        transforms = transforms_after(wanted, lambda: self.past(node))
        return read if transforms is read.transforms else read.after(transforms)

    def _length(self, node: int) -> int:
        return self.tree.depth[node] - self.tree.depth[self.prompt]

    def _completes_stop(self, node: int) -> bool:
        """Whether the last token of `node` completes a stop string; earlier ones would have ended the text."""
        last = tail = self.limits.token_bytes[self.tree.token[node]]
        longest = max(map(len, self.limits.stop))
        while len(tail) < longest - 1 + len(last) and (node := self.tree.parent[node]) != self.prompt:
            tail = self.limits.token_bytes[self.tree.token[node]] + tail
        # A match must reach into the last token, so each stop string looks back by its own length only.
        return any(stop in tail[max(0, len(tail) - len(last) - len(stop) + 1) :] for stop in self.limits.stop if last)
