"""A chat of many turns that reads every message once."""

from typing import Any, Unpack

from nextok.core.tree import Tree
from nextok.generation.chat_options import ChatOptions, split_options
from nextok.generation.output import Output
from nextok.generation.signature import show_options
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

    def __repr__(self) -> str:
        return f"<Conversation with {self.lm.name}, {len(self.messages)} messages>"

    @show_options
    def ask(
        self,
        text: str,
        strategy: Strategy = Greedy(),
        *,
        keep: bool = True,
        **options: Unpack[ChatOptions],
    ) -> Stream:
        """Stream the answer to `text`; question and answer join the messages when the answer has ended by itself.

        They do not if `keep` is False, or if the stream is closed early, interrupted or fails: `add_turn` adds them
        then, with as much of the answer as there is. Of several choices the first is kept.
        """
        given, checked = split_options(options)
        turn = self.lm.begin_chat([*self.messages, {"role": "user", "content": text}], **given)

        def add(output: Output) -> None:
            self.add_turn(text, output.text)

        checked = checked.with_grammar(turn.grammar)
        return self.lm.start(turn.ids, strategy, checked, self._tree, add if keep else None)

    def change_system(self, text: str | None) -> None:
        """Another system message from the next answer on, or none; what was said stays."""
        rest = self.messages[1:] if self.messages[:1] and self.messages[0]["role"] == "system" else self.messages
        self.messages = [*([] if text is None else [{"role": "system", "content": text}]), *rest]

    def drop_turn(self) -> str:
        """Take back the last question and all that came after it; returns the question. ValueError if there is none.

        What was read of it stays in the cache, so that another answer costs only its own tokens.
        """
        for place in range(len(self.messages) - 1, -1, -1):
            if self.messages[place]["role"] == "user":
                question: str = self.messages[place]["content"]
                del self.messages[place:]
                return question
        raise ValueError("nothing has been said yet")

    def add_turn(self, text: str, answer: str) -> None:
        """Add a question and its answer to the messages."""
        self.messages += [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]
