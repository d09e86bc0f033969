"""`nextok chat`: a conversation that reads every message once."""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
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
from nextok.cli.turns import TurnReader

if TYPE_CHECKING:
    from nextok.generation.chat_options import ChatOptions
    from nextok.generation.output import Output
    from nextok.lm import LM
    from nextok.strategies.base import Strategy

HELP = """/help          this list
/clear         forget the conversation (not the system message)
/system TEXT   another system message, from the next answer on; without TEXT, none
/retry         another answer to the last question
/edit TEXT     another last question; without TEXT, edit it here
/tools FILE    functions that the model may call, as a JSON list; without FILE, none
/think on|off  whether a model that can think first does; without a word, as its template says
/save FILE     write the conversation to a file, as JSON
/load FILE     go on with a conversation from such a file
/seed N        draw the next answers with this seed; without N, with a new one each
/stats         what the last answer cost, and how full the context is
/quit          leave (so does Ctrl-D)
A turn of several lines stands between two lines of \"\"\".
Ctrl-C ends an answer; what was written of it stays in the conversation."""
MOST_SAVED = 16 << 20
"""Largest size of a saved conversation, in bytes."""


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
    split_options(options)  # refused before anything is loaded
    chosen = strategy.strategy(1, partial(how.load_draft, quiet=quiet))
    message = None if system is None else clean(system)
    talk = ChatSession(how.load(model, quiet=quiet), chosen, message, options, stats, quiet)
    talk.check(message, options)  # raises now rather than at the first answer
    reader = TurnReader()
    if reader.interactive and not quiet:
        print_note(f"{talk.lm.name}: say something; /help lists what else you can do")
    while (line := reader.read(talk.take_draft())) is not None:
        if line.rstrip() == "/quit":
            return
        try:
            talk.handle(line, can_edit=reader.can_edit)
        except (Exception, KeyboardInterrupt) as error:
            if not reader.interactive:
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
        self._draft = ""  # a question to be edited
        self._file: Path | None = None  # that the conversation was saved to, or came from
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        from nextok.conversation import Conversation

        self.conversation = Conversation(self.lm, self.system)

    def check(self, system: str | None, options: "ChatOptions") -> None:
        """Raise what is wrong with a system message or with what the template gets."""
        from nextok.generation.chat_options import split_options

        encode_question(self.lm, "?", system, False, split_options(options)[0])

    def take_draft(self) -> str:
        """What the next turn begins with, for the person to edit."""
        draft, self._draft = self._draft, ""
        return draft

    def handle(self, line: str, can_edit: bool = False) -> None:
        """Run a command, or answer; raises KeyboardInterrupt after Ctrl-C, once the cut answer is kept."""
        if not line.startswith("/"):
            if line.strip():
                self._answer(line.strip())
            return
        command, _, rest = line.strip().partition(" ")
        match command, rest.strip():
            case "/help", "":
                print_note(HELP)
            case "/clear", "":
                self.clear()
                self._remark("forgotten")
            case "/system", text:
                self._change_system(text or None)
            case "/retry", "":
                self._answer(self.conversation.drop_turn())
            case "/edit", "" if can_edit:
                self._draft = self.conversation.drop_turn()
            case "/edit", text if text:
                self.conversation.drop_turn()
                self._answer(text)
            case "/think", "on" | "off" | "" as word:
                self._change_thinking(word)
            case "/tools", name:
                self._change_tools(name)
            case "/save", name if name:
                self._save(Path(name))
            case "/load", name if name:
                self._load(Path(name))
            case "/seed", "":
                self._reseed(None, "a new seed for each answer")
            case "/seed", number if number.removeprefix("-").isdecimal():
                self._reseed(int(number), f"seed {int(number)}")
            case "/stats", "":
                print_note(self._describe_costs())
            case _:
                raise ValueError(f"{line.strip()!r} is no command; see /help (to say it, put a space in front)")

    def _change_system(self, text: str | None) -> None:
        self.check(text, self.options)  # refused now rather than at the next answer
        self.system = text
        self.conversation.change_system(text)
        self._remark("no system message" if text is None else "another system message")

    def _change_thinking(self, word: str) -> None:
        others = {**self.options.get("chat_template_kwargs", {})}
        others.pop("enable_thinking", None)
        chosen = {"enable_thinking": word == "on"} if word else {}
        self.options["chat_template_kwargs"] = others | chosen
        known = "enable_thinking" in (self.lm.tokenizer.chat_template or "")
        self._remark(f"thinking {word or 'as the template says'}" if known else "this model's template has no switch")

    def _change_tools(self, name: str) -> None:
        options: ChatOptions = {
            **self.options,
            "tools": TemplateFlags(tools=name).read_options()["tools"] if name else None,
        }
        self.check(self.system, options)
        self.options = options
        self._remark(f"{len(options['tools'] or ())} tools")

    def _save(self, file: Path) -> None:
        if file.exists() and file != self._file:
            raise ValueError(f"{file} exists and is not this conversation: choose another name")
        text = json.dumps(self.conversation.messages, ensure_ascii=False, indent=1)
        file.write_text(text + "\n", encoding="utf-8")
        self._file = file
        self._remark(f"{len(self.conversation.messages)} messages in {file}")

    def _load(self, file: Path) -> None:
        with file.open("rb") as opened:
            data = opened.read(MOST_SAVED + 1)
        if len(data) > MOST_SAVED:
            raise ValueError(f"{file} has more than {MOST_SAVED >> 20} MB, which no conversation needs")
        try:
            messages = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{file} holds no conversation, a JSON list of messages: {error}") from None
        if not isinstance(messages, list):
            raise ValueError(f"{file} holds no conversation: it must be a JSON list of messages")
        self.lm.chat_ids(messages)  # refused now rather than at the next answer
        self.clear()
        self.conversation.messages, self._file = messages, file
        first = messages[0] if messages else {}
        self.system = first["content"] if first.get("role") == "system" else None
        self._remark(f"{len(messages)} messages from {file}")

    def _reseed(self, seed: int | None, text: str) -> None:
        self.options["seed"] = seed
        self._remark(
            text if self.strategy.is_random() else f"{self.strategy!r} draws nothing: a seed changes nothing"
        )

    def _answer(self, text: str) -> None:
        from nextok.errors import LimitError

        try:
            stream = self.conversation.ask(text, self.strategy, **self.options)
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
