"""A radix tree: values by the tokens that lead to them, found by as many of these as a text begins with."""

from array import array
from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


def pack_tokens(tokens: Sequence[int]) -> "array[int]":
    """The same tokens in 8 bytes each, which are cut and compared faster than lists."""
    return array("q", tokens)


class Node(Generic[T]):
    """Tokens after those of the node above. A leaf has a value, an inner node two nodes below or more."""

    __slots__ = ("below", "latest", "tokens")

    def __init__(self, tokens: "array[int]", latest: T | None, below: "Iterable[Node[T]]" = ()) -> None:
        self.tokens = tokens  # never changed, so that Ctrl-C leaves a right tree at any moment
        self.below = {node.tokens[0]: node for node in below}
        self.latest = latest  # the value at or below here that was put or found last


class Radix(Generic[T]):
    """Values by tokens; none of them lies wholly within another one, so each is a leaf.

    Every method walks down one path, so its cost is that of the tokens given, whatever the number of values.
    """

    def __init__(self) -> None:
        self._top: Node[T] = Node(array("q"), None)

    def find(self, tokens: "array[int]", least: int = 1) -> tuple[int, T | None]:
        """How many of `tokens` a value begins with at most, and the one of those that was put or found last.

        It counts as found now. (0, None) if these are fewer than `least`.
        """
        nodes, alike, inside = self._walk(tokens)
        if alike < least:
            return 0, None
        value = (inside or nodes[-1]).latest
        for node in nodes:
            node.latest = value
        return alike, value

    def put(self, tokens: "array[int]", value: T) -> T | None:
        """Put a value, which must not lie wholly within another one; return the one within it, which it replaces."""
        nodes, alike, inside = self._walk(tokens)
        above, leaf, replaced = nodes[-1], Node(tokens[alike:], value), None
        if inside:
            length = alike - sum(len(node.tokens) for node in nodes)
            lower = Node(inside.tokens[length:], inside.latest, inside.below.values())
            _link(above, Node(inside.tokens[:length], value, [lower, leaf]))
        elif above.below or above is self._top:
            _link(above, leaf)
        else:
            replaced = above.latest
            _link(nodes[-2], Node(above.tokens + leaf.tokens, value))
        for node in nodes:
            node.latest = value
        return replaced

    def remove(self, tokens: "array[int]") -> None:
        """Remove the value of these tokens, if there is one."""
        nodes, alike, inside = self._walk(tokens)
        if inside or alike < len(tokens) or nodes[-1].below or len(nodes) == 1:
            return
        leaf, above = nodes.pop(), nodes[-1]
        del above.below[leaf.tokens[0]]
        for node in reversed(nodes):
            if node.latest is leaf.latest:
                node.latest = next((each.latest for each in node.below.values()), None)
        if len(above.below) == 1 and above is not self._top:  # the two become one node
            [only] = above.below.values()
            _link(nodes[-2], Node(above.tokens + only.tokens, only.latest, only.below.values()))

    def _walk(self, tokens: "array[int]") -> tuple[list[Node[T]], int, Node[T] | None]:
        """The nodes that `tokens` lead through, how many of them lead on, and the node within which these end."""
        node, nodes, at = self._top, [self._top], 0
        while at < len(tokens) and tokens[at] in node.below:
            node = node.below[tokens[at]]
            alike = _count_alike(node.tokens, tokens[at : at + len(node.tokens)])
            at += alike
            if alike < len(node.tokens):
                return nodes, at, node
            nodes.append(node)
        return nodes, at, None


def _link(above: Node[T], node: Node[T]) -> None:
    """Hang `node` below `above`, in the place of the one that begins with the same token."""
    above.below[node.tokens[0]] = node


def _count_alike(one: "array[int]", other: "array[int]") -> int:
    """How many tokens two texts begin with alike."""
    if one == other:
        return len(one)
    return next((i for i, (mine, theirs) in enumerate(zip(one, other)) if mine != theirs), min(len(one), len(other)))
