"""nextok turns a language model's scores into text: greedy, sampling, beam search and speculative decoding."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nextok.conversation import Conversation
    from nextok.drafts.draft_model import DraftModel
    from nextok.drafts.prompt_lookup import PromptLookup
    from nextok.drafts.token_tree import TokenTree
    from nextok.errors import NextokError
    from nextok.lm import LM
    from nextok.loading import load, load_tokenizer
    from nextok.output import Completion, Output, Scores, Stats
    from nextok.strategies.beam import Beam
    from nextok.strategies.sample import Greedy, Sample
    from nextok.strategies.speculate import Speculate

__version__ = "0.1.0"

# Where each public name lives; it is imported when first used, so that the command line starts at once.
_HOMES = {
    "LM": "lm",
    "Beam": "strategies.beam",
    "Completion": "output",
    "Conversation": "conversation",
    "DraftModel": "drafts.draft_model",
    "Greedy": "strategies.sample",
    "NextokError": "errors",
    "Output": "output",
    "PromptLookup": "drafts.prompt_lookup",
    "Sample": "strategies.sample",
    "Scores": "output",
    "Speculate": "strategies.speculate",
    "Stats": "output",
    "TokenTree": "drafts.token_tree",
    "load": "loading",
    "load_tokenizer": "loading",
}

__all__ = [
    "LM",
    "Beam",
    "Completion",
    "Conversation",
    "DraftModel",
    "Greedy",
    "NextokError",
    "Output",
    "PromptLookup",
    "Sample",
    "Scores",
    "Speculate",
    "Stats",
    "TokenTree",
    "load",
    "load_tokenizer",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'nextok' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"nextok.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
