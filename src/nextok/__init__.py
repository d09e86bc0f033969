"""nextok turns a language model's scores into text: greedy, sampling, beam search and speculative decoding."""

import importlib
from functools import cache
from typing import TYPE_CHECKING, Any

from nextok.extras import needed_for

if TYPE_CHECKING:
    from nextok.conversation import Conversation as Conversation
    from nextok.core.request import Request as Request
    from nextok.drafts.base import Draft as Draft
    from nextok.drafts.draft_model import DraftModel as DraftModel
    from nextok.drafts.prompt_lookup import History as History
    from nextok.drafts.prompt_lookup import PromptLookup as PromptLookup
    from nextok.drafts.several import Drafts as Drafts
    from nextok.drafts.token_tree import TokenTree as TokenTree
    from nextok.errors import NextokError as NextokError
    from nextok.generation.options import GenerateOptions as GenerateOptions
    from nextok.generation.output import Completion as Completion
    from nextok.generation.output import Output as Output
    from nextok.generation.output import Outputs as Outputs
    from nextok.generation.output import Scores as Scores
    from nextok.generation.output import Stats as Stats
    from nextok.generation.output import TokenLogprob as TokenLogprob
    from nextok.generation.stream import AsyncStream as AsyncStream
    from nextok.generation.stream import Piece as Piece
    from nextok.generation.stream import Stream as Stream
    from nextok.grammar.grammar import Grammar as Grammar
    from nextok.hub.source import Progress as Progress
    from nextok.lm import LM as LM
    from nextok.loading import load as load
    from nextok.loading import load_tokenizer as load_tokenizer
    from nextok.pytorch.generate_super import attach as attach
    from nextok.pytorch.generate_super import generate_super as generate_super
    from nextok.pytorch.wrap import wrap as wrap
    from nextok.sampling.penalties import DRY as DRY
    from nextok.sampling.penalties import FrequencyPenalty as FrequencyPenalty
    from nextok.sampling.penalties import Mirostat as Mirostat
    from nextok.sampling.penalties import NoRepeatNGram as NoRepeatNGram
    from nextok.sampling.penalties import PresencePenalty as PresencePenalty
    from nextok.sampling.penalties import RepetitionPenalty as RepetitionPenalty
    from nextok.sampling.transforms import XTC as XTC
    from nextok.sampling.transforms import Custom as Custom
    from nextok.sampling.transforms import DynamicTemperature as DynamicTemperature
    from nextok.sampling.transforms import EpsilonCutoff as EpsilonCutoff
    from nextok.sampling.transforms import EtaCutoff as EtaCutoff
    from nextok.sampling.transforms import MinP as MinP
    from nextok.sampling.transforms import Temperature as Temperature
    from nextok.sampling.transforms import TopK as TopK
    from nextok.sampling.transforms import TopNSigma as TopNSigma
    from nextok.sampling.transforms import TopP as TopP
    from nextok.sampling.transforms import TypicalP as TypicalP
    from nextok.strategies.base import Strategy as Strategy
    from nextok.strategies.beam.beam import Beam as Beam
    from nextok.strategies.beam.diverse import DiverseBeam as DiverseBeam
    from nextok.strategies.beam.stochastic import StochasticBeam as StochasticBeam
    from nextok.strategies.sample import Chain as Chain
    from nextok.strategies.sample import Greedy as Greedy
    from nextok.strategies.sample import Sample as Sample
    from nextok.strategies.speculate import Speculate as Speculate

__version__ = "0.1.0"

# Where public names live. Each is imported when it is first used, so that the command line starts at once. The
# transforms are not among them: they are the records that the fields of Sample name.
_HOMES = {
    "conversation": "Conversation",
    "core.request": "Request",
    "drafts.base": "Draft",
    "drafts.draft_model": "DraftModel",
    "drafts.prompt_lookup": "History PromptLookup",
    "drafts.several": "Drafts",
    "drafts.token_tree": "TokenTree",
    "errors": "NextokError",
    "generation.options": "GenerateOptions",
    "generation.output": "Completion Output Outputs Scores Stats TokenLogprob",
    "generation.stream": "AsyncStream Piece Stream",
    "grammar.grammar": "Grammar",
    "hub.source": "Progress",
    "lm": "LM",
    "loading": "load load_tokenizer",
    "pytorch.generate_super": "attach generate_super",
    "pytorch.wrap": "wrap",
    "strategies.base": "Strategy",
    "strategies.beam.beam": "Beam",
    "strategies.beam.diverse": "DiverseBeam",
    "strategies.beam.stochastic": "StochasticBeam",
    "strategies.sample": "Chain Greedy Sample",
    "strategies.speculate": "Speculate",
}


@cache
def _homes() -> dict[str, str]:
    """The module of each public name."""
    from nextok.strategies.sample import Sample
    from nextok.strategies.settings import settings_of

    records = [how.record for _, how in settings_of(Sample)]
    homes = {name: f"nextok.{module}" for module, names in _HOMES.items() for name in names.split()}
    return homes | {record.__name__: record.__module__ for record in records}


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return sorted(_homes())
    if name.startswith("_") or name not in _homes():
        raise AttributeError(f"module 'nextok' has no attribute {name!r}")
    with needed_for(f"nextok.{name}"):
        value = getattr(importlib.import_module(_homes()[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_homes()})
