"""One text in the making: where it stands in its tree, and the only way it grows."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from nextok.core.ending import Ending, Limits
from nextok.core.events import Finished, Token
from nextok.core.mirostat import last_surprise
from nextok.core.query import TARGET, Draws, Query, Row, Score
from nextok.core.rules import Rules
from nextok.core.tree import Tree
from nextok.errors import LimitError, NextokError
from nextok.sampling.past import Past
from nextok.sampling.sampler import Transform
from nextok.sampling.seeds import salt_seed


class Tokenizer(Protocol):
    """What a strategy or draft may know of the target's tokenizer."""

    def encode(self, text: str, special: bool = True) -> list[int]:
        """The token ids of a text; without `special`, control tokens in it are only text and no bos is added."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids."""
        ...


class Request:
    """A prompt (a node of `tree`), its limits and its seed; `commit` is the only way its text grows.

    `logprobs`: how many alternatives are reported with each log-probability; None: no log-probabilities.
    `masks` are applied to every row of scores before the transforms of the strategy.
    Raises ValueError for an empty prompt and LimitError for one that fills the context.
    Only the thread that owns the engine may call `commit` and `finish`; all other attributes are read-only.
    """

    def __init__(
        self,
        tree: Tree,
        prompt: int,
        limits: Limits,
        seed: int = 0,
        logprobs: int | None = None,
        masks: tuple[Transform, ...] = (),
        tokenizer: Tokenizer | None = None,
    ) -> None:
        if prompt < 0:
            raise ValueError("the prompt is empty; give at least one token")
        check_prompt_length(tree.depth[prompt] + 1, limits.context)
        self._tree = tree
        self._prompt = self._tip = prompt
        self._limits = limits
        self._seed = seed
        self._logprobs = logprobs
        self._tokenizer = tokenizer
        self._masks = masks
        self._ending = Ending(tree, prompt, limits)
        self._rules = Rules(tree, prompt, limits, self._ending, masks)
        self._tokens: list[int] = []
        self._finish_reason: str | None = None
        self._error: Exception | None = None
        self._events: list[Token | Finished] = []  # not delivered yet
        self.guessing = False  # while a draft runs; set by its fence

    @property
    def tree(self) -> Tree:
        """Every token that has been considered; requests may share a tree."""
        return self._tree

    @property
    def prompt(self) -> int:
        """The node of the prompt's last token."""
        return self._prompt

    @property
    def tip(self) -> int:
        """The node in which the committed text ends."""
        return self._tip

    @property
    def limits(self) -> Limits:
        """When the text ends."""
        return self._limits

    @property
    def seed(self) -> int:
        """What all noise of this text is derived from."""
        return self._seed

    @property
    def logprobs(self) -> int | None:
        """How many alternatives are reported with each log-probability; None: no log-probabilities."""
        return self._logprobs

    @property
    def tokenizer(self) -> Tokenizer:
        """That of the target model; NextokError for a request of token ids alone, as of generate_super."""
        if self._tokenizer is None:
            raise NextokError("this request has no tokenizer, only token ids; run the model through an LM")
        return self._tokenizer

    @property
    def masks(self) -> tuple[Transform, ...]:
        """What is done to every row of scores before the transforms of the strategy."""
        return self._masks

    @property
    def tokens(self) -> list[int]:
        """The generated token ids so far; do not change the list."""
        return self._tokens

    @property
    def finish_reason(self) -> str | None:
        """Why the text ended, or None while it goes on."""
        return self._finish_reason

    @property
    def error(self) -> Exception | None:
        """What went wrong, if the text ended in an error."""
        return self._error

    @property
    def room(self) -> int:
        """How many more tokens the text may take."""
        return self._ending.room(self._tip)

    def commit(self, tokens: Iterable[int]) -> list[Token | Finished]:
        """Append tokens to the text until one of them ends it; the rest is dropped.

        Returns the events of this. They reach the receiver once each, whether the strategy yields them or not.
        ValueError for what is no token id, as far as the vocabulary is known; NextokError if a draft calls it.
        """
        if self.guessing:
            raise NextokError("a draft must not commit: its guesses are checked first; return their nodes instead")
        first = len(self._events)
        for token in tokens:
            if self._finish_reason:
                break
            self._check_token(token)
            self._tip = self._tree.add(self._tip, token)
            self._tokens.append(token)
            self._rules.advance(token, self._tip)
            self._events.append(Token(token, self._tip))
            if reason := self._ending.reason(self._tip):
                self.finish(reason)
        return self._events[first:]

    def _check_token(self, token: int) -> None:
        """ValueError unless this is a token id."""
        known = self._limits.token_bytes
        if type(token) is not int or token < 0 or (known and token >= len(known)):
            most = f"from 0 to {len(known) - 1}" if known else "from 0 up"
            raise ValueError(f"the tokens of a text must be ids {most}, got {token!r:.80}")

    def finish(self, reason: str, error: Exception | None = None) -> Finished:
        """End the text for good; the first reason stays."""
        if not self._finish_reason:
            self._finish_reason, self._error = reason, error
            self._events.append(Finished(reason, error))
        return Finished(self._finish_reason, self._error)

    def take_events(self) -> list[Token | Finished]:
        """The events of `commit` and `finish` that have not been delivered yet, for the engine or the reference."""
        if not self._events:
            return self._events
        events, self._events = self._events, []
        return events

    def ending(self, node: int) -> str | None:
        """Why a text that ends in `node` is finished (stop, length or context), or None if it goes on."""
        return self._ending.reason(node)

    def row(self, index: int, node: int, query: Query, position: int, places: Mapping[int, int] | None = None) -> Row:
        """The readout of `node`, entry `position` of `query`, from row `index` of a pass.

        `places`: where the nodes of this request that are read earlier in the pass stand among its Rows.
        """
        read, seed = self._rules.apply(node, query.read(position)), self._seed
        if isinstance(read, Draws) or (isinstance(read, Score) and read.per_path):
            seed = salt_seed(seed, self._tree.path(node, above=self._prompt))
        logprobs = self._logprobs if query.model is TARGET else 0  # by which a draft knows how sure its model is
        row = Row(index, read, seed, self._tree.depth[node] + 1, logprobs)
        if not places or node == self._prompt or last_surprise(row) is None:
            return row
        place = places.get(self._tree.parent[node])
        return row if place is None else replace(row, after=(place, self._tree.token[node]))

    def learn(self, node: int, row: Row, answer: Any) -> None:
        """Take in the answer to the Row of `node`, in the order of the Rows of a pass."""
        self._rules.learn(node, row, answer)

    def permits(self, node: int, token: int) -> bool:
        """Whether the grammar of this text lets `token` follow `node`: a draft need not guess others."""
        return self._rules.permits(node, token)

    def past(self, node: int) -> Past:
        """The text that ends in `node`, which is the end of the prompt or below it."""
        return self._rules.past(node)


def check_prompt_length(length: int, context: int | None) -> None:
    """LimitError unless a prompt of so many tokens leaves room for one more."""
    if context is not None and length >= context:
        raise LimitError(
            f"the prompt has {length} tokens and the model's context is {context}; "
            f"shorten the prompt to at most {context - 1}"
        )
