"""What the routes share: the model once it is loaded, who may come in, and the counters."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from nextok.api.errors import ApiError
from nextok.api.forms import FORMS
from nextok.api.requests import read_task
from nextok.api.served import Served
from nextok.api.task import Task
from nextok.generation.output import Output
from nextok.generation.stream import AsyncStream
from nextok.serve.admission import Admission
from nextok.serve.leaving import stay
from nextok.serve.metrics import Metrics
from nextok.serve.record import find_record
from nextok.serve.turns import Turns

FORM_FIELDS = (*FORMS, "tools")
"""Fields of a request that can hold a grammar or a schema."""
FORMS_AT_ONCE, MOST_FORMS = 2, 256
"""Number of requests whose form is read at once, and of those that may wait for that."""
DEADLINE = 600.0
"""Longest time, in seconds, in which a text is written, unless another one was chosen."""


@dataclass
class Service:
    """`opened`: the model, None while it is loaded. `deadline`: seconds after which every text ends.

    `forms`: whose turn it is to have a grammar or a schema read, which can take seconds of a thread.
    """

    opened: Served | None
    admission: Admission
    deadline: float = DEADLINE
    metrics: Metrics = field(default_factory=Metrics)
    turns: Turns = field(default_factory=Turns)
    forms: Admission = field(default_factory=lambda: Admission(FORMS_AT_ONCE, MOST_FORMS))
    is_draining: bool = False
    is_over: bool = False
    _streams: set[AsyncStream] = field(default_factory=set)

    @property
    def served(self) -> Served:
        """The model; ApiError (503) while it is loaded, and when the server ends."""
        if self.opened is None:
            raise ApiError(503, "the model is being loaded: try again soon", code="loading")
        if self.is_draining:
            raise ApiError(503, "this server is about to end", code="draining")
        return self.opened

    async def read(self, kind: str, body: Any) -> Task:
        """The task of a request to a route of this kind, read off the event loop."""
        served = self.served
        has_form = isinstance(body, dict) and not body.keys().isdisjoint(FORM_FIELDS)
        async with self.forms.enter(1) if has_form else nullcontext():
            return await asyncio.to_thread(read_task, served, kind, body)

    async def run(self, request: Request, task: Task) -> list[Output]:
        """The outputs of a task, in one batch; all of them end when the client leaves."""
        return await stay(request.receive, asyncio.ensure_future(self._run(request, task)))

    async def _run(self, request: Request, task: Task) -> list[Output]:
        self._limit(task)
        async with self.admission.enter(task.rows, task.tokens) as waited:
            with self._begin(task) as streams:
                outputs = await asyncio.gather(*(stream.wait() for stream in streams))
            self._check_end()
        for output in outputs:
            self._count(request, output, waited)
        return outputs

    async def stream(self, request: Request, task: Task) -> AsyncGenerator[dict[str, Any], None]:
        """The chunks of a task's only prompt; the text ends when they are no longer taken."""
        self._limit(task)
        async with self.admission.enter(task.rows, task.tokens) as waited:
            with self._begin(task) as [stream]:
                async with aclosing(task.tell_stream(stream)) as told:
                    async for chunk in told:
                        self._check_end()
                        yield chunk
                self._count(request, await stream.output(), waited)

    def end(self) -> None:
        """End all texts, those of the queue too, with an error (503): the time to end by themselves is over."""
        self.is_over = True
        for stream in self._streams:
            stream.close()

    def _check_end(self) -> None:
        if self.is_over:
            raise ApiError(503, "this server has ended before the text did", code="draining")

    @contextmanager
    def _begin(self, task: Task) -> Iterator[list[AsyncStream]]:
        """The streams of a task, closed at the end."""
        self._check_end()
        streams = task.begin()
        self._streams.update(streams)
        try:
            yield streams
        finally:
            self._streams.difference_update(streams)
            for stream in streams:
                stream.close()

    def _limit(self, task: Task) -> None:
        options = task.decoding.options
        options["timeout"] = min(options.get("timeout") or self.deadline, self.deadline)

    def _count(self, request: Request, output: Output, waited: float) -> None:
        output.raise_for_error()
        self.metrics.count(output, waited)
        find_record(request.scope).add(output)
