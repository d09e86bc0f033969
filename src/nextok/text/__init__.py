"""Text in and out: tokens, stop strings and chat templates."""

from nextok.text.detokenizer import Detokenizer
from nextok.text.stops import HeldText, StopStrings
from nextok.text.template import render_chat
from nextok.text.tokenizer import Tokenizer, load_tokenizer

__all__ = ["Detokenizer", "HeldText", "StopStrings", "Tokenizer", "load_tokenizer", "render_chat"]
