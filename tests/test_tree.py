"""The tree: nodes, paths, and one node for one text."""

import pytest

from nextok.core.ending import Limits
from nextok.core.request import Request
from nextok.core.tree import NOWHERE, ROOT, Tree


def test_the_same_token_under_the_same_parent_is_the_same_node():
    tree = Tree()
    tip = tree.extend(ROOT, [5, 6, 7])
    assert tree.extend(ROOT, [5, 6, 7]) == tip
    assert tree.add(tip, 1) == tree.add(tip, 1) != tree.add(tip, 2)
    assert len(tree.token) == 5


def test_find_adds_nothing():
    tree = Tree()
    tip = tree.extend(ROOT, [5])
    assert tree.find(tip, 6) == NOWHERE
    assert tree.find(ROOT, 5) == tip
    assert len(tree.token) == 1


def test_paths_and_depths():
    tree = Tree()
    prompt = tree.extend(ROOT, [1, 2])
    tip = tree.extend(prompt, [3, 4, 5])
    assert tree.path(tip) == [1, 2, 3, 4, 5]
    assert tree.path(tip, above=prompt) == [3, 4, 5]
    assert tree.path(prompt, above=prompt) == []
    assert [tree.depth[node] for node in (prompt, tip)] == [1, 4]


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({"max_tokens": 0}, "max_tokens must be at least 1, got 0"),
        ({"max_tokens": 5, "min_tokens": 6}, "min_tokens must be from 0 to max_tokens"),
        ({"min_tokens": -1}, "min_tokens"),
        ({"stop": (b"",)}, "stop string must not be empty"),
    ],
)
def test_impossible_limits_are_refused(limits, says):
    with pytest.raises(ValueError, match=says):
        Limits(**limits)


def test_a_prompt_must_hold_something_and_leave_room():
    tree = Tree()
    with pytest.raises(ValueError, match="prompt is empty"):
        Request(tree, ROOT, Limits())
    tip = tree.extend(ROOT, [1, 2, 3, 4])
    with pytest.raises(ValueError, match="4 tokens and the model's context is 4; shorten the prompt to at most 3"):
        Request(tree, tip, Limits(context=4))
    assert Request(tree, tip, Limits(context=5)).room == 1


def test_nothing_is_committed_after_the_end():
    tree = Tree()
    request = Request(tree, tree.extend(ROOT, [1]), Limits(max_tokens=9, stop_ids=frozenset({0})))
    list(request.commit([4, 0, 5, 6]))
    assert request.tokens == [4, 0]
    assert request.finish_reason == "stop"
    assert list(request.commit([7])) == []
