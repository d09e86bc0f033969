"""What one model has read of one tree: which node lies in which slot, and what each node may see.

A memo, not a truth: it follows the questions. Whatever is not an ancestor of a node in question is dropped when
the next question comes, and whatever is missing is read, so that rolling back, reordering beams and letting a
draft model catch up need no operations of their own.
"""

from collections.abc import Collection, Iterable
from heapq import heapify, heappop, heappush

from nextok.core.tree import ROOT, Tree
from nextok.models.base import Cache, Feed


class Memo:
    """The slots of one cache.

    The trunk is one path from the root: trunk[i] has depth i and lies in slot i. What branches off lies in other
    slots. A decoding chain is all trunk and costs the same at every length.
    """

    def __init__(self, cache: Cache, trunk: Iterable[int] = ()) -> None:
        self.cache = cache
        self.trunk = list(trunk)
        self.settled = 0  # how much of the trunk had been read before the last feed
        self.branch: dict[int, int] = {}  # node -> slot, of what has been read off the trunk
        self._views: dict[int, tuple[int, tuple[int, ...]]] = {}  # of live branch nodes, until a straightening
        self._live: set[int] = set()  # the nodes in question at the last feed; all that is read leads to them
        self._free: list[int] = []  # heap of the empty slots below _end
        self._end = len(self.trunk)  # slots ever used

    def feed(self, tree: Tree, wanted: list[int], live: Collection[int], budget: int) -> tuple[Feed, list[int]]:
        """Up to `budget` tokens that lead to the `wanted` nodes, and those of the wanted nodes that it answers.

        `live` are all nodes in question on this tree, the wanted ones among them: their ancestors are kept.
        """
        if (chained := self._chain(tree, wanted, live)) is not None:
            return chained, wanted
        self._keep(tree, live)
        self.settled = len(self.trunk)
        nodes = self._missing(tree, wanted)[:budget]
        for node in nodes:
            if not self._has(tree, node):
                self._place(tree, node)
        asked = set(wanted)
        rows = [index for index, node in enumerate(nodes) if node in asked]
        views = [self._view(tree, node) for node in nodes]
        # What grows next grows from here; older views would fill memory with the square of a tail's length.
        self._views = {node: self._views[node] for node in self._live if node in self._views}
        feed = Feed(
            cache=self.cache,
            tokens=[tree.token[node] for node in nodes],
            slots=[tail[-1] if tail else seen - 1 for seen, tail in views],
            seen=[seen for seen, _ in views],
            tails=[tail for _, tail in views],
            rows=rows,
        )
        return feed, [nodes[index] for index in rows]

    def settle(self, tree: Tree, node: int) -> None:
        """Drop what does not lead to `node`; what does is then the trunk, as far as it has been read."""
        self._keep(tree, [node])

    def count_known(self, tree: Tree, nodes: Iterable[int], feed: Feed) -> int:
        """How many of these nodes had been read before the last feed, `feed`, and are not read again by it."""
        slots = set(feed.slots)
        return sum(self._has(tree, node) and self._slot(tree, node) not in slots for node in nodes)

    def _slot(self, tree: Tree, node: int) -> int:
        """The slot of a node that has been read."""
        return self.branch[node] if node in self.branch else tree.depth[node]

    def _chain(self, tree: Tree, wanted: list[int], live: Collection[int]) -> Feed | None:
        """The same, at less cost, for the usual case: one text, which has grown by one token since the last feed."""
        node, seen = wanted[0], len(self.trunk)
        if len(live) > 1 or self.branch or seen != self._end or not seen or tree.parent[node] != self.trunk[-1]:
            return None
        self.settled, self._live, self._views = seen, {node}, {}
        self.trunk.append(node)
        self._end += 1
        return Feed(self.cache, [tree.token[node]], [seen], [seen + 1], [()], [0])

    def _missing(self, tree: Tree, wanted: list[int]) -> list[int]:
        """The wanted nodes and their unread ancestors, parents first."""
        missing = set(wanted)
        for node in wanted:
            node = tree.parent[node]
            while not self._has(tree, node) and node not in missing:
                missing.add(node)
                node = tree.parent[node]
        return sorted(missing)

    def _place(self, tree: Tree, node: int) -> None:
        """Give `node` the lowest empty slot; it joins the trunk if that is the slot above its parent's."""
        if self._free:
            slot = heappop(self._free)
        else:
            slot = self._end
            self._end += 1
        if slot == len(self.trunk) and tree.parent[node] == self._trunk_end():
            self.trunk.append(node)
        else:
            self.branch[node] = slot

    def _view(self, tree: Tree, node: int) -> tuple[int, tuple[int, ...]]:
        """How many slots of the trunk `node` sees, and which slots after them, in path order."""
        above, slots = node, []
        while above not in self._views and not self._in_trunk(tree, above):
            slots.append(self.branch[above])
            above = tree.parent[above]
        if above in self._views:
            seen, tail = self._views[above]
        else:
            seen, tail = 0 if above == ROOT else tree.depth[above] + 1, ()
        if slots:
            self._views[node] = seen, (*tail, *reversed(slots))
        return seen, (*tail, *reversed(slots))

    def _keep(self, tree: Tree, live: Iterable[int]) -> None:
        """Drop every node that is not an ancestor of a live one, then straighten what is left."""
        before, self._live = self._live, set(live)
        if before <= {self._nearest(tree, node, before) for node in self._live}:
            return  # everything that was live still is, so there is nothing to drop, nor to walk through
        kept: dict[int, int] = {}  # off the trunk: ancestor of a live node, read or not -> its parent
        height = 0
        for node in self._live:
            while not self._in_trunk(tree, node) and node not in kept:
                kept[node] = tree.parent[node]
                node = tree.parent[node]
            if node != ROOT and node not in kept:
                height = max(height, tree.depth[node] + 1)
        for slot in range(height, len(self.trunk)):
            heappush(self._free, slot)
        del self.trunk[height:]
        for node in [node for node in self.branch if node not in kept]:
            heappush(self._free, self.branch.pop(node))
            self._views.pop(node, None)
        if self.branch:
            self._straighten(kept)

    def _nearest(self, tree: Tree, node: int, before: set[int]) -> int:
        """The first node at or above `node` that was live before or has been read."""
        while node not in before and not self._has(tree, node):
            node = tree.parent[node]
        return node

    def _straighten(self, kept: dict[int, int]) -> None:
        """While everything live runs through one branch at the end of the trunk, move it into the trunk."""
        above: dict[int, list[int]] = {}
        for node, parent in kept.items():
            above.setdefault(parent, []).append(node)
        if [parent for parent in above if parent not in kept] != [self._trunk_end()]:
            return
        at = {slot: node for node, slot in self.branch.items()}
        origin: dict[int, int] = {}  # slot -> where its content lies now
        while len(next_up := above.get(self._trunk_end(), [])) == 1 and next_up[0] in self.branch:
            target, source = len(self.trunk), self.branch.pop(next_up[0])
            self.trunk.append(at.pop(source))
            if source == target:
                continue
            origin[target], origin[source] = origin.get(source, source), origin.get(target, target)
            if target in at:  # another branch lies there: the two change places
                at[source] = at.pop(target)
                self.branch[at[source]] = source
            else:
                self._free = [source if slot == target else slot for slot in self._free]
        self._views.clear()
        if origin:
            heapify(self._free)
            self.cache.move(list(origin.values()), list(origin.keys()))

    def _trunk_end(self) -> int:
        return self.trunk[-1] if self.trunk else ROOT

    def _in_trunk(self, tree: Tree, node: int) -> bool:
        if node == ROOT:
            return True
        depth = tree.depth[node]
        return depth < len(self.trunk) and self.trunk[depth] == node

    def _has(self, tree: Tree, node: int) -> bool:
        return node in self.branch or self._in_trunk(tree, node)
