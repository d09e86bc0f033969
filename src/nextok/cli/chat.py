"""`nextok chat`: a conversation that reads every message once."""

import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from nextok.cli.failures import explained
from nextok.cli.flags import MaxTokens, ModelName, Quiet, Stats, Stop, System
from nextok.cli.generate import followed, read, remark_on_ending
from nextok.cli.loaded import LoadFlags
from nextok.cli.prompts import clean
from nextok.cli.report import in_words
from nextok.cli.strategy import StrategyFlags
from nextok.cli.terminal import Page, note
from nextok.cli.text import RuleFlags

if TYPE_CHECKING:
    from nextok.generation.options import Wishes
    from nextok.generation.output import Output
    from nextok.lm import LM
    from nextok.strategies.base import Strategy

HELP = """/help     this list
/clear    forget the conversation (not the system message)
/seed N   draw the next answers with this seed; without N, with a new one each
/stats    what the last answer cost, and how full the context is
/quit     leave (so does Ctrl-D)
Ctrl-C ends an answer; what was written of it stays in the conversation."""


def chat(
    strategy: StrategyFlags,
    rules: RuleFlags,
    how: LoadFlags,
    model: ModelName = "smollm2",
    system: System = None,
    max_tokens: MaxTokens = 512,
    stop: Stop = None,
    stats: Stats = False,
    quiet: Quiet = False,
) -> None:
    """Talk with a model. From a pipe, each line is a turn."""
    from nextok.generation.options import Options

    wishes: Wishes = {
        "max_tokens": max_tokens,
        "stop": tuple(stop or ()),
        "seed": strategy.seed,
        **rules.wishes(),
    }
    Options(**wishes)  # refused before anything is loaded
    chosen = strategy.strategy(1, partial(how.load_draft, quiet=quiet))
    told = None if system is None else clean(system)
    talk = Talk(how.load(model, quiet=quiet), chosen, told, wishes, stats, quiet)
    read(talk.lm, "?", told, raw=False)  # refused now, not later
    person = sys.stdin is not None and sys.stdin.isatty()
    if person and not quiet:
        note(f"{talk.lm.name}: say something; /help lists what else you can do")
    while (line := _line(person)) is not None:
        if line.rstrip() == "/quit":
            return
        try:
            talk.hear(line)
        except (Exception, KeyboardInterrupt) as error:
            if not person:
                raise
            note(f"nextok: {explained(error)[1]}")


@dataclass
class Talk:
    """One conversation and how its answers are written."""

    lm: "LM"
    strategy: "Strategy"
    system: str | None
    wishes: "Wishes"
    stats: bool
    quiet: bool

    def __post_init__(self) -> None:
        self.last: Output | None = None
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        from nextok.conversation import Conversation

        self.conversation = Conversation(self.lm, self.system)

    def hear(self, line: str) -> None:
        """Obey a command, or answer; KeyboardInterrupt once a cut answer has been kept."""
        if not line.startswith("/"):
            if line.strip():
                self._answer(line.strip())
            return
        match line.split():
            case ["/help"]:
                note(HELP)
            case ["/clear"]:
                self.clear()
                self._remark("forgotten")
            case ["/seed"]:
                self._reseed(None, "a new seed for each answer")
            case ["/seed", number] if number.removeprefix("-").isdecimal():
                self._reseed(int(number), f"seed {int(number)}")
            case ["/stats"]:
                note(self._costs())
            case _:
                raise ValueError(f"{line.strip()!r} is no command; see /help (to say it, put a space in front)")

    def _reseed(self, seed: int | None, text: str) -> None:
        self.wishes["seed"] = seed
        self._remark(
            text if self.strategy.is_random() else f"{self.strategy!r} draws nothing: a seed changes nothing"
        )

    def _answer(self, text: str) -> None:
        from nextok.errors import LimitError

        ask = self.conversation.ask
        try:
            stream = ask(text, self.strategy, **self.wishes)
        except LimitError as error:
            raise LimitError(f"the conversation is full ({error}); /clear begins a new one") from None
        page = Page()
        finished = followed(stream, page)
        self.last = output = stream.output()
        page.write(output.text[page.length :])
        if output.text or finished:
            page.end()
        self.conversation.keep(text, output.text)
        if self.stats:
            note(in_words(output, self.strategy))
        if not self.quiet:
            remark_on_ending(output, self.lm, self.wishes["max_tokens"])
        if not finished:
            raise KeyboardInterrupt

    def _costs(self) -> str:
        if self.last is None:
            return "nothing has been said yet"
        used = self.last.stats.prompt_tokens + self.last.stats.generated_tokens
        return f"{in_words(self.last, self.strategy)}\n{used} of {self.lm.model.context} tokens of context in use"

    def _remark(self, text: str) -> None:
        if not self.quiet:
            note(text)


def _line(person: bool) -> str | None:
    """What is said next; None at the end. A person gets a prompt, and Ctrl-C only drops the line."""
    while True:
        try:
            if person and sys.stdout.isatty():
                import readline  # noqa: F401  # input() edits lines with it

                return input("> ")
            if person:
                print("> ", end="", file=sys.stderr, flush=True)
            return _read_line()
        except EOFError:
            if person:
                note("")
            return None
        except KeyboardInterrupt:
            if not person:
                raise
            note("\n(Ctrl-D or /quit leaves)")


def _read_line() -> str:
    line = sys.stdin.readline() if sys.stdin is not None else ""
    if not line:
        raise EOFError
    return line.rstrip("\r\n")
