"""Texts on different trees that begin with the same tokens: read once, then shared."""

from collections.abc import Mapping

from nextok.core.tree import Tree
from nextok.engine.memo import Memo
from nextok.models.base import Model

WORTHWHILE = 64
"""Tokens; fewer are not worth waiting for."""


def open_memo(
    tree: Tree, node: int, model: Model, memos: Mapping[Tree, Memo], busy: Mapping[Tree, int]
) -> Memo | None:
    """A memo for a tree that this model has not read, with whatever beginning of `node`'s path another memo has.

    `busy`: the trees that are read in the pass being packed, and the node that each of them is on its way to. None:
    wait, as one of these is about to read more of that beginning.
    """
    path = tree.nodes(node)
    most, coming = 0, 0
    source = None
    for other, memo in memos.items():
        read = _in_common(tree, path, other, memo.trunk[: memo.settled] if other in busy else memo.trunk)
        coming = max(coming, read if other not in busy else _in_common(tree, path, other, other.nodes(busy[other])))
        if read > most:
            most, source = read, memo
    if coming >= most + WORTHWHILE:
        return None
    if source is None or most < WORTHWHILE:
        return Memo(model.open())
    return Memo(source.cache.fork(most), path[:most])


def _in_common(tree: Tree, path: list[int], other: Tree, trunk: list[int]) -> int:
    """How many tokens two paths of nodes begin with alike."""
    alike = 0
    for mine, theirs in zip(path, trunk):
        if tree.token[mine] != other.token[theirs]:
            break
        alike += 1
    return alike
