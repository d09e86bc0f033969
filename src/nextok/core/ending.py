"""When a text ends: at a stop token or stop string, at its own length limit, or at the model's context."""

from collections.abc import Sequence
from dataclasses import dataclass

from nextok.core.tree import Tree


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


class Ending:
    """Tells for any node below the end of a prompt whether a text that ends there is finished."""

    __slots__ = ("_limits", "_longest_stop", "_prompt", "_tree")

    def __init__(self, tree: Tree, prompt: int, limits: Limits) -> None:
        self._tree = tree
        self._prompt = prompt
        self._limits = limits
        self._longest_stop = max(map(len, limits.stop), default=0)

    def length(self, node: int) -> int:
        """How many tokens `node` lies below the end of the prompt; negative inside the prompt."""
        return self._tree.depth[node] - self._tree.depth[self._prompt]

    def room(self, node: int) -> int:
        """How many more tokens a text that ends in `node` may take."""
        limits = self._limits
        room = limits.max_tokens - self.length(node)
        return room if limits.context is None else min(room, limits.context - self._tree.depth[node] - 1)

    def reason(self, node: int) -> str | None:
        """Why a text that ends in `node` is finished (stop, length or context), or None if it goes on."""
        limits, length = self._limits, self.length(node)
        if length == 0:
            return None  # a stop token or stop string inside the prompt ends nothing
        if length >= limits.min_tokens and (
            self._tree.token[node] in limits.stop_ids or (limits.stop and self._completes_stop(node))
        ):
            return "stop"
        if length >= limits.max_tokens:
            return "length"
        if limits.context is not None and self._tree.depth[node] + 1 >= limits.context:
            return "context"
        return None

    def _completes_stop(self, node: int) -> bool:
        """Whether the last token of `node` completes a stop string; earlier ones would have ended the text."""
        tree, token_bytes = self._tree, self._limits.token_bytes
        last = tail = token_bytes[tree.token[node]]
        while len(tail) < self._longest_stop - 1 + len(last) and (node := tree.parent[node]) != self._prompt:
            tail = token_bytes[tree.token[node]] + tail
        # A match must reach into the last token, so each stop string looks back by its own length only.
        return any(
            stop in tail[max(0, len(tail) - len(last) - len(stop) + 1) :] for stop in self._limits.stop if last
        )
