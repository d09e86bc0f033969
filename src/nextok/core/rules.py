"""What must hold at each place of one text: masks, minimum length, grammar; before the strategy's transforms."""

from nextok.core.ending import Ending, Limits
from nextok.core.query import Read
from nextok.core.tree import Tree
from nextok.sampling.past import Ledger, Past
from nextok.sampling.sampler import Transform
from nextok.sampling.transforms import Forbid


class Rules:
    """The masks of one request, and an index of its committed text for transforms that look back."""

    __slots__ = ("_ending", "_ledger", "_limits", "_masks", "_prompt", "_tip", "_tree")

    def __init__(self, tree: Tree, prompt: int, limits: Limits, ending: Ending, masks: tuple[Transform, ...]) -> None:
        self._tree = tree
        self._prompt = prompt
        self._limits = limits
        self._ending = ending
        self._masks = masks
        self._tip = prompt  # the end of the committed text
        self._ledger: Ledger | None = None  # made when a transform first looks back

    def advance(self, token: int, node: int) -> None:
        """The committed text goes on with `token`, and ends in `node` now."""
        self._tip = node
        if self._ledger:
            self._ledger.add(token)

    def apply(self, node: int, read: Read) -> Read:
        """What `read` means at this node: the masks come first, and a transform that looks back becomes an edit."""
        length = self._ending.length(node)
        if length < 0:
            return read.after(())  # inside the prompt, no rules apply
        early = (Forbid(self._limits.stop_ids),) if length < self._limits.min_tokens else ()
        transforms = (*early, *self._masks, *read.transforms)
        if not any(hasattr(each, "at") for each in transforms):
            return read.after(transforms) if early or self._masks else read
        past = self.past(node)
        found = [each.at(past) if hasattr(each, "at") else each for each in transforms]
        return read.after(tuple(each for each in found if each is not None))

    def permits(self, node: int, token: int) -> bool:
        """Whether the grammar of this text, if there is one, lets `token` follow `node`."""
        return all(each.permits(self.past(node), token) for each in self._masks if hasattr(each, "permits"))

    def past(self, node: int) -> Past:
        """The text that ends in `node`, which is the end of the prompt or below it."""
        tree, tail, above = self._tree, list[int](), node
        while above not in (self._tip, self._prompt):
            if above < 0:
                raise ValueError(
                    f"node {node} does not lie below the end of the prompt, node {self._prompt}, so no penalty, mask "
                    "or grammar can be applied there"
                )
            tail.append(tree.token[above])
            above = tree.parent[above]
        step = None if node == self._prompt else (tree.parent[node], tree.token[node])
        return Past(self._ledger_at(above), tail[::-1], node, step)

    def _ledger_at(self, node: int) -> Ledger:
        """The index of the committed text, or of the prompt alone."""
        if node != self._tip:
            ledger = Ledger(self._tree.path(node), self._limits.token_bytes)
            if self._ledger:
                ledger.mu = self._ledger.mu  # what mirostat has learnt holds for every path
            return ledger
        if self._ledger is None:
            self._ledger = Ledger(self._tree.path(self._prompt), self._limits.token_bytes)
            for token in self._tree.path(self._tip, above=self._prompt):
                self._ledger.add(token)
        return self._ledger
