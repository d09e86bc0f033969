"""`nextok generate`: one prompt, its text as it comes."""

import sys
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from nextok.cli.failures import INTERRUPTED
from nextok.cli.flags import Json, ModelName, Prompt, Quiet, Stats, System, option
from nextok.cli.loaded import LoadFlags
from nextok.cli.logprobs import show_logprobs
from nextok.cli.prompts import clean, read_prompt
from nextok.cli.report import build_json, describe_output
from nextok.cli.strategy import StrategyFlags
from nextok.cli.template import TemplateFlags
from nextok.cli.terminal import StdoutWriter, format_json, print_note
from nextok.cli.text import RuleFlags, TextFlags
from nextok.errors import TemplateError

if TYPE_CHECKING:
    from nextok.generation.chat_options import TemplateOptions
    from nextok.generation.output import Output
    from nextok.generation.stream import Stream
    from nextok.lm import LM
    from nextok.strategies.base import Strategy

Begin = Annotated[
    str | None, option("--begin", metavar="TEXT", text="How the answer begins; what follows it is written.")
]
Raw = Annotated[bool, option("--raw", text="Continue the text itself, without the model's chat template.")]


@dataclass(frozen=True, slots=True)
class OutputFlags:
    """What is shown besides the text."""

    json: Json = False
    stats: Stats = False
    quiet: Quiet = False


def generate(
    strategy: StrategyFlags,
    rules: RuleFlags,
    text: TextFlags,
    how: LoadFlags,
    shown: OutputFlags,
    template: TemplateFlags,
    prompt: Prompt = None,
    model: ModelName = "smollm2",
    system: System = None,
    begin: Begin = None,
    raw: Raw = False,
) -> None:
    """Answer a prompt, or continue it with --raw. The text comes to stdout as it is made."""
    question = read_question(prompt, system, raw, begin)
    told = template.read_options()
    if raw:
        template.refuse_with_raw()
    options = text.build_options(strategy, rules)
    chosen = strategy.strategy(text.n, partial(how.load_draft, quiet=shown.quiet))
    started_at = time.perf_counter()
    lm = how.load(model, quiet=shown.quiet)
    load_seconds = time.perf_counter() - started_at
    stream = lm.start(encode_question(lm, question, system, raw, told, begin), chosen, options)
    page = StdoutWriter()
    alone = max(chosen.texts(), text.n) == 1 and not shown.json
    finished = write_stream(stream, page if alone else None)
    output = stream.output()
    silent = not finished and not any(choice.text for choice in output.choices)
    if shown.json:
        print(format_json(build_json(output, lm, chosen, load_seconds)), flush=True)
    elif alone and not silent:
        page.write(output.text[page.length :])  # what an interruption left unsaid
        page.end()
    elif not silent:
        _write_choices(page, output, chosen, headers=not shown.quiet)
    _remark(output, lm, chosen, text, shown)
    if not finished:
        raise KeyboardInterrupt if silent else typer.Exit(INTERRUPTED)


def _remark(output: "Output", lm: "LM", strategy: "Strategy", text: TextFlags, shown: OutputFlags) -> None:
    """What is said on stderr after the text."""
    if not (shown.json or shown.quiet):
        show_logprobs(output, lm)
    if shown.stats:
        print_note(describe_output(output, strategy))
    if not shown.quiet:
        remark_on_ending(output, lm, text.max_tokens)


def read_question(prompt: list[str] | None, system: str | None, raw: bool, begin: str | None = None) -> str:
    """The prompt, if it goes together with the others."""
    for flag, value in (("--system", system), ("--begin", begin)):
        if raw and value is not None:
            raise ValueError(f"--raw and {flag} contradict each other: leave one of them out")
    return read_prompt(prompt or ())


def encode_question(
    lm: "LM",
    question: str,
    system: str | None,
    raw: bool,
    options: "TemplateOptions | None" = None,
    begin: str | None = None,
) -> list[int]:
    """The prompt's token ids: as it is, or as a conversation of one question, whose answer may be begun."""
    if raw:
        return lm.tokenizer.encode(question)
    said = [("system", system), ("user", question), ("assistant", begin)]
    messages = [{"role": role, "content": clean(text)} for role, text in said if text is not None]
    given: TemplateOptions = {**(options or {}), "continue_final_message": begin is not None}
    ids = lm.chat_ids(messages, **given)
    if not ids:
        raise TemplateError(f"the chat template of {lm.name} writes nothing: --raw continues the text itself")
    return ids


def write_stream(stream: "Stream", page: StdoutWriter | None) -> bool:
    """Write the pieces as they come, if there is a page, to the end (True) or until Ctrl-C (False)."""
    try:
        for piece in stream:
            if page:
                page.write(piece.text)
    except KeyboardInterrupt:
        stream.close()
        return False
    except Exception:
        stream.close()
        if page and page.length:
            page.end()  # the error begins a line of its own
        raise
    return True


def remark_on_ending(output: "Output", lm: "LM", max_tokens: int) -> None:
    """Tell the person at the terminal that a text was cut, and what to do about it."""
    reasons = {choice.finish_reason for choice in output.choices}
    if "context" in reasons:
        print_note(f"nextok: cut at the model's context of {lm.model.context} tokens")
    elif "length" in reasons and sys.stderr.isatty():
        print_note(f"nextok: cut at {max_tokens} tokens; --max-tokens allows more")


def _write_choices(page: StdoutWriter, output: "Output", strategy: "Strategy", headers: bool) -> None:
    for number, choice in enumerate(output.choices, 1):
        if headers:
            detail = f" · seed {choice.seed}" if strategy.is_random() else ""
            detail = detail if choice.score is None else f" · score {choice.score:.4f}"
            print_note(f"── {number} of {len(output.choices)}{detail} ──")
        page.write(choice.text)
        page.end()
