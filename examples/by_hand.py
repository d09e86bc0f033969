"""Decoding without any engine: a model that is a plain function, driven one question at a time."""

from nextok.core.ending import Limits
from nextok.core.request import Request
from nextok.core.tree import ROOT, Tree
from nextok.engine.reference import drive
from nextok.models.toy import ToyModel
from nextok.strategies.beam.beam import Beam
from nextok.strategies.sample import Greedy

WORDS = ["<end>", "the", "cat", "sat", "down"]
FOLLOWS = {1: [0, 0, 5, 1, 0], 2: [1, 0, 0, 5, 0], 3: [3, 0, 0, 0, 4], 4: [9, 0, 0, 0, 0]}
model = ToyModel(len(WORDS), lambda path: FOLLOWS[path[-1]])

for strategy in (Greedy(), Beam(width=3)):
    tree = Tree()
    request = Request(tree, tree.extend(ROOT, [1]), Limits(max_tokens=9, stop_ids=frozenset({0})))
    for event in drive(strategy, request, model):
        print(event)
    print(" ".join(WORDS[token] for token in request.tokens))
