"""Texts on different trees that begin with the same tokens: read once, then shared."""

import logging
from collections.abc import Mapping

from nextok.core.tree import Tree
from nextok.engine.fence import concerns_program, describe
from nextok.engine.kept import KeptCaches
from nextok.engine.memo import Memo
from nextok.models.base import Model

WORTHWHILE = 64
"""Tokens; fewer are not worth waiting for, nor keeping."""

log = logging.getLogger("nextok")


def open_memo(
    tree: Tree, node: int, model: Model, memos: Mapping[Tree, Memo], busy: Mapping[Tree, int], kept: KeptCaches
) -> Memo | None:
    """A memo for a tree that this model has not read, with the longest beginning of `node`'s path that another memo
    or a kept cache has.

    `busy`: the trees that are read in the pass being packed, and the node that each of them is on its way to. None:
    wait, as one of these is about to read more of that beginning.
    """
    path = tree.nodes(node)
    most, source = kept.find(model, [tree.token[node] for node in path]) if kept.budget else (0, None)
    coming = 0
    for other, memo in memos.items():
        read = _in_common(tree, path, other, memo.trunk[: memo.settled] if other in busy else memo.trunk)
        coming = max(coming, read if other not in busy else _in_common(tree, path, other, other.nodes(busy[other])))
        if read > most:
            most, source = read, memo.cache
    if coming >= most + WORTHWHILE:
        return None
    forked = source.fork(most) if source is not None and most >= WORTHWHILE else None
    return Memo(model.open()) if forked is None else Memo(forked, path[:most])


def keep_memos(kept: KeptCaches, memos: dict[Model, Memo], tree: Tree, tip: int) -> None:
    """Keep what each model has read of a tree on the way to `tip`, where no request goes on; the memos go on.

    If that fails, mostly for want of memory, nothing is kept, and what was uncertain is read again.
    """
    for model, memo in list(memos.items()):
        try:
            memo.settle(tree, tip)
            tokens = [tree.token[node] for node in memo.trunk]
            if len(tokens) >= kept.least and (forked := memo.cache.fork(len(tokens))) is not None:
                kept.keep(model, tokens, forked)
        except BaseException as error:
            kept.clear()
            memos.pop(model, None)
            if concerns_program(error):
                raise
            log.warning("the kept caches are dropped, as keeping another one failed: %s", describe(error))


def _in_common(tree: Tree, path: list[int], other: Tree, trunk: list[int]) -> int:
    """How many tokens two paths of nodes begin with alike."""
    alike = 0
    for mine, theirs in zip(path, trunk):
        if tree.token[mine] != other.token[theirs]:
            break
        alike += 1
    return alike
