"""What is done to the words of a command line before they are parsed."""

from collections.abc import Sequence

from nextok.generation.spellings import SPELLINGS

COMMANDS = ("generate", "chat", "compare", "tokenize", "models", "doctor", "bench")
OF_THE_PROGRAM = ("-h", "--help", "--version")
EVERYWHERE = ("--debug", "--no-color")
_FLAGS = {f"--{theirs}".replace("_", "-"): f"--{ours}".replace("_", "-") for theirs, ours in SPELLINGS.items()}


def before_dashes(arguments: Sequence[str]) -> list[str]:
    """The arguments that may be options: those before `--`."""
    return list(arguments[: arguments.index("--")] if "--" in arguments else arguments)


def routed(arguments: Sequence[str]) -> list[str]:
    """The arguments with their command in front, which is `generate` unless another one comes first."""
    options = before_dashes(arguments)
    words = [*map(_spelled, options), *arguments[len(options) :]]
    first = next((index for index, word in enumerate(words) if word not in EVERYWHERE), len(words))
    if words[first:] and words[first] in (*COMMANDS, *OF_THE_PROGRAM):
        return [words[first], *words[:first], *words[first + 1 :]]
    return ["generate", *words]


def _spelled(word: str) -> str:
    """The word with our name of an option; other programs' names are understood, but the help does not show them."""
    name, equals, value = word.partition("=")
    return _FLAGS.get(name, name) + equals + value
