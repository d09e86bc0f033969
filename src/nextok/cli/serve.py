"""`nextok serve`: an HTTP server with OpenAI's API."""

import asyncio
import logging
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from nextok.cli.flags import Quiet, option
from nextok.cli.loaded import LoadFlags
from nextok.cli.terminal import print_note
from nextok.extras import needed_for

if TYPE_CHECKING:
    from nextok.drafts.base import Draft

PANEL = "Server"
Name = Annotated[str, typer.Argument(metavar="MODEL", help="The model to serve.", envvar="NEXTOK_MODEL")]
MOST_DRAFT = 10
"""Number of tokens that a draft guesses at most."""


@dataclass(frozen=True, slots=True)
class ServerFlags:
    """Where the server listens, who may use it, and what it is called."""

    host: Annotated[str, option("--host", metavar="ADDRESS", text="Listen here.", panel=PANEL)] = "127.0.0.1"
    port: Annotated[int, option("--port", metavar="N", text="On this port; 0 takes a free one.", panel=PANEL)] = 8000
    name: Annotated[
        str | None, option("--name", metavar="NAME", text="What clients call the model.", panel=PANEL)
    ] = None
    draft: Annotated[
        list[str] | None,
        option("--draft", metavar="NAME=MODEL", text="A draft that requests may name; may be repeated.", panel=PANEL),
    ] = None
    api_key: Annotated[
        list[str] | None,
        option("--api-key", metavar="KEY", text="Clients must have it; may be repeated.", panel=PANEL),
    ] = None
    queue: Annotated[
        int, option("--queue", metavar="N", text="Texts that may wait besides those in work.", panel=PANEL)
    ] = 64
    cache_memory: Annotated[
        int | None,
        option(
            "--cache-memory",
            metavar="MB",
            text="Keep what was read of ended chats in this; 0 keeps none.",
            panel=PANEL,
        ),
    ] = None
    strict: Annotated[bool, option("--strict", text="Refuse fields that mean nothing here.", panel=PANEL)] = False
    insecure: Annotated[bool, option("--insecure", text="Let others in without a key.", panel=PANEL)] = False

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError(f"--port must be from 0 to 65535, got {self.port}")
        if not 0 <= self.queue <= 100_000:
            raise ValueError(f"--queue must be from 0 to 100,000, got {self.queue}")
        if self.cache_memory is not None and not 0 <= self.cache_memory <= 1 << 24:
            raise ValueError(f"--cache-memory must be from 0 to {1 << 24:,} MB, got {self.cache_memory}")
        if self.api_key and not all(self.api_key):
            raise ValueError("--api-key must not be empty")

    def find_cache_memory(self) -> int:
        """Bytes for what was read of ended chats: as given, else 1 GB or a quarter of what this machine has left."""
        from nextok.models.memory import available_memory

        if self.cache_memory is not None:
            return self.cache_memory << 20
        return min(1 << 30, (available_memory() or 0) // 4)

    def load_drafts(self, how: LoadFlags, quiet: bool) -> "dict[str, Draft]":
        """The drafts that `--draft NAME=MODEL` names; NAME alone stands for both."""
        from nextok.cli.strategy import draft_named

        drafts = {}
        for each in self.draft or ():
            name, _, model = each.partition("=")
            if not name:
                raise ValueError(f"--draft takes NAME=MODEL, or prompt-lookup, got {each!r}")
            drafts[name] = draft_named(model or name, MOST_DRAFT, lambda other: how.load_draft(other, quiet=quiet))
        return drafts


def serve(how: LoadFlags, server: ServerFlags, model: Name = "smollm2", quiet: Quiet = False) -> None:
    """Serve a model over HTTP, for clients of OpenAI's API."""
    with needed_for("nextok serve"):
        from nextok.serve.admission import Admission
        from nextok.serve.run import build_server, check_address, open_socket
        from nextok.serve.service import Service

    check_address(server.host, server.api_key or (), server.insecure)
    socket = open_socket(server.host, server.port)  # refused before anything is loaded
    lm = how.load(model, quiet=quiet, cache_memory=server.find_cache_memory())
    admission = Admission(lm.engine.seats, server.queue)
    service = Service(lm, server.name or lm.name, admission, server.load_drafts(how, quiet), server.strict)
    service.warm_up()
    if not quiet:
        logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
        drafts = f", drafts {', '.join(service.drafts)}" if service.drafts else ""
        print_note(
            f"{service.name} at http://{server.host}:{socket.getsockname()[1]}/v1, context {lm.model.context}, "
            f"{admission.seats} texts at once and {server.queue} waiting, "
            f"{lm.engine.kept.budget >> 20} MB for ended chats{drafts}; "
            "temperature 1 and top_p 1 where a request names none"
        )
    with lm:
        asyncio.run(build_server(service, server.host, server.api_key or ()).serve([socket]))
