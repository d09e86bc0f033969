"""`nextok compare`: one prompt, every strategy."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from nextok.cli.flags import (
    DraftName,
    Json,
    MaxTokens,
    ModelName,
    Prompt,
    Quiet,
    Seed,
    System,
)
from nextok.cli.generate import Raw, encode_question, read_question
from nextok.cli.loaded import LoadFlags
from nextok.cli.report import build_choice_json, build_cost_json, build_timings_json
from nextok.cli.strategy import draft_named
from nextok.cli.terminal import escape_controls, format_json, make_console, show_activity

if TYPE_CHECKING:
    from rich.text import Text

    from nextok.generation.options import CheckedOptions
    from nextok.generation.output import Output, Stats
    from nextok.lm import LM
    from nextok.strategies.base import Strategy


def compare(
    how: LoadFlags,
    prompt: Prompt = None,
    model: ModelName = "smollm2",
    draft: DraftName = None,
    max_tokens: MaxTokens = 64,
    seed: Seed = 0,
    system: System = None,
    raw: Raw = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Answer a prompt by each strategy in turn, on one engine, and show what each wrote and what it cost."""
    from nextok.generation.options import CheckedOptions

    question = read_question(prompt, system, raw)
    options = CheckedOptions(max_tokens=max_tokens, seed=seed)
    lm = how.load(model, quiet=quiet)
    strategies = _list_strategies(draft, partial(how.load_draft, quiet=quiet))
    outputs = _write_outputs(lm, encode_question(lm, question, system, raw), strategies, options, quiet)
    if json:
        rows = [
            {"strategy": repr(s), **_collect_facts(output, s, outputs)}
            for s, output in zip(strategies.values(), outputs)
        ]
        print(format_json({"prompt": question, "model": lm.name, "origin": lm.origin, "results": rows}))
    elif outputs:
        _show(list(strategies), outputs)
    if len(outputs) < len(strategies):
        raise KeyboardInterrupt


def _list_strategies(draft: str | None, load: "Callable[[str], LM]") -> "dict[str, Strategy]":
    """The strategies by their names in the table."""
    import nextok as nt

    strategies: dict[str, Strategy] = {
        "greedy": nt.Greedy(),
        "sampling\nT 0.8, top-k 50": nt.Sample(temperature=0.8, top_k=50),
        "beam search\nwidth 4": nt.Beam(4),
        "speculative\nprompt lookup": nt.Speculate(nt.PromptLookup()),
    }
    if draft not in (None, "prompt-lookup"):
        strategies[f"speculative\n{draft}"] = nt.Speculate(draft_named(str(draft), 10, load))
    return strategies


def _write_outputs(
    lm: "LM", ids: list[int], strategies: "dict[str, Strategy]", options: "CheckedOptions", quiet: bool
) -> "list[Output]":
    """One after another, each with the machine to itself and its prompt unread; those done before Ctrl-C."""
    from nextok.generation.options import CheckedOptions
    from nextok.strategies.sample import Greedy

    lm.start(ids, Greedy(), CheckedOptions(max_tokens=1)).wait()
    outputs = []
    for name, strategy in strategies.items():
        try:
            with show_activity(name.replace("\n", ", "), quiet=quiet):
                output = lm.start(ids, strategy, options).wait()
        except KeyboardInterrupt:
            break
        if output.error:
            raise output.error
        outputs.append(output)
    return outputs


def _collect_facts(output: "Output", strategy: "Strategy", outputs: "list[Output]") -> dict[str, Any]:
    return {
        **build_choice_json(output.choices[0], strategy),
        "same_as_greedy": output.tokens == outputs[0].tokens,
        "usage": {
            "prompt_tokens": output.stats.prompt_tokens,
            "generated_tokens": output.stats.generated_tokens,
        },
        **build_cost_json(output.stats),
        "timings": build_timings_json(output.stats),
    }


def _show(names: list[str], outputs: "list[Output]") -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("strategy", show_lines=True, expand=True)
    table.add_column("text", ratio=1)
    table.add_column("cost", justify="right", no_wrap=True)
    for index, (name, output) in enumerate(zip(names, outputs)):
        title, _, detail = escape_controls(name).partition("\n")
        label = Text.assemble((title, "bold"), "\n" + detail)
        if title == "sampling":
            label.append(f"\nseed {output.seed}")
        same = index > 0 and output.tokens == outputs[0].tokens
        text = Text("= greedy", "green") if same else _format_text(output)
        table.add_row(label, text, _format_cost(output.stats))
    make_console().print(table)


def _format_text(output: "Output") -> "Text":
    from rich.text import Text

    return Text(escape_controls(output.text) + ("" if output.finish_reason == "stop" else " …"))


def _format_cost(stats: "Stats") -> str:
    lines = [f"{stats.seconds:.2f} s", f"{stats.tokens_per_second:.1f} tokens/s"]
    lines += [f"{stats.generated_tokens} tokens", f"{stats.passes} passes"]
    if stats.verifications:
        lines.append(f"{stats.accepted} of {stats.drafted} drafted")
    return "\n".join(lines)
