"""`nextok tokenize`: the tokens of a text, and the text of tokens."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from nextok.cli.flags import Json, ModelName, TokenizerName, option
from nextok.cli.prompts import read_prompt
from nextok.cli.terminal import StdoutWriter, escape_controls, format_json

if TYPE_CHECKING:
    from nextok.text.tokenizer import Tokenizer

Texts = Annotated[
    list[str] | None,
    typer.Argument(metavar="TEXT", help="The text, or ids with --decode; without it, it is read from a pipe."),
]
OnlyIds = Annotated[bool, option("--ids", text="Only the ids, on one line.")]
Decode = Annotated[bool, option("--decode", text="The other way: from ids to their text.")]
NoSpecial = Annotated[bool, option("--no-special", text="Control tokens are only text, and none is added or shown.")]
WIDEST = 32
"""Largest width of a column, in characters; a longer cell moves the rest of its line to the right."""


def tokenize(
    text: Texts = None,
    model: ModelName = "smollm2",
    other: TokenizerName = None,
    ids: OnlyIds = False,
    decode: Decode = False,
    no_special: NoSpecial = False,
    json: Json = False,
) -> None:
    """Show the tokens of a text, or with --decode the text of token ids."""
    import nextok

    if ids and decode:
        raise ValueError("--ids and --decode contradict each other: leave one of them out")
    words = [" ".join(text)] if text and decode else text or ()
    given = read_prompt(words, 'as in nextok tokenize "Hello"')
    wanted = _parse_ids(given) if decode else []
    tokenizer = nextok.load_tokenizer(other or model)
    if decode:
        given = tokenizer.decode(wanted, special=not no_special)
    else:
        wanted = tokenizer.encode(given, special=not no_special)
    if json:
        tokens = [_describe_token(tokenizer, token) for token in wanted]
        print(format_json({"text": given, "token_ids": wanted, "tokens": tokens}))
    elif decode:
        page = StdoutWriter()
        page.write(given)
        page.end()
    elif ids:
        print(*wanted)
    else:
        _show(tokenizer, wanted, given)


def _parse_ids(text: str) -> list[int]:
    try:
        return [int(word) for word in text.replace(",", " ").replace("[", " ").replace("]", " ").split()]
    except ValueError:
        raise ValueError(
            f"--decode takes token ids, as in nextok tokenize --decode 1 2 3, got {text!r:.60}"
        ) from None


def _describe_token(tokenizer: "Tokenizer", token: int) -> dict[str, Any]:
    return {"id": token, "name": tokenizer.spell(token), "bytes": tokenizer.token_bytes[token].hex(" ")}


def _show(tokenizer: "Tokenizer", ids: list[int], text: str) -> None:
    """Print plain lines, as a table of rich takes half a millisecond per token."""
    from rich.cells import cell_len

    rows = [("token", "bytes", "text"), *(_build_row(tokenizer, token) for token in ids)]
    widths = [min(WIDEST, max(map(cell_len, column))) for column in zip(*rows)]
    number_width = max(len(str(each)) for each in ("id", *ids))
    for number, row in zip(["id", *ids], rows):
        padded = (cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths))
        print(f"{number:>{number_width}}  {'  '.join(padded)}".rstrip())
    print(f"{len(ids)} tokens, {len(text)} characters, {len(text.encode())} bytes")


def _build_row(tokenizer: "Tokenizer", token: int) -> tuple[str, str, str]:
    """A token's name, its bytes, and their text, which is empty for a part of a character."""
    data = tokenizer.token_bytes[token]
    try:
        alone = repr(data.decode()) if data else ""
    except UnicodeDecodeError:
        alone = ""
    return escape_controls(tokenizer.spell(token)), data.hex(" "), alone
