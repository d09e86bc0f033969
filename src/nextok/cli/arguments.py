"""Changes to the words of a command line before they are parsed."""

from collections.abc import Sequence

from nextok.generation.spellings import SPELLINGS

COMMANDS = ("generate", "chat", "compare", "tokenize", "models", "serve", "batch", "doctor", "bench")
PROGRAM_OPTIONS = ("-h", "--help", "--version")
"""Options that stand for a command."""
COMMON_OPTIONS = ("--debug", "--no-color")
"""Options that every command takes, also before its name."""
_FLAGS = {f"--{theirs}".replace("_", "-"): f"--{ours}".replace("_", "-") for theirs, ours in SPELLINGS.items()}


def cut_at_dashes(arguments: Sequence[str]) -> list[str]:
    """The arguments that may be options: those before `--`."""
    return list(arguments[: arguments.index("--")] if "--" in arguments else arguments)


def route(arguments: Sequence[str]) -> list[str]:
    """The arguments with their command in front, which is `generate` unless another one comes first."""
    options = cut_at_dashes(arguments)
    words = [*map(_translate, options), *arguments[len(options) :]]
    first = next((index for index, word in enumerate(words) if word not in COMMON_OPTIONS), len(words))
    if words[first:] and words[first] in (*COMMANDS, *PROGRAM_OPTIONS):
        return [words[first], *words[:first], *words[first + 1 :]]
    return ["generate", *words]


def _translate(word: str) -> str:
    """The word with our name of an option; other programs' names are understood, but the help does not show them."""
    name, equals, value = word.partition("=")
    return _FLAGS.get(name, name) + equals + value
