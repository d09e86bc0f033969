"""What is done to the words of a command line before they are parsed."""

from collections.abc import Sequence

COMMANDS = ("generate", "chat", "compare", "tokenize", "models", "doctor", "bench")
OF_THE_PROGRAM = ("-h", "--help", "--version")
EVERYWHERE = ("--debug", "--no-color")

# How other programs spell our options; understood, but not shown in the help.
SPELLINGS = {
    "--temp": "--temperature",
    "--n-predict": "--max-tokens",
    "--predict": "--max-tokens",
    "--max-new-tokens": "--max-tokens",
    "--system-prompt": "--system",
    "--reverse-prompt": "--stop",
}


def list_options(arguments: Sequence[str]) -> list[str]:
    """The arguments that may be options: those before `--`."""
    return list(arguments[: arguments.index("--")] if "--" in arguments else arguments)


def route(arguments: Sequence[str]) -> list[str]:
    """The arguments with their command in front, which is `generate` unless another one comes first."""
    options = list_options(arguments)
    words = [*map(_translate, options), *arguments[len(options) :]]
    first = next((index for index, word in enumerate(words) if word not in EVERYWHERE), len(words))
    if words[first:] and words[first] in (*COMMANDS, *OF_THE_PROGRAM):
        return [words[first], *words[:first], *words[first + 1 :]]
    return ["generate", *words]


def _translate(word: str) -> str:
    name, equals, value = word.partition("=")
    return SPELLINGS.get(name, name) + equals + value
