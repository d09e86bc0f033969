"""Log-probabilities in a table on stderr."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nextok.cli.terminal import escape_controls, make_console

if TYPE_CHECKING:
    from nextok.generation.output import Output
    from nextok.lm import LM

Top = Sequence[tuple[int, float]]
TableRow = tuple[int, Sequence[float | None], Top]
"""A token, its log-probabilities in the order of the columns, and the best tokens at its position."""


def show_logprobs(output: "Output", lm: "LM") -> None:
    """Print the log-probabilities of the prompt's tokens and of the first text's, where there are any.

    Processed ones have a column only if they differ somewhere; then the alternatives are the processed ones too.
    """
    prompt, chosen = output.prompt_logprobs, output.logprobs or []
    if prompt is not None:
        lines = zip(prompt.tokens, prompt.logprobs, prompt.top)
        _show(lm, ["prompt", "log-probability"], [(token, [raw], top) for token, raw, top in lines])
    if not chosen:
        return
    if all((each.logprob, each.top) == (each.processed, each.processed_top) for each in chosen):
        _show(lm, ["token", "log-probability"], [(each.token, [each.logprob], each.top) for each in chosen])
    else:
        both = [(each.token, [each.logprob, each.processed], each.processed_top) for each in chosen]
        _show(lm, ["token", "log-probability", "processed"], both)


def _show(lm: "LM", titles: list[str], rows: Sequence[TableRow]) -> None:
    from rich.table import Table
    from rich.text import Text

    name, alternatives = lm.tokenizer.spell, any(top for _, _, top in rows)
    table = Table(titles[0], box=None, pad_edge=False)
    for title in titles[1:]:
        table.add_column(title, justify="right")
    if alternatives:
        table.add_column("the most probable " + ("when processed" if len(titles) > 2 else "tokens there"))
    for token, logprobs, top in rows:
        best = "  ".join(f"{name(other)} {logprob:.3f}" for other, logprob in top)
        figures = ["" if logprob is None else f"{logprob:.4f}" for logprob in logprobs]
        table.add_row(
            Text(escape_controls(name(token))), *figures, *([Text(escape_controls(best))] if alternatives else [])
        )
    make_console(sys.stderr).print(table)
