"""A language model of bytes, small enough to know by heart: 256 byte tokens, two spaces, `<eos>` and `<user>`."""

from typing import Any

from nextok.engine.timing import FreeTiming
from nextok.lm import LM
from nextok.models.toy import Scores, ToyModel, make_scores
from nextok.text.from_gguf import build_tokenizer
from nextok.text.tokenizer import Tokenizer
from nextok.text.vocabulary import build_byte_alphabet

EOS, USER = 257, 258
VOCAB = 259
TEMPLATE = (
    "{% for m in messages %}<user>{{ m['role'] }}:{{ m['content'] }}<eos>{% endfor %}"
    "{% if add_generation_prompt %}<user>assistant:{% endif %}"
)


def tiny_vocabulary(template: str | None = TEMPLATE) -> dict[str, Any]:
    """One token a byte, and two control tokens, as the settings of a GGUF file."""
    letters = {byte: letter for letter, byte in build_byte_alphabet().items()}
    metadata = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": [*(letters[byte] for byte in range(256)), "ĠĠ", "<eos>", "<user>"],
        "tokenizer.ggml.token_type": [1] * 257 + [3, 3],
        "tokenizer.ggml.merges": ["Ġ Ġ"],
        "tokenizer.ggml.eos_token_id": EOS,
    }
    return metadata | ({"tokenizer.chat_template": template} if template else {})


def tiny_tokenizer(template: str | None = TEMPLATE) -> Tokenizer:
    """The tokenizer of these settings."""
    return build_tokenizer(tiny_vocabulary(template))


def saying(text: str | bytes) -> Scores:
    """After the last newline of what it reads, the model says `text`, byte by byte, and ends."""
    script = [*(text.encode() if isinstance(text, str) else text), EOS]

    def scores(path: tuple[int, ...]) -> list[float]:
        said = next((i for i, token in enumerate(reversed(path)) if token == ord("\n")), 0)
        logits = [0.0] * VOCAB
        logits[script[min(said, len(script) - 1)]] = 20.0
        return logits

    return scores


def tiny_lm(scores: Scores | None = None, *, template: str | None = TEMPLATE, context: int = 512) -> LM:
    """A loaded model with these scores; by default they look random."""
    model = ToyModel(VOCAB, scores or make_scores(VOCAB, 5), context)
    return LM(model, tiny_tokenizer(template), "tiny", timing=FreeTiming())
