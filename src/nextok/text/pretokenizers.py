"""How byte-level vocabularies cut text into words before merging, by the name a GGUF file gives to it.

The names are llama.cpp's; the rules are those of the `tokenizer.json` that each family was published with.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers.pre_tokenizers import PreTokenizer

_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_SIGNS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_CASED_WORDS = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+%s"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*%s"
)
_CASED_SIGNS = r" ?[^\s\p{L}\p{N}]+[\r\n/]*"

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""GPT-2's own pattern, as some files spell it out."""
_LLAMA3 = rf"{_CONTRACTION}|{_WORD}|\p{{N}}{{1,3}}|{_SIGNS}|{_SPACES}"
_QWEN2 = rf"{_CONTRACTION}|{_WORD}|\p{{N}}|{_SIGNS}|{_SPACES}"
_QWEN35 = (
    rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
    rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_SPACES}"
)
_GPT4O = rf"{_CASED_WORDS % ((_CONTRACTION + '?',) * 2)}|\p{{N}}{{1,3}}|{_CASED_SIGNS}|{_SPACES}"
_TEKKEN = rf"{_CASED_WORDS % ('', '')}|\p{{N}}|{_CASED_SIGNS}|{_SPACES}"
_DEEPSEEK3 = (
    r"\p{N}{1,3}",
    r"[一-龥぀-ゟ゠-ヿ]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_SPACES}",
)


@dataclass(frozen=True, slots=True)
class WordRule:
    """One way to cut text into words; without patterns it is GPT-2's own."""

    patterns: tuple[str, ...] = ()  # regular expressions, each applied to what the one before left uncut
    single_digits: bool = False  # whether each digit is a word of its own
    composed: bool = False  # whether a text is converted to Unicode's NFC first
    whole_words: bool = False  # whether a word that is a token is taken without merging
    adds_bos: bool = False  # whether bos is put before a text where the file does not state it

    def build_pre_tokenizer(self) -> "PreTokenizer":
        """The rule as a step of the `tokenizers` library."""
        from tokenizers import Regex
        from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence, Split

        steps: list[PreTokenizer] = [Split(Regex(pattern), "isolated") for pattern in self.patterns]
        if self.single_digits:
            steps.append(Digits(individual_digits=True))
        return Sequence([*steps, ByteLevel(add_prefix_space=False, use_regex=not self.patterns)])


def _build_rules() -> dict[str, WordRule]:
    gpt2 = WordRule()
    digits = WordRule(single_digits=True)
    llama3 = WordRule((_LLAMA3,), whole_words=True, adds_bos=True)
    llama3_merged = WordRule((_LLAMA3,))
    qwen2 = WordRule((_QWEN2,), composed=True)
    gpt4o = WordRule((_GPT4O,))
    return {
        **dict.fromkeys(("default", "gpt-2", "phi-2", "mpt", "olmo", "jais"), gpt2),
        **dict.fromkeys(("smollm", "starcoder", "refact", "codeshell"), digits),
        **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "falcon3"), llama3),
        **dict.fromkeys(("dbrx", "smaug-bpe", "glm4", "chatglm-bpe"), llama3_merged),
        **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "megrez"), qwen2),
        **dict.fromkeys(("gpt-4o", "llama4"), gpt4o),
        "command-r": WordRule(single_digits=True, composed=True),
        "qwen35": WordRule((_QWEN35,), composed=True),
        "tekken": WordRule((_TEKKEN,), whole_words=True, adds_bos=True),
        "deepseek-v3": WordRule(_DEEPSEEK3),
    }


WORD_RULES: Mapping[str, WordRule] = _build_rules()

# The regular expressions that a `tokenizer.json` may contain: any other could take very long.
PUBLISHED_PATTERNS = {pattern for rule in WORD_RULES.values() for pattern in rule.patterns} | {
    GPT2,
    r"\p{N}",
    r"[0-9][0-9][0-9]",  # Falcon
    r" ?[^(\s|[.,!?…。，、।۔،])]+",  # BLOOM
}
