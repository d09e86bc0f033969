"""The memo: what is read once, what is dropped, and that nothing is moved without need."""

import random

from nextok.core.query import Pick, Row
from nextok.core.tree import ROOT, Tree
from nextok.engine.memo import Memo
from nextok.models.toy import ToyCache, ToyModel
from nextok.sampling.sampler import Sampler


class CountingCache(ToyCache):
    """A cache that counts the entries moved."""

    def __init__(self):
        super().__init__()
        self.moved = 0

    def move(self, sources, targets):
        self.moved += len(sources)
        super().move(sources, targets)


def reads(memo, tree, wanted, live=None, budget=512):
    """Feed and let a toy model look at it, which checks every visible slot; the number of tokens read."""
    feed, answered = memo.feed(tree, wanted, live or wanted, budget)
    seen = []
    model = ToyModel(2, lambda path: seen.append(path) or [0.0, 0.0])
    model.answer([feed], [Row(i, Pick(Sampler()), seed=0, position=0) for i in range(len(feed.rows))])
    assert [list(path) for path in seen] == [tree.path(node) for node in answered]
    return len(feed.tokens)


def test_a_chain_is_read_once_and_stays_straight():
    tree, memo = Tree(), Memo(CountingCache())
    tip = tree.extend(ROOT, range(50))
    assert reads(memo, tree, [tip]) == 50
    for token in range(20):
        tip = tree.add(tip, token)
        assert reads(memo, tree, [tip]) == 1
    assert memo.branch == {}
    assert memo.cache.moved == 0


def test_a_rejected_chain_is_overwritten_without_a_move():
    tree, memo = Tree(), Memo(CountingCache())
    tip = tree.extend(ROOT, [1, 2, 3])
    for step in range(10):
        drafts = [tree.extend(tip, range(10, 10 + size)) for size in range(1, 5)]
        assert reads(memo, tree, [tip, *drafts]) == (7 if step == 0 else 5)
        tip = tree.add(drafts[1], 99)  # two accepted, then the target's own token
    assert memo.branch == {}
    assert memo.cache.moved == 0
    assert len(memo.cache.slots) <= 3 + 10 * 3 + 5


def test_a_branch_that_wins_is_moved_into_the_trunk():
    tree, memo = Tree(), Memo(CountingCache())
    tip = tree.extend(ROOT, [1, 2, 3])
    twigs = [tree.add(tip, token) for token in (7, 8, 9)]
    leaves = [tree.add(twig, 4) for twig in twigs]
    reads(memo, tree, [tip, *twigs, *leaves])
    reads(memo, tree, [tree.add(leaves[2], 5)])
    assert memo.branch == {}
    assert memo.cache.moved >= 2


def test_a_question_asked_again_is_answered_again_from_the_same_slots():
    tree, memo = Tree(), Memo(ToyCache())
    tip = tree.extend(ROOT, [1, 2, 3])
    assert reads(memo, tree, [tip]) == 3
    assert reads(memo, tree, [tip]) == 1
    assert len(memo.cache.slots) == 3


def test_long_prompts_come_in_chunks_parents_first():
    tree, memo = Tree(), Memo(ToyCache())
    tip = tree.extend(ROOT, range(10))
    assert [reads(memo, tree, [tip], budget=4) for _ in range(3)] == [4, 4, 2]


def test_what_others_still_ask_for_is_kept():
    tree, memo = Tree(), Memo(ToyCache())
    stem = tree.extend(ROOT, [1, 2, 3])
    left, right = tree.extend(stem, [4, 5]), tree.extend(stem, [6, 7])
    reads(memo, tree, [left, right])
    assert reads(memo, tree, [tree.add(left, 8)], live=[left, right]) == 1
    assert reads(memo, tree, [tree.add(right, 8)], live=[left, right]) == 1
    assert reads(memo, tree, [tree.add(left, 9)], live=[left]) == 1
    assert reads(memo, tree, [right]) == 2  # it was dropped, and is read again


def test_random_growth_pruning_and_regrowth_never_shows_a_node_a_wrong_slot():
    for seed in range(60):
        rng = random.Random(seed)
        tree, memo = Tree(), Memo(ToyCache())
        live = [tree.extend(ROOT, range(rng.randrange(1, 6)))]
        for _ in range(60):
            grown = [tree.add(rng.choice(live), rng.randrange(3)) for _ in range(rng.randrange(1, 5))]
            live = rng.sample(live + grown, k=min(len(live + grown), rng.randrange(1, 6)))
            reads(memo, tree, rng.sample(live, k=rng.randrange(1, len(live) + 1)), live, rng.choice([1, 3, 512]))
        slots = [*range(len(memo.trunk)), *memo.branch.values()]
        assert len(set(slots)) == len(slots)
