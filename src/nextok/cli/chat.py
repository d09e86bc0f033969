"""`nextok chat`: a conversation that reads every message once."""

import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from nextok.cli.failures import explain
from nextok.cli.flags import MaxTokens, ModelName, Quiet, Stats, Stop, System
from nextok.cli.generate import encode_question, remark_on_ending, write_stream
from nextok.cli.loaded import LoadFlags
from nextok.cli.prompts import clean
from nextok.cli.report import describe_output
from nextok.cli.strategy import StrategyFlags
from nextok.cli.template import TemplateFlags
from nextok.cli.terminal import StdoutWriter, print_note
from nextok.cli.text import RuleFlags

if TYPE_CHECKING:
    from nextok.generation.chat_options import ChatOptions
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
    template: TemplateFlags,
    model: ModelName = "smollm2",
    system: System = None,
    max_tokens: MaxTokens = 512,
    stop: Stop = None,
    stats: Stats = False,
    quiet: Quiet = False,
) -> None:
    """Talk with a model. From a pipe, each line is a turn."""
    from nextok.generation.chat_options import split_options

    options: ChatOptions = {
        "max_tokens": max_tokens,
        "stop": tuple(stop or ()),
        "seed": strategy.seed,
        **rules.read_options(),
        **template.read_options(),
    }
    prompt, _ = split_options(options)  # refused before anything is loaded
    chosen = strategy.strategy(1, partial(how.load_draft, quiet=quiet))
    message = None if system is None else clean(system)
    talk = ChatSession(how.load(model, quiet=quiet), chosen, message, options, stats, quiet)
    encode_question(talk.lm, "?", message, False, prompt)  # raises now rather than at the first answer
    interactive = sys.stdin is not None and sys.stdin.isatty()
    if interactive and not quiet:
        print_note(f"{talk.lm.name}: say something; /help lists what else you can do")
    while (line := _read_turn(interactive)) is not None:
        if line.rstrip() == "/quit":
            return
        try:
            talk.handle(line)
        except (Exception, KeyboardInterrupt) as error:
            if not interactive:
                raise
            print_note(f"nextok: {explain(error)[1]}")


@dataclass
class ChatSession:
    """One conversation and how its answers are written."""

    lm: "LM"
    strategy: "Strategy"
    system: str | None
    options: "ChatOptions"
    stats: bool
    quiet: bool

    def __post_init__(self) -> None:
        self.last: Output | None = None
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        from nextok.conversation import Conversation

        self.conversation = Conversation(self.lm, self.system)

    def handle(self, line: str) -> None:
        """Run a command, or answer; raises KeyboardInterrupt after Ctrl-C, once the cut answer is kept."""
        if not line.startswith("/"):
            if line.strip():
                self._answer(line.strip())
            return
        match line.split():
            case ["/help"]:
                print_note(HELP)
            case ["/clear"]:
                self.clear()
                self._remark("forgotten")
            case ["/seed"]:
                self._reseed(None, "a new seed for each answer")
            case ["/seed", number] if number.removeprefix("-").isdecimal():
                self._reseed(int(number), f"seed {int(number)}")
            case ["/stats"]:
                print_note(self._describe_costs())
            case _:
                raise ValueError(f"{line.strip()!r} is no command; see /help (to say it, put a space in front)")

    def _reseed(self, seed: int | None, text: str) -> None:
        self.options["seed"] = seed
        self._remark(
            text if self.strategy.is_random() else f"{self.strategy!r} draws nothing: a seed changes nothing"
        )

    def _answer(self, text: str) -> None:
        from nextok.errors import LimitError

        ask = self.conversation.ask
        try:
            stream = ask(text, self.strategy, **self.options)
        except LimitError as error:
            raise LimitError(f"the conversation is full ({error}); /clear begins a new one") from None
        page = StdoutWriter()
        finished = write_stream(stream, page)
        self.last = output = stream.output()
        page.write(output.text[page.length :])
        if output.text or finished:
            page.end()
        if not finished:
            self.conversation.add_turn(text, output.text)
        if self.stats:
            print_note(describe_output(output, self.strategy))
        if not self.quiet:
            remark_on_ending(output, self.lm, self.options["max_tokens"])
        if not finished:
            raise KeyboardInterrupt

    def _describe_costs(self) -> str:
        if self.last is None:
            return "nothing has been said yet"
        used = self.last.stats.prompt_tokens + self.last.stats.generated_tokens
        return (
            f"{describe_output(self.last, self.strategy)}\n{used} of {self.lm.model.context} tokens of context in use"
        )

    def _remark(self, text: str) -> None:
        if not self.quiet:
            print_note(text)


def _read_turn(interactive: bool) -> str | None:
    """The user's next line; None at the end. In a terminal there is a prompt, and Ctrl-C only drops the line."""
    while True:
        try:
            if interactive and sys.stdout.isatty():
                import readline  # noqa: F401  # input() edits lines with it

                return input("> ")
            if interactive:
                print("> ", end="", file=sys.stderr, flush=True)
            return _read_line()
        except EOFError:
            if interactive:
                print_note("")
            return None
        except KeyboardInterrupt:
            if not interactive:
                raise
            print_note("\n(Ctrl-D or /quit leaves)")


def _read_line() -> str:
    line = sys.stdin.readline() if sys.stdin is not None else ""
    if not line:
        raise EOFError
    return line.rstrip("\r\n")
