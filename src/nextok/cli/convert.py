"""`nextok models convert`: a model in the files of other programs."""

from typing import Annotated

import typer

from nextok.cli.bar import show_progress
from nextok.cli.flags import Quiet, TokenizerName, option
from nextok.cli.terminal import escape_controls, format_size, print_note, show_activity

In = Annotated[str, typer.Argument(metavar="IN", help="A known name, a path or a hub id (owner/name).")]
Out = Annotated[str, typer.Argument(metavar="OUT", help="A GGUF file (its name ends in .gguf), or a folder.")]
To = Annotated[
    str | None,
    option("--to", metavar="KIND", text="f32, f16, q8_0 or q4_1; GGUF has f16 by default, a folder f32."),
]
Force = Annotated[bool, option("--force", text="Overwrite what is there.")]


def convert(
    model: In, out: Out, to: To = None, tokenizer: TokenizerName = None, force: Force = False, quiet: Quiet = False
) -> None:
    """Write a model as a GGUF file, or as a folder for transformers; print where it lies."""
    from nextok.tools.convert import write_model

    with show_activity("converting", quiet=quiet), show_progress(quiet=quiet) as report:
        done = write_model(model, out, to=to, tokenizer=tokenizer, force=force, progress=report)
    if not quiet:
        remark = f"; {done.note}" if done.note else ""
        print_note(f"{done.name}: {done.tensors} tensors as {done.kind}, {format_size(done.bytes)}{remark}")
    print(escape_controls(str(done.path)))
