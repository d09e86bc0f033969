"""All that you need to write a strategy, a draft or a transform of your own; docs/extending.md has a recipe for each.

A strategy is a frozen dataclass that inherits `Strategy`; its `decode(request)` is the algorithm, a `Decoding`.
    It asks, with `yield from`: `pick` (choose a token), `top` (the most probable tokens), `draws` (different tokens,
        drawn) or `score` (how probable a token is). What they yield is a `Query` with `Pick`, `Top`, `Draws` or
        `Score`, to the model `TARGET` or a draft model; the replies hold `Choice`, `Candidate` and `Drawn`.
    `Request` is all that may be known of the text: `commit` makes it grow, its `Tree` has a node for each token that
        was considered, from `ROOT` on (`NOWHERE` is no node), its `Tokenizer` is that of the target model.
    It tells an `Event`: `Beams` of `Hypothesis` if it returns several texts, `Chosen` for log-probabilities;
        `Token`, `Verified`, `DraftFailed` and `Finished` are the other kinds.
    Steps that searches share: `beams_event`, `best_first`, `commit_common_prefix`, `commit_best` and `rescore`.
    `Sampling` is a setting that says how a token is chosen, such as a `Chain`; its `sampler` is a `Sampler`.
    A `NextokError` ends the request with its message; a `DeadEndError` says that no token is allowed.

A draft is a frozen dataclass that inherits `Draft`; its `begin(request, sampler)` returns a `Propose`.
    `Guesses` decides how far to guess and learns from it, and `add_chain` makes nodes of token ids. It is made of
        `Pace`, how often guesses come true, and `Speed`, the question what they cost, answered by a `SpeedOf`.
    `HasModel` is what a draft takes a draft model from, such as an LM.

A transform is a `Custom` function of a row of scores, or a frozen dataclass whose `at(past)` returns a transform
    (`LooksBack`; `Past` is the text so far). Both stand in a `Chain` beside each `Transform` that exists.

These are for use inside a strategy, draft or transform while the engine runs it, and by no other thread.
"""

from nextok.core.events import Beams, Chosen, DraftFailed, Event, Finished, Hypothesis, Token, Verified
from nextok.core.query import (
    TARGET,
    Candidate,
    Choice,
    Decoding,
    Drawn,
    Draws,
    Pick,
    Query,
    Score,
    Speed,
    SpeedOf,
    Top,
    draws,
    pick,
    score,
    top,
)
from nextok.core.request import Request, Tokenizer
from nextok.core.tree import NOWHERE, ROOT, Tree
from nextok.drafts.base import Draft, HasModel, Propose
from nextok.drafts.guesses import Guesses, add_chain
from nextok.drafts.pace import Pace
from nextok.errors import DeadEndError, NextokError
from nextok.sampling.past import Past
from nextok.sampling.sampler import LooksBack, Sampler, Transform
from nextok.sampling.transforms import Custom
from nextok.strategies.base import Strategy
from nextok.strategies.beam.search import beams_event, best_first, commit_best, commit_common_prefix
from nextok.strategies.rescore import rescore
from nextok.strategies.sample import Chain, Sampling

__all__ = [
    "NOWHERE",
    "ROOT",
    "TARGET",
    "Beams",
    "Candidate",
    "Chain",
    "Choice",
    "Chosen",
    "Custom",
    "DeadEndError",
    "Decoding",
    "Draft",
    "DraftFailed",
    "Drawn",
    "Draws",
    "Event",
    "Finished",
    "Guesses",
    "HasModel",
    "Hypothesis",
    "LooksBack",
    "NextokError",
    "Pace",
    "Past",
    "Pick",
    "Propose",
    "Query",
    "Request",
    "Sampler",
    "Sampling",
    "Score",
    "Speed",
    "SpeedOf",
    "Strategy",
    "Token",
    "Tokenizer",
    "Top",
    "Transform",
    "Tree",
    "Verified",
    "add_chain",
    "beams_event",
    "best_first",
    "commit_best",
    "commit_common_prefix",
    "draws",
    "pick",
    "rescore",
    "score",
    "top",
]
