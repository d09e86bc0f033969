"""What must hold at each place of one text: masks, minimum length, grammar; before the strategy's transforms."""

from dataclasses import replace
from typing import Any

from nextok.core.ending import Ending, Limits
from nextok.core.mirostat import last_surprise, surprises_of
from nextok.core.query import Read, Row
from nextok.core.tree import Tree
from nextok.sampling.edits import Forbid
from nextok.sampling.past import Ledger, Past
from nextok.sampling.sampler import Transform, transforms_after


class Rules:
    """The masks of one request, an index of its committed text for transforms that look back, and mirostat's mu."""

    __slots__ = ("_ending", "_ledger", "_limits", "_masks", "_mu", "_prompt", "_tip", "_tree")

    def __init__(self, tree: Tree, prompt: int, limits: Limits, ending: Ending, masks: tuple[Transform, ...]) -> None:
        self._tree = tree
        self._prompt = prompt
        self._limits = limits
        self._ending = ending
        self._masks = masks
        self._tip = prompt  # the end of the committed text
        self._ledger: Ledger | None = None  # made when a transform first looks back
        self._mu: dict[tuple[int, int], float] = {}  # (node, token after it) -> mirostat's mu from there on

    def advance(self, token: int, node: int) -> None:
        """The committed text goes on with `token`, and ends in `node` now."""
        self._tip = node
        if self._ledger:
            self._ledger.add(token)

    def learn(self, node: int, row: Row, answer: Any) -> None:
        """Take in the answer to the row of this node: what mirostat allows after each token that it tells of."""
        surprise = last_surprise(row)
        if surprise is None:
            return
        if (mu := self._mu_at(node)) is not None:  # a row of the same pass may have said it
            surprise = replace(surprise, mu=mu)
        self._mu.update({(node, token): surprise.mu_after(bits) for token, bits in surprises_of(answer)})

    def apply(self, node: int, read: Read) -> Read:
        """What `read` means at this node: the masks come first, and a transform that looks back becomes an edit."""
        length = self._ending.length(node)
        if length < 0:
            return read.after(())  # inside the prompt, no rules apply
        early = (Forbid(self._limits.stop_ids),) if length < self._limits.min_tokens else ()
        rules = (*early, *self._masks)
        wanted = (*rules, *read.transforms) if rules else read.transforms
        transforms = transforms_after(wanted, lambda: self.past(node))
        return read if transforms is read.transforms else read.after(transforms)

    def permits(self, node: int, token: int) -> bool:
        """Whether the grammar of this text, if there is one, lets `token` follow `node`."""
        if not self._masks:
            return True
        past = self.past(node)
        return all(each.permits(past, token) for each in self._masks)

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
        return Past(self._ledger_at(above), tail[::-1], node, step, self._mu_at(node))

    def _mu_at(self, node: int) -> float | None:
        """Mirostat's mu for the token after `node`; None where no answer has said it."""
        return None if node == self._prompt else self._mu.get((self._tree.parent[node], self._tree.token[node]))

    def _ledger_at(self, node: int) -> Ledger:
        """The index of the committed text, or of the prompt alone."""
        if node != self._tip:
            return Ledger(self._tree.path(node), self._limits.token_bytes)
        if self._ledger is None:
            self._ledger = Ledger(self._tree.path(self._prompt), self._limits.token_bytes)
            for token in self._tree.path(self._tip, above=self._prompt):
                self._ledger.add(token)
        return self._ledger
