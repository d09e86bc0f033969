"""The options that set when a text ends, how many texts there are, and which form they must have."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from nextok.cli.flags import OUTPUT, TEXT, MaxTokens, Stop, option
from nextok.cli.prompts import clean

if TYPE_CHECKING:
    from nextok.cli.strategy import StrategyFlags
    from nextok.generation.options import CheckedOptions, GenerateOptions
    from nextok.grammar.grammar import Grammar

RULES = "Rules (no strategy breaks them)"
MOST_BYTES = 1 << 20
"""Largest size of a grammar's file, in bytes."""


@dataclass(frozen=True, slots=True)
class RuleFlags:
    """The rules that a text must follow."""

    logit_bias: Annotated[
        list[str] | None,
        option("--logit-bias", metavar="ID=X", text="Add X to a token's score; -inf forbids it.", panel=RULES),
    ] = None
    bad_word: Annotated[
        list[str] | None, option("--bad-word", metavar="TEXT", text="Never write this.", panel=RULES)
    ] = None
    choice: Annotated[
        list[str] | None, option("--choice", metavar="TEXT", text="Write one of these.", panel=RULES)
    ] = None
    regex: Annotated[
        str | None, option("--regex", metavar="REGEX", text="Write what this matches as a whole.", panel=RULES)
    ] = None
    json_schema: Annotated[
        str | None, option("--json-schema", metavar="FILE", text="JSON of this schema (or the JSON).", panel=RULES)
    ] = None
    grammar: Annotated[
        str | None, option("--grammar", metavar="FILE", text="Follow this grammar in Lark's notation.", panel=RULES)
    ] = None

    def read_options(self) -> "GenerateOptions":
        """The library's options; ValueError if they contradict each other or a file cannot be read."""
        return {
            "logit_bias": _parse_biases(self.logit_bias or ()),
            "bad_words": tuple(clean(word) for word in self.bad_word or ()),
            "grammar": self._read_grammar(),
        }

    def _read_grammar(self) -> "Grammar | None":
        kinds = {
            "--choice": self.choice,
            "--regex": self.regex,
            "--json-schema": self.json_schema,
            "--grammar": self.grammar,
        }
        given = [flag for flag, value in kinds.items() if value is not None]
        if not given:
            return None
        if len(given) > 1:
            raise ValueError(f"{given[0]} and {given[1]} contradict each other: leave one of them out")
        from nextok.grammar.grammar import Grammar

        if self.choice is not None:
            return Grammar.choices([clean(choice) for choice in self.choice])
        if self.regex is not None:
            return Grammar.regex(clean(self.regex))
        if self.json_schema is not None:
            schema = clean(self.json_schema)
            return Grammar.json_schema(
                schema if schema.lstrip().startswith("{") else read_file("--json-schema", schema)
            )
        return Grammar.lark(read_file("--grammar", str(self.grammar)))


@dataclass(frozen=True, slots=True)
class TextFlags:
    """When a text ends, and how many texts there are."""

    max_tokens: MaxTokens = 256
    min_tokens: Annotated[int, option("--min-tokens", metavar="N", text="Do not stop before.", panel=TEXT)] = 0
    stop: Stop = None
    ignore_eos: Annotated[bool, option("--ignore-eos", text="Go on after the model's end token.", panel=TEXT)] = False
    n: Annotated[int, option("-n", metavar="N", text="Several samples, or the N best beams.", panel=TEXT)] = 1
    logprobs: Annotated[
        int | None,
        option("--logprobs", metavar="N", text="Log-probabilities, with N alternatives.", panel=OUTPUT),
    ] = None
    prompt_logprobs: Annotated[
        bool, option("--prompt-logprobs", text="Those of the prompt's tokens as well.", panel=OUTPUT)
    ] = False

    def build_options(self, strategy: "StrategyFlags", rules: RuleFlags) -> "CheckedOptions":
        """The library's options; ValueError if one is out of range."""
        from nextok.generation.options import CheckedOptions

        options: GenerateOptions = {
            "max_tokens": self.max_tokens,
            "min_tokens": self.min_tokens,
            "stop": tuple(self.stop or ()),
            "ignore_eos": self.ignore_eos,
            "seed": strategy.seed,
            "n": 1 if strategy.searches else self.n,
            "logprobs": self.logprobs,
            "prompt_logprobs": self.prompt_logprobs,
            **rules.read_options(),
        }
        return CheckedOptions(**options)


def _parse_biases(texts: "list[str] | tuple[()]") -> dict[int, float]:
    """The number that is added to each token's score, by its id."""
    pairs = []
    for text in texts:
        token_id, _, bias = text.partition("=")
        try:
            pairs.append((int(token_id), float(bias)))
        except ValueError:
            raise ValueError(
                f"--logit-bias takes a token id and a number, as in 42=-1.5, got {text!r:.60} "
                "(nextok tokenize shows ids)"
            ) from None
    for token, times in Counter(token for token, _ in pairs).items():
        if times > 1:
            raise ValueError(f"--logit-bias names token {token} {times} times: leave all but one out")
    return dict(pairs)


def read_file(flag: str, name: str) -> str:
    """The text of a file of at most MOST_BYTES; ValueError if it cannot be read."""
    try:
        with Path(name).open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(f"{flag} takes a file, but {name!r:.200} cannot be read: {reason}") from None
    if len(data) > MOST_BYTES:
        raise ValueError(f"{flag} takes a file of at most {MOST_BYTES >> 20} MB, and {name!r:.200} is larger")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{flag} takes a text in UTF-8, which {name!r:.200} is not") from None
