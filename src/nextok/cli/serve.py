"""`nextok serve`: an HTTP server with OpenAI's API."""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nextok.cli.flags import Quiet, option
from nextok.cli.loaded import LoadFlags
from nextok.cli.served import ServedFlags
from nextok.cli.terminal import print_note
from nextok.extras import needed_for

if TYPE_CHECKING:
    from nextok.api.served import Served

PANEL = "Server"
Name = Annotated[str, typer.Argument(metavar="MODEL", help="The model to serve.", envvar="NEXTOK_MODEL")]


@dataclass(frozen=True, slots=True)
class ServerFlags:
    """Where the server listens, and who may use it."""

    host: Annotated[str, option("--host", metavar="ADDRESS", text="Listen here.", panel=PANEL)] = "127.0.0.1"
    port: Annotated[int, option("--port", metavar="N", text="On this port; 0 takes a free one.", panel=PANEL)] = 8000
    api_key: Annotated[
        list[str] | None,
        option(
            "--api-key",
            metavar="KEY",
            text="Clients must have it; may be repeated.",
            panel=PANEL,
            envvar="NEXTOK_API_KEY",
        ),
    ] = None
    queue: Annotated[int, option("--queue", metavar="N", text="Requests that may wait.", panel=PANEL)] = 64
    deadline: Annotated[
        float, option("--deadline", metavar="SECONDS", text="Every text ends after so long.", panel=PANEL)
    ] = 600.0
    cache_memory: Annotated[
        int | None,
        option(
            "--cache-memory",
            metavar="MB",
            text="Keep what was read of ended chats in this; 0 keeps none.",
            panel=PANEL,
        ),
    ] = None
    log: Annotated[
        Literal["text", "json"], option("--log", metavar="FORM", text="Log lines: text or json.", panel=PANEL)
    ] = "text"
    log_requests: Annotated[
        bool, option("--log-requests", text="The log has what was asked, prompts too.", panel=PANEL)
    ] = False
    insecure: Annotated[bool, option("--insecure", text="Let others in without a key.", panel=PANEL)] = False

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError(f"--port must be from 0 to 65535, got {self.port}")
        if not 0 <= self.queue <= 100_000:
            raise ValueError(f"--queue must be from 0 to 100,000, got {self.queue}")
        if not 0 < self.deadline <= 86_400:
            raise ValueError(f"--deadline must be above 0 and at most 86,400 seconds, got {self.deadline:g}")
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


def serve(
    how: LoadFlags, requests: ServedFlags, server: ServerFlags, model: Name = "smollm2", quiet: Quiet = False
) -> None:
    """Serve a model over HTTP, for clients of OpenAI's API."""
    with needed_for("nextok serve"):
        from nextok.serve import run
        from nextok.serve.admission import Admission
        from nextok.serve.service import Service

    keys = server.api_key or ()
    run.check_address(server.host, keys, server.insecure)
    socket = run.open_socket(server.host, server.port)  # refused before anything is loaded
    address = f"http://{server.host}:{socket.getsockname()[1]}/v1"
    run.open_log(server.log == "json", quiet)
    service = Service(None, Admission(requests.seats, server.queue), server.deadline)

    def load() -> "Served":
        return requests.open(how, model, quiet=quiet, cache_memory=server.find_cache_memory())

    def announce(served: "Served") -> None:
        if not quiet:
            print_note(_describe(served, address, requests, server))

    http = run.build_server(service, server.host, keys, server.log_requests)
    try:
        asyncio.run(run.run(http, service, socket, load, announce))
    finally:
        if service.opened:
            service.opened.lm.close()


def _describe(served: "Served", address: str, requests: ServedFlags, server: ServerFlags) -> str:
    """The line that is said when the server is ready."""
    lm = served.lm
    drafts = f", drafts {', '.join(served.drafts)}" if served.drafts else ""
    return (
        f"{served.name} at {address}, context {lm.model.context}, {requests.seats} texts at once and {server.queue} "
        f"requests waiting, {lm.engine.kept.budget >> 20} MB for ended chats{drafts}; "
        f"{requests.describe_defaults(served)} where a request names none"
    )
