"""The application with all commands."""

from collections.abc import Sequence
from typing import Annotated

import typer

from nextok.cli.batch import batch
from nextok.cli.bench import bench
from nextok.cli.chat import chat
from nextok.cli.command import build_command
from nextok.cli.compare import compare
from nextok.cli.doctor import doctor
from nextok.cli.failures import EXIT_CODES
from nextok.cli.generate import generate
from nextok.cli.models import build_group
from nextok.cli.serve import serve
from nextok.cli.tokenize import tokenize

_SETTINGS = {"help_option_names": ["-h", "--help"]}


def run(arguments: Sequence[str]) -> int:
    """Run a command line whose first word is a command; raises the exception of any failure."""
    group = typer.main.get_command(_build_application())
    with group.make_context("nextok", list(arguments)) as context:
        group.invoke(context)
    return 0


def _build_application() -> typer.Typer:
    app = typer.Typer(add_completion=False, context_settings=_SETTINGS, epilog=EXIT_CODES)
    app.callback(epilog=EXIT_CODES)(_describe_program)
    for function in (generate, chat, compare, tokenize, serve, batch, doctor, bench):
        app.command(function.__name__, context_settings=_SETTINGS, epilog=EXIT_CODES)(build_command(function))
    app.add_typer(build_group(_SETTINGS), name="models")
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        from nextok import __version__

        print(f"nextok {__version__}")
        raise typer.Exit()


def _describe_program(
    version: Annotated[
        bool,
        typer.Option(
            "--version", metavar=" ", help="Show the version and exit.", is_eager=True, callback=_show_version
        ),
    ] = False,
) -> None:
    """Text from language models, token by token: greedy, sampling, beam search and speculative decoding.

    nextok "Why is the sky blue?" is short for nextok generate "Why is the sky blue?"
    """
