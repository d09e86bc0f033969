"""Text in and out: tokens, stop strings and chat templates."""

from nextok.text.held import HeldText
from nextok.text.template import render_chat
from nextok.text.tokenizer import Tokenizer, load_tokenizer

__all__ = ["HeldText", "Tokenizer", "load_tokenizer", "render_chat"]
