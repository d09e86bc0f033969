"""Every token that has been considered, as one tree: the truth that caches and texts are views of."""

from collections.abc import Iterable

ROOT = -1
"""The empty text: what the first token of a prompt hangs from."""

NOWHERE = -2
"""No node."""


class Tree:
    """Tokens that requests have considered; a node is an int, and the same token under the same parent is one node.

    A parent's number is always smaller than its children's, so that sorting nodes puts parents first. Requests may
    share a tree (several samples of one prompt, the turns of a chat): what one of them has considered, all have.
    """

    __slots__ = ("__weakref__", "_child", "depth", "parent", "token")

    def __init__(self) -> None:
        self.token: list[int] = []
        self.parent: list[int] = []
        self.depth: list[int] = []  # tokens before this one, which is also its position
        self._child: dict[tuple[int, int], int] = {}

    def add(self, parent: int, token: int) -> int:
        """The node of `token` under `parent`, made if it is new."""
        node = self._child.setdefault((parent, token), len(self.token))
        if node == len(self.token):
            self.token.append(token)
            self.parent.append(parent)
            self.depth.append(0 if parent == ROOT else self.depth[parent] + 1)
        return node

    def find(self, parent: int, token: int) -> int:
        """The node of `token` under `parent`, or NOWHERE if it has never been considered."""
        return self._child.get((parent, token), NOWHERE)

    def extend(self, parent: int, tokens: Iterable[int]) -> int:
        """The last node of `tokens` laid out one below the other under `parent`."""
        for token in tokens:
            parent = self.add(parent, token)
        return parent

    def nodes(self, node: int, above: int = ROOT) -> list[int]:
        """The nodes from just below the ancestor `above` down to `node`; ValueError if it is no ancestor."""
        nodes, last = [], node
        while node > above:
            nodes.append(node)
            node = self.parent[node]
        if node != above:
            raise ValueError(f"node {last} does not lie below node {above} of its tree")
        return nodes[::-1]

    def path(self, node: int, above: int = ROOT) -> list[int]:
        """The tokens from just below the ancestor `above` down to `node`."""
        return [self.token[node] for node in self.nodes(node, above)]
