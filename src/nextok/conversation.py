"""A chat of many turns that reads every message once."""

from typing import Any, Unpack

from nextok.core.tree import Tree
from nextok.generation.options import Options, Wishes
from nextok.generation.stream import Stream
from nextok.lm import LM
from nextok.strategies.base import Strategy
from nextok.strategies.sample import Greedy


class Conversation:
    """Messages and the tree they were read on: the next turn finds in the cache what the last one left there."""

    def __init__(self, lm: LM, system: str | None = None) -> None:
        self.lm = lm
        self.messages: list[dict[str, Any]] = [] if system is None else [{"role": "system", "content": system}]
        self._tree = Tree()

    def ask(
        self,
        text: str,
        strategy: Strategy = Greedy(),
        **options: Unpack[Wishes],
    ) -> Stream:
        """Stream the answer to `text`; hand it to `keep` when it is done, or the turn is forgotten."""
        ids = self.lm.chat_ids([*self.messages, {"role": "user", "content": text}])
        return self.lm.start(ids, strategy, Options(**options), self._tree)

    def keep(self, text: str, answer: str) -> None:
        """Make a turn part of the conversation."""
        self.messages += [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]
