"""All that you need to write a strategy, a draft or a transform of your own; docs/extending.md has a recipe for each.

A strategy: a frozen dataclass that inherits `Strategy`; its `decode(request)`, a `Decoding`, is the algorithm.
    Ask:  `pick` (choose a token), `top` (the most probable tokens), `draws` (different tokens, drawn), `score` (how
          probable a token is), each with `yield from`. `Query` with `Pick`, `Top`, `Draws` or `Score` is what they
          yield; its replies hold `Choice`, `Candidate` and `Drawn`. `TARGET` is the model whose text is written.
    Tell: `request.commit(tokens)` makes the text grow, and `Request` has all that may be known of it.
          `Beams` of `Hypothesis` is for a strategy that returns several texts, see `Strategy.texts`;
          `best_first`, `beams_event`, `commit_common_prefix`, `commit_best` and `rescore` do the common steps.
          `Token`, `Chosen`, `Verified`, `DraftFailed` and `Finished` are the other kinds of `Event`.
    `Sampling` is a setting that says how a token is chosen; its `sampler` is a `Sampler`.

A draft: a frozen dataclass that inherits `Draft`; its `begin(request, sampler)` returns a `Propose`.
    `Guesses` decides how far to guess and learns from it, `add_chain` makes nodes of token ids. `Pace` and `Speed`
    are what it is made of: how often guesses come true, and what passes cost. `HasModel` is what lends a model.

A transform: a function of a row of scores in `Custom`, or a frozen dataclass with a method `at(past)` that returns
    one (`LooksBack`; `Past` is the text so far); both stand in a `Chain` beside the others (`Transform`).

Everything here may be called by a strategy, draft or transform while it runs, by no other thread.
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
from nextok.sampling.penalties import LooksBack
from nextok.sampling.sampler import Sampler, Transform
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
