"""Small worlds for the laws: toy models, drafts of all kinds, and two ways to run a request.

A strategy of yours joins the laws by one line in STRATEGIES, a draft by one in DRAFTS, a way to sample by one in
SAMPLINGS. `asked` makes a request, `by_reference` and `by_engine` run it and return its events, `outcome` is what two
runs must have in common.
"""

import random
from dataclasses import dataclass
from typing import Any

from nextok.core.ending import Limits
from nextok.core.events import Event
from nextok.core.query import pick
from nextok.core.request import Request
from nextok.core.tree import ROOT, Tree
from nextok.drafts.draft_model import DraftModel
from nextok.drafts.prompt_lookup import PromptLookup
from nextok.drafts.several import Drafts
from nextok.drafts.token_tree import TokenTree
from nextok.engine.engine import Engine
from nextok.engine.reference import drive
from nextok.engine.timing import FreeTiming
from nextok.models.toy import ToyModel, make_scores
from nextok.sampling.penalties import DRY, Mirostat, RepetitionPenalty
from nextok.sampling.transforms import XTC, Custom, DynamicTemperature, Temperature, TopK, TopP
from nextok.strategies.beam.beam import Beam
from nextok.strategies.beam.diverse import DiverseBeam
from nextok.strategies.beam.stochastic import StochasticBeam
from nextok.strategies.sample import Chain, Greedy, Sample
from nextok.strategies.speculate import Speculate

VOCAB = 7
STOP = 0


@dataclass(frozen=True)
class Lent:
    """What a draft takes a model from."""

    model: ToyModel


TARGET = ToyModel(VOCAB, make_scores(VOCAB, seed=1))
SIMILAR = Lent(
    ToyModel(
        VOCAB, lambda path: [a + 0.2 * b for a, b in zip(make_scores(VOCAB, 1)(path), make_scores(VOCAB, 2)(path))]
    )
)
UNRELATED = Lent(ToyModel(VOCAB, make_scores(VOCAB, seed=3)))
SHORT_SIGHTED = Lent(ToyModel(VOCAB, make_scores(VOCAB, seed=1), context=6))


@dataclass(frozen=True)
class RandomDraft:
    """Guesses a random tree, of random size, empty at times."""

    seed: int = 0

    def begin(self, request, sampler):
        dice = random.Random(self.seed)

        def propose():
            yield from ()
            nodes = []
            for _ in range(dice.randrange(6) if request.room > 1 else 0):
                parent = dice.choice([request.tip, *nodes])
                if request.tree.depth[parent] - request.tree.depth[request.tip] < request.room - 1:
                    nodes.append(request.tree.add(parent, dice.randrange(VOCAB)))
            return list(dict.fromkeys(nodes))

        return propose


@dataclass(frozen=True)
class Adversary:
    """Guesses what the target will draw for `honest` tokens, and something else after that."""

    honest: int = 1

    def begin(self, request, sampler):
        def propose():
            node, nodes = request.tip, []
            for step in range(min(4, request.room - 1)):
                picked = yield from pick([node], sampler, TARGET)
                if node not in picked:
                    break
                node = request.tree.add(node, (picked[node] + (step >= self.honest)) % VOCAB)
                nodes.append(node)
            return nodes

        return propose


DRAFTS = {
    "lookup": PromptLookup(max_draft=4, shortest=1),
    "similar": DraftModel(SIMILAR, max_draft=4),
    "unrelated": DraftModel(UNRELATED, max_draft=3),
    "itself": DraftModel(Lent(TARGET), max_draft=4),
    "short-sighted": DraftModel(SHORT_SIGHTED, max_draft=4),
    "tree": TokenTree(SIMILAR, widths=(3, 2)),
    "several": Drafts(PromptLookup(max_draft=3), TokenTree(UNRELATED, widths=(2,)), DraftModel(SIMILAR, max_draft=3)),
    "random": RandomDraft(),
    "adversary": Adversary(),
    "liar": Adversary(honest=0),
}
SAMPLINGS = {
    "greedy": Greedy(),
    "cold": Sample(temperature=0),
    "warm": Sample(temperature=0.7),
    "plain": Sample(),
    "filtered": Sample(temperature=1.3, top_k=5, top_p=0.9, min_p=0.05),
}


def centred(row):
    """A rule of one's own about a row: what is below the mean loses half a point."""
    return row - 0.5 * (row < row[row > -float("inf")].mean())


def restless(row, tokens):
    """A rule of one's own about the text: a token loses as much as it occurred among the last four."""
    for token in tokens[-4:]:
        row[token] -= 1
    return row


SHAPED = {
    "penalised": Greedy(repetition_penalty=1.4, presence_penalty=0.5, frequency_penalty=0.3),
    "penalised draw": Sample(repetition_penalty=0.8, presence_penalty=-0.5, frequency_penalty=0.7),
    "no pair twice": Sample(no_repeat_ngram_size=2),
    "dry": Sample(dry=DRY(0.9, base=1.5, allowed_length=1)),
    "typical": Sample(typical_p=0.6),
    "cut off": Sample(epsilon_cutoff=0.03, eta_cutoff=0.2, top_n_sigma=1.8),
    "xtc": Sample(xtc=XTC(0.5, 0.1)),
    "mirostat 1": Sample(mirostat=Mirostat(1, tau=1.5, eta=0.4)),
    "mirostat 2": Sample(mirostat=Mirostat(2, tau=1.2, eta=0.6)),
    "dynamic": Sample(dynamic_temperature=DynamicTemperature(0.3, 2.5, 1.3)),
    "own order": Chain((TopP(0.9), RepetitionPenalty(1.5), Temperature(0.8), TopK(4))),
    "own rule": Sample(custom=centred),
    "restless": Chain((Temperature(1.2), Custom(restless), Mirostat(2, tau=1.5, eta=0.5))),
    "all at once": Sample(
        temperature=1.2,
        top_k=6,
        top_p=0.97,
        min_p=0.01,
        repetition_penalty=1.2,
        frequency_penalty=0.2,
        dry=DRY(0.5),
        custom=restless,
        typical_p=0.95,
        xtc=XTC(0.3, 0.2),
        mirostat=Mirostat(2, tau=2.0, eta=0.2),
    ),
}
BEAMS = {
    "beam 1": Beam(1),
    "beam 3": Beam(3),
    "beam 4 early": Beam(4, early_stopping=True, length_penalty=0.6),
    "beam 2 never": Beam(2, early_stopping="never", length_penalty=1.4),
    "beam 3 patient": Beam(3, patience=2.5, sampling=Greedy(repetition_penalty=1.3, no_repeat_ngram_size=3)),
    "beam 3 drawn": Beam(3, sampling=Sample(temperature=0.8, top_k=5)),
    "diverse beam": DiverseBeam(4, groups=2, diversity=1.5),
    "stochastic beam": StochasticBeam(3),
}
STRATEGIES: dict[str, Any] = (
    SAMPLINGS
    | BEAMS
    | {
        f"{draft} {sampling}": Speculate(DRAFTS[draft], SAMPLINGS[sampling])
        for draft in DRAFTS
        for sampling in ("greedy", "warm", "plain")
    }
)


class Digits:
    """A tokenizer whose tokens are digits."""

    def encode(self, text, special=True):
        return [int(digit) for digit in text]

    def decode(self, ids):
        return "".join(map(str, ids))


def asked(prompt, *, seed=0, tree=None, logprobs=None, masks=(), **limits) -> Request:
    """A request on its own tree, or on a shared one."""
    tree = tree or Tree()
    limits = {"max_tokens": 12, "stop_ids": frozenset({STOP})} | limits
    return Request(tree, tree.extend(ROOT, prompt), Limits(**limits), seed, logprobs, masks, Digits())


def by_reference(strategy, request, target=TARGET) -> list[Event]:
    """All events of one request, driven alone without any cache."""
    return list(drive(strategy, request, target))


def by_engine(strategy, request, target=TARGET, **settings) -> list[Event]:
    """All events of one request, alone in an engine."""
    events: list[Event] = []
    engine = Engine(target, **{"timing": FreeTiming()} | settings)
    engine.submit(request, strategy, events.append)
    engine.run()
    return events


def outcome(request: Request) -> tuple[list[int], str | None]:
    """What must be equal for two runs to be the same."""
    return request.tokens, request.finish_reason
