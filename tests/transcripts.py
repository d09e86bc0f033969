"""Console blocks of the documentation: their commands run in this process, and print what stands below them.

A line that begins with "$ " is a command, which goes on as long as a quotation mark is open; the lines up to the next
command are what it writes to both streams. Understood are `nextok ...`, `echo TEXT | nextok ...` and `echo $?`. A
command without `echo $?` after it must succeed. A line "..." stands for any lines that are left out. `DIFFERS` says
what may differ from run to run and from machine to machine.
"""

import io
import re
import shlex
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from unittest.mock import patch

import typer

from nextok.cli import main
from nextok.cli.app import _build_application
from nextok.cli.arguments import route
from tutorial import same

BLOCK = re.compile(r"^```console([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NOT_RUN = "(not run by the tests)"
"""What stands after `console` where a block needs a file, a network, minutes or a terminal."""
DIFFERS = [
    (re.compile(r"\d[\d.,]*(?=(?: (?:s|ms|tokens/s|steps/s|kB|MB|GB|GB/s|passes)|%)(?!\w))"), "#"),
    (re.compile(r"(?<=drafted )\d+|(?<=accepted )\d+|\d[\d.]*(?= a pass)|(?<=at once )[\d×:· ]+\b×?"), "#"),
    (re.compile(r"\b\d+\.\d+\.\d+\b"), "#"),
    (re.compile(r"/[^\s']*/(?=[^/\s']+\.gguf)"), ""),
]
"""Times, speeds, sizes, shares, numbers of passes, what a draft was worth, versions, and the folder of a file."""
LEFT_OUT = "..."


@dataclass(frozen=True)
class Step:
    """One command and the lines below it."""

    words: tuple[str, ...]
    lines: tuple[str, ...]


def blocks(document):
    """(the steps of a console block, whether it is run) in order."""
    for block in BLOCK.finditer(document):
        assert block[1].strip() in ("", NOT_RUN), block[1]
        yield list(_steps(block[2].splitlines())), not block[1].strip()


def _steps(lines):
    left = list(lines)
    while left:
        command = left.pop(0).removeprefix("$ ")
        while (words := _words(command)) is None:
            command += "\n" + left.pop(0)
        end = next((number for number, line in enumerate(left) if line.startswith("$ ")), len(left))
        yield Step(words, tuple(left[:end]))
        del left[:end]


def _words(command):
    try:
        return tuple(shlex.split(command, comments=True))
    except ValueError:  # a quotation mark is open
        return None


def failures(steps):
    """Run these commands in turn; for each that does not do what stands below it, what it did."""
    code, found = 0, []
    for number, step in enumerate(steps):
        if step.words == ("echo", "$?"):
            printed = f"{code}\n"
        else:
            printed, code = ran(step.words)
            asked = [each.words for each in steps[number + 1 : number + 2]] == [("echo", "$?")]
            if code and not asked:
                printed += f"(exit code {code})\n"
        if not alike(step.lines, printed.splitlines()):
            found.append(f"{shlex.join(step.words)}\nprinted\n{printed}\nand not\n" + "\n".join(step.lines))
    return found


def ran(words):
    """What a command line writes, and its exit code."""
    piped = b""
    if words[0] == "echo":
        assert words[2] == "|", words
        piped, words = f"{words[1]}\n".encode(), words[3:]
    assert words[0] == "nextok", words
    stdin = io.TextIOWrapper(io.BytesIO(piped))
    with patch("sys.stdin", stdin), redirect_stdout(io.StringIO()) as out, redirect_stderr(out):
        code = main(words[1:])
    return out.getvalue(), code


def alike(written, printed):
    """Whether the lines are equal but for what differs from run to run, and for those that are left out."""
    if not written:
        return not printed
    if written[0] == LEFT_OUT:
        return any(alike(written[1:], printed[start:]) for start in range(len(printed) + 1))
    return bool(printed) and _alike_line(written[0], printed[0]) and alike(written[1:], printed[1:])


def _alike_line(written, printed):
    for pattern, mark in DIFFERS:
        written, printed = pattern.sub(mark, written), pattern.sub(mark, printed)
    return same(written, printed)


def parse(words):
    """Check a `nextok` command line without running it; typer's error if an option is unknown or its value wrong."""
    command, left = typer.main.get_command(_build_application()), route(words[1:])
    while hasattr(command, "commands"):
        command, left = command.commands[left[0]], left[1:]
    command.make_context(command.name, left)
