"""What authors of strategies, drafts and transforms rely on."""

import re
from dataclasses import dataclass
from typing import Any

import pytest

import nextok as nt
from nextok import extend
from nextok.core.ending import Limits
from nextok.core.request import Request
from nextok.core.tree import ROOT, Tree
from nextok.errors import NextokError
from nextok.extend import Beams, Draft, Hypothesis, Strategy, add_chain, pick, top
from nextok.lm import LM
from nextok.models.toy import ToyModel, make_scores
from tiny import VOCAB, saying, tiny_lm, tiny_tokenizer
from toys import asked


def test_the_one_door_says_what_each_name_is_for():
    told = set(re.findall(r"`(\w+)", extend.__doc__))
    assert set(extend.__all__) <= told, set(extend.__all__) - told
    assert all(getattr(extend, name) is not None for name in extend.__all__)


@dataclass(frozen=True)
class Helped(Draft):
    """A draft that calls its model by a name of its own."""

    helper: Any

    def models(self):
        return (self.helper,)

    def begin(self, request, sampler):
        return raises


@dataclass(frozen=True)
class Mixed(Strategy):
    """A strategy that asks another model."""

    expert: Any

    def models(self):
        return (self.expert,)


def raises():
    raise AssertionError("it must not begin")


def stranger():
    """A model whose vocabulary is not the tiny one's."""
    tokenizer = tiny_tokenizer()
    names = (*tokenizer.names[:-1], "<other>")
    object.__setattr__(tokenizer, "names", names)
    return LM(ToyModel(VOCAB, make_scores(VOCAB, 5)), tokenizer, "stranger")


@pytest.mark.parametrize("strategy", [lambda lm: nt.Speculate(Helped(lm)), Mixed], ids=["draft", "strategy"])
def test_a_model_of_another_vocabulary_is_refused_by_whatever_name_it_goes(strategy):
    with pytest.raises(ValueError, match="stranger has another vocabulary than tiny"):
        tiny_lm().generate("Hi", strategy(stranger()))


class Plain:
    """No more than the algorithm."""

    def decode(self, request):
        while not request.finish_reason:
            picked = yield from pick([request.tip], nt.Greedy().sampler)
            request.commit(picked.values())


def test_a_plain_class_is_a_strategy():
    lm = tiny_lm(saying("as it is"))
    assert lm.generate("x\n", Plain()).text == "as it is"
    assert len(lm.generate("x\n", Plain(), n=2).choices) == 2
    for wrong in (Plain, "greedy", None):
        with pytest.raises(ValueError, match="strategy must be"):
            lm.generate("x", wrong)


def test_a_strategy_without_its_algorithm_ends_its_own_request():
    output = tiny_lm().generate(["x"], Mixed(tiny_lm()))[0]
    assert "Mixed must have a method decode" in str(output.error)


class Forgetful:
    """Forgets `from`."""

    def decode(self, request):
        tops = yield top([request.tip], 1)
        request.commit([tops[request.tip][0].token])


def test_a_strategy_that_yields_no_question_is_told_how_to_ask():
    with pytest.raises(ValueError, match=r"yield from.* got <generator object top"):
        tiny_lm().generate("x", Forgetful())


@dataclass(frozen=True)
class Pair(Strategy):
    """Two texts that it did not have to look for."""

    def texts(self):
        return 2

    def decode(self, request):
        one, other = (request.tree.extend(request.tip, request.tokenizer.encode(text)) for text in ("left", "right"))
        yield Beams((), (Hypothesis(one, -1.0, -1.0), Hypothesis(other, -2.0, -2.0)))
        request.commit(request.tree.path(one, above=request.tip))
        request.finish("stop")


def test_a_strategy_says_how_many_texts_it_returns_and_can_encode_text():
    output = tiny_lm().generate("x", Pair())
    assert [(choice.text, choice.score) for choice in output.choices] == [("left", -1.0), ("right", -2.0)]
    with pytest.raises(ValueError, match="n counts samples"):
        tiny_lm().generate("x", Pair(), n=2)


def test_a_request_of_ids_alone_has_no_tokenizer():
    tree = Tree()
    with pytest.raises(NextokError, match="has no tokenizer"):
        Request(tree, tree.extend(ROOT, [1]), Limits()).tokenizer  # noqa: B018


@pytest.mark.parametrize(
    ("strategy", "random"),
    [
        (nt.Greedy(), False),
        (nt.Sample(), True),
        (nt.Sample(temperature=0), False),
        (nt.Chain((), draw=False), False),
        (nt.Chain(()), True),
        (nt.Beam(2), False),
        (nt.Beam(2, sampling=nt.Sample()), True),
        (nt.DiverseBeam(2, 2, 0.5), False),
        (nt.StochasticBeam(2), True),
        (nt.Speculate(nt.PromptLookup()), False),
        (nt.Speculate(nt.PromptLookup(), nt.Sample()), True),
    ],
    ids=repr,
)
def test_a_strategy_knows_whether_a_seed_matters(strategy, random):
    assert strategy.is_random() is random
    lm = tiny_lm()
    texts = {lm.generate("x", strategy, max_tokens=8, seed=seed).text for seed in range(8)}
    assert (len(texts) > 1) is random


def test_a_chain_ends_where_the_rules_of_the_text_do():
    request = asked([1, 2], max_tokens=4, vocab_size=5)
    assert request.tree.path(add_chain(request, [3, 4, 1, 1, 1])[-1], above=request.tip) == [3, 4, 1]
    assert request.tree.path(add_chain(request, [3, 6, 1])[-1], above=request.tip) == [3]
    assert add_chain(request, []) == []
