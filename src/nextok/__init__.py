"""nextok turns a language model's scores into text: greedy, sampling, beam search and speculative decoding."""

import importlib
from typing import TYPE_CHECKING, Any

from nextok.extras import needed_for

if TYPE_CHECKING:
    from nextok.conversation import Conversation
    from nextok.drafts.draft_model import DraftModel
    from nextok.drafts.prompt_lookup import PromptLookup
    from nextok.drafts.token_tree import TokenTree
    from nextok.errors import NextokError
    from nextok.generation.output import Completion, Output, Scores, Stats
    from nextok.grammar.grammar import Grammar
    from nextok.lm import LM
    from nextok.loading import load, load_tokenizer
    from nextok.pytorch.generate_super import attach, generate_super
    from nextok.pytorch.wrap import wrap
    from nextok.sampling.penalties import (
        DRY,
        FrequencyPenalty,
        Mirostat,
        NoRepeatNGram,
        PresencePenalty,
        RepetitionPenalty,
    )
    from nextok.sampling.transforms import (
        XTC,
        Custom,
        DynamicTemperature,
        EpsilonCutoff,
        EtaCutoff,
        MinP,
        Temperature,
        TopK,
        TopNSigma,
        TopP,
        TypicalP,
    )
    from nextok.strategies.beam.beam import Beam
    from nextok.strategies.beam.diverse import DiverseBeam
    from nextok.strategies.beam.stochastic import StochasticBeam
    from nextok.strategies.sample import Chain, Greedy, Sample
    from nextok.strategies.speculate import Speculate

__version__ = "0.1.0"

# Where each public name lives; it is imported when first used, so that the command line starts at once.
_HOMES = {
    "DRY": "sampling.penalties",
    "LM": "lm",
    "XTC": "sampling.transforms",
    "Beam": "strategies.beam.beam",
    "Chain": "strategies.sample",
    "Completion": "generation.output",
    "Conversation": "conversation",
    "Custom": "sampling.transforms",
    "DiverseBeam": "strategies.beam.diverse",
    "DraftModel": "drafts.draft_model",
    "DynamicTemperature": "sampling.transforms",
    "EpsilonCutoff": "sampling.transforms",
    "EtaCutoff": "sampling.transforms",
    "FrequencyPenalty": "sampling.penalties",
    "Grammar": "grammar.grammar",
    "Greedy": "strategies.sample",
    "MinP": "sampling.transforms",
    "Mirostat": "sampling.penalties",
    "NextokError": "errors",
    "NoRepeatNGram": "sampling.penalties",
    "Output": "generation.output",
    "PresencePenalty": "sampling.penalties",
    "PromptLookup": "drafts.prompt_lookup",
    "RepetitionPenalty": "sampling.penalties",
    "Sample": "strategies.sample",
    "Scores": "generation.output",
    "Speculate": "strategies.speculate",
    "Stats": "generation.output",
    "StochasticBeam": "strategies.beam.stochastic",
    "Temperature": "sampling.transforms",
    "TokenTree": "drafts.token_tree",
    "TopK": "sampling.transforms",
    "TopNSigma": "sampling.transforms",
    "TopP": "sampling.transforms",
    "TypicalP": "sampling.transforms",
    "attach": "pytorch.generate_super",
    "generate_super": "pytorch.generate_super",
    "load": "loading",
    "load_tokenizer": "loading",
    "wrap": "pytorch.wrap",
}

__all__ = [
    "DRY",
    "LM",
    "XTC",
    "Beam",
    "Chain",
    "Completion",
    "Conversation",
    "Custom",
    "DiverseBeam",
    "DraftModel",
    "DynamicTemperature",
    "EpsilonCutoff",
    "EtaCutoff",
    "FrequencyPenalty",
    "Grammar",
    "Greedy",
    "MinP",
    "Mirostat",
    "NextokError",
    "NoRepeatNGram",
    "Output",
    "PresencePenalty",
    "PromptLookup",
    "RepetitionPenalty",
    "Sample",
    "Scores",
    "Speculate",
    "Stats",
    "StochasticBeam",
    "Temperature",
    "TokenTree",
    "TopK",
    "TopNSigma",
    "TopP",
    "TypicalP",
    "attach",
    "generate_super",
    "load",
    "load_tokenizer",
    "wrap",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'nextok' has no attribute {name!r}")
    with needed_for(f"nextok.{name}"):
        value = getattr(importlib.import_module(f"nextok.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
