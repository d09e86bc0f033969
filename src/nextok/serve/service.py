"""One LM as a server has it: what it is called, its drafts, and who may come in."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from nextok.drafts.base import Draft
from nextok.errors import NextokError
from nextok.generation.output import Output
from nextok.generation.stream import AsyncStream
from nextok.grammar.grammar import Grammar
from nextok.lm import LM
from nextok.serve.admission import Admission
from nextok.serve.bodies import Decoding
from nextok.serve.leaving import stay
from nextok.serve.metrics import Metrics


@dataclass
class Service:
    """The model, its name for clients, and the limits of the server."""

    lm: LM
    name: str
    admission: Admission
    drafts: Mapping[str, Draft] = field(default_factory=dict)
    strict: bool = False
    metrics: Metrics = field(default_factory=Metrics)

    def warm_up(self) -> None:
        """Build what the first request of a kind would wait for: the vocabulary as grammars see it."""
        tokenizer = self.lm.tokenizer
        with suppress(NextokError, ValueError):  # without the library for grammars, or without an end token
            Grammar.choices(["a"]).compile(tokenizer, self.lm.model.vocab_size, tokenizer.eos_ids)

    async def run(self, request: Request, prompts: Sequence[list[int]], decoding: Decoding) -> list[Output]:
        """The outputs of several prompts, in one batch; all of them end when the client leaves."""
        options = decoding.options
        with self.admission.enter(len(prompts) * options["n"]):
            streams = [self.lm.astream(ids, decoding.strategy, **options) for ids in prompts]
            try:
                outputs = await stay(request, asyncio.gather(*(stream.wait() for stream in streams)))
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
