"""`nextok models`: the models on this machine, and their contents."""

import math
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any

import typer

from nextok.cli.command import build_command
from nextok.cli.convert import convert
from nextok.cli.failures import EXIT_CODES
from nextok.cli.flags import Json, TokenizerName
from nextok.cli.terminal import escape_controls, format_json, format_size, make_console

Name = Annotated[str, typer.Argument(metavar="NAME", help="A known name, a path or a hub id (owner/name).")]


def build_group(settings: dict[str, Any]) -> typer.Typer:
    """The group of commands about models; without a command it lists them."""
    app = typer.Typer(add_completion=False, context_settings=settings, invoke_without_command=True, epilog=EXIT_CODES)
    app.callback(help="List, fetch, check, describe, convert and remove models.")(_list_by_default)
    functions: dict[str, Callable[..., None]] = {
        "list": list_models,
        "pull": pull,
        "info": describe,
        "verify": verify,
    }
    functions["convert"] = convert
    for name, function in {**functions, "rm": remove}.items():
        app.command(name, context_settings=settings, epilog=EXIT_CODES)(build_command(function))
    return app


def _list_by_default(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        list_models()


def list_models(json: Json = False) -> None:
    """List the known models and those in the caches."""
    from nextok import hub

    entries = hub.list_models()
    if json:
        rows = [{"name": e.name, "bytes": e.size, "path": str(e.path) if e.path else None} for e in entries]
        print(format_json({"models": rows, "cache": str(hub.get_cache_folder())}))
        return
    from rich.table import Table
    from rich.text import Text

    table = Table("name", box=None, pad_edge=False)
    table.add_column("size", justify="right")
    table.add_column("path", overflow="fold")
    for entry in entries:
        place = (
            Text(escape_controls(str(entry.path)))
            if entry.path
            else Text(f"not fetched: nextok models pull {entry.name}")
        )
        table.add_row(Text(escape_controls(entry.name)), format_size(entry.size) if entry.size else "-", place)
    make_console().print(table)


def pull(name: Name) -> None:
    """Fetch a model, or newer files of one from the hub; print where it lies."""
    from nextok import hub
    from nextok.cli.bar import show_progress

    with show_progress() as report:
        source = hub.pull(name, report=report)
    print(escape_controls(str(source.path)))


def describe(name: Name, tokenizer: TokenizerName = None, json: Json = False) -> None:
    """Describe a model: its shape, its weights, its tokens and where it came from."""
    facts = _collect_facts(name, tokenizer)
    if json:
        print(format_json(facts))
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for key, value in facts.items():
        table.add_row(key.replace("_", " "), Text(escape_controls(_format_value(key, value))))
    make_console().print(table)


def verify(name: Name) -> None:
    """Hash a fetched model in full and compare with its known checksum."""
    from nextok import hub

    source = hub.verify(name)
    print(escape_controls(f"{source.name} is whole: {source.path}"))


def remove(name: Name) -> None:
    """Delete what was fetched for a model; a file of your own is never touched."""
    from nextok import hub

    freed = hub.remove(name)
    print(escape_controls(f"{name}: {format_size(freed)} freed" if freed else f"{name}: nothing was fetched"))


def _collect_facts(name: str, other: str | None) -> dict[str, Any]:
    from nextok import hub, load_tokenizer
    from nextok.cli.bar import show_progress
    from nextok.formats import open_model

    with show_progress() as report:
        source = hub.resolve(name, report=report)
        tokenizer = load_tokenizer(other or source.path, progress=report)
    checkpoint = open_model(source.path)
    config, tensors = checkpoint.config, checkpoint.tensors.values()
    files = [path for path in source.path.iterdir() if path.is_file()] if source.path.is_dir() else [source.path]
    return {
        "name": source.name,
        "origin": source.origin,
        "path": str(source.path),
        "bytes": sum(path.stat().st_size for path in files),
        "architecture": config.architecture,
        "parameters": sum(math.prod(tensor.shape) for tensor in tensors),
        "tensors": dict(Counter(tensor.kind for tensor in tensors).most_common()),
        "layers": config.layers,
        "width": config.width,
        "hidden": config.hidden,
        "heads": config.heads,
        "kv_heads": config.kv_heads,
        "context": config.context,
        "vocabulary": config.vocab_size,
        "chat_template": tokenizer.chat_template is not None,
        "end_tokens": {str(token): tokenizer.spell(token) for token in sorted(tokenizer.eos_ids)},
    }


def _format_value(key: str, value: Any) -> str:
    if key == "bytes":
        return format_size(value)
    if key == "tensors":
        return ", ".join(f"{count} {kind}" for kind, count in value.items())
    if key == "end_tokens":
        return ", ".join(f"{name} ({token})" for token, name in value.items()) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)
