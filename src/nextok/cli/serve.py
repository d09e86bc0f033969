"""`nextok serve`: an HTTP server with OpenAI's API."""

import asyncio
import logging
import sys
from typing import TYPE_CHECKING, Annotated

from nextok.cli.flags import ModelName, Quiet, option
from nextok.cli.loaded import LoadFlags
from nextok.cli.terminal import print_note

if TYPE_CHECKING:
    from nextok.drafts.base import Draft

PANEL = "Server"


def serve(
    how: LoadFlags,
    model: ModelName = "smollm2",
    host: Annotated[str, option("--host", metavar="ADDRESS", text="Listen here.", panel=PANEL)] = "127.0.0.1",
    port: Annotated[int, option("--port", metavar="N", text="On this port.", panel=PANEL)] = 8000,
    name: Annotated[
        str | None, option("--name", metavar="NAME", text="What clients call the model.", panel=PANEL)
    ] = None,
    draft: Annotated[
        list[str] | None,
        option("--draft", metavar="NAME=MODEL", text="A draft that requests may name; may be repeated.", panel=PANEL),
    ] = None,
    api_key: Annotated[
        list[str] | None,
        option("--api-key", metavar="KEY", text="Clients must have it, or one of several.", panel=PANEL),
    ] = None,
    queue: Annotated[
        int, option("--queue", metavar="N", text="Texts that may wait besides those in work.", panel=PANEL)
    ] = 64,
    strict: Annotated[bool, option("--strict", text="Refuse fields that mean nothing here.", panel=PANEL)] = False,
    insecure: Annotated[bool, option("--insecure", text="Let others in without a key.", panel=PANEL)] = False,
    quiet: Quiet = False,
) -> None:
    """Serve a model over HTTP, for clients of OpenAI's API."""
    from nextok.extras import needed_for

    with needed_for("nextok serve"):
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401

        from nextok.serve.run import build_server, check_address
    from nextok.serve.admission import Admission
    from nextok.serve.service import Service

    keys = api_key or []
    check_address(host, keys, insecure)
    if not 0 <= port <= 65535:
        raise ValueError(f"--port must be from 0 to 65535, got {port}")
    if not 0 <= queue <= 100_000:
        raise ValueError(f"--queue must be from 0 to 100,000, got {queue}")
    lm = how.load(model, quiet=quiet)
    drafts = dict(_read_draft(each, how, quiet) for each in draft or ())
    admission = Admission(lm.engine.seats, queue)
    service = Service(lm, name or lm.name, admission, drafts, strict)
    if not quiet:
        logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
        logging.getLogger("nextok.serve").setLevel(logging.INFO)
        drafted = f", drafts {', '.join(drafts)}" if drafts else ""
        print_note(
            f"{service.name} at http://{host}:{port}/v1, context {lm.model.context}, {admission.seats} texts at once "
            f"and {queue} waiting{drafted}; temperature 1 and top_p 1 where a request names none"
        )
    with lm:
        asyncio.run(build_server(service, host, port, keys).serve())


def _read_draft(text: str, how: LoadFlags, quiet: bool) -> "tuple[str, Draft]":
    """The name and the draft that `NAME=MODEL` says; NAME alone stands for both."""
    from nextok.cli.strategy import draft_named

    name, _, model = text.partition("=")
    if not name:
        raise ValueError(f"--draft takes NAME=MODEL, or prompt-lookup, got {text!r}")
    return name, draft_named(model or name, 10, lambda each: how.load_draft(each, quiet=quiet))
