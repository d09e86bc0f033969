"""One LM as a server has it: what it is called, its drafts, and who may come in."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.requests import Request

from nextok.drafts.base import Draft
from nextok.generation.output import Output
from nextok.generation.stream import AsyncStream
from nextok.lm import LM
from nextok.serve.admission import Admission
from nextok.serve.bodies import Decoding
from nextok.serve.metrics import Metrics

T = TypeVar("T")

log = logging.getLogger("nextok.serve")


@dataclass
class Service:
    """The model, its name for clients, and the limits of the server."""

    lm: LM
    name: str
    admission: Admission
    drafts: Mapping[str, Draft] = field(default_factory=dict)
    strict: bool = False
    metrics: Metrics = field(default_factory=Metrics)

    async def run(self, request: Request, prompts: Sequence[list[int]], decoding: Decoding) -> list[Output]:
        """The outputs of several prompts, in one batch; all of them end when the client leaves."""
        options = decoding.options
        with self.admission.enter(len(prompts) * options["n"]):
            streams = [self.lm.astream(ids, decoding.strategy, **options) for ids in prompts]
            try:
                outputs = await _stay(request, asyncio.gather(*(stream.wait() for stream in streams)))
            finally:
                for stream in streams:
                    stream.close()
        for output in outputs:
            output.raise_for_error()
            self.metrics.count(output)
        return list(outputs)

    async def stream(
        self, ids: list[int], decoding: Decoding, tell: Callable[[AsyncStream], AsyncGenerator[Any, None]]
    ) -> AsyncGenerator[Any, None]:
        """What `tell` makes of the stream of one prompt; the request ends when nobody takes it any more."""
        with self.admission.enter(decoding.options["n"]):
            stream = self.lm.astream(ids, decoding.strategy, **decoding.options)
            try:
                async with aclosing(tell(stream)) as told:
                    async for each in told:
                        yield each
                self.metrics.count(await stream.output())
            finally:
                stream.close()


class ClientLeftError(Exception):
    """The client has closed its connection: there is no one to answer."""


async def _stay(request: Request, work: "asyncio.Future[T]") -> T:
    """The result of the work; ClientLeftError, and the work cancelled, if the client leaves before."""
    leaving = asyncio.ensure_future(_wait_until_left(request))
    try:
        both: set[asyncio.Future[Any]] = {work, leaving}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            work.cancel()
            raise ClientLeftError
        return work.result()
    finally:
        leaving.cancel()


async def _wait_until_left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
