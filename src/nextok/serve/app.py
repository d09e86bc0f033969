"""The routes of the server."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp

import nextok
from nextok.api.answers import tell_ignored
from nextok.api.errors import ApiError
from nextok.api.fields import CHAT, COMPLETION, DETOKENIZE, TEMPLATE, TOKENIZE
from nextok.api.json_body import dump_json
from nextok.api.requests import check_model
from nextok.api.served import Served
from nextok.api.tokens import apply_template, count_chat, detokenize, tokenize
from nextok.serve.describe import describe_api
from nextok.serve.events import answer_with_events
from nextok.serve.guard import Guard
from nextok.serve.reading import JsonAnswer, read_json
from nextok.serve.record import find_record
from nextok.serve.service import Service

Endpoint = Callable[[Request], Awaitable[ASGIApp]]

DECODE = {"/v1/completions": COMPLETION, "/v1/chat/completions": CHAT}
"""Routes that write texts."""
TELL: dict[str, tuple[str, Callable[[Served, Any], dict[str, Any]]]] = {
    "/tokenize": (TOKENIZE, tokenize),
    "/detokenize": (DETOKENIZE, detokenize),
    "/apply-template": (TEMPLATE, apply_template),
    "/v1/chat/completions/input_tokens": (CHAT, count_chat),
}
"""Routes that tell something of texts."""
NOT_HERE = ("/v1/responses", "/v1/embeddings", "/v1/images/generations", "/v1/audio/speech")
"""OpenAI's routes that this server has not."""


def build_app(
    service: Service, keys: Sequence[str] = (), hosts: Sequence[str] = (), logs_requests: bool = False
) -> Guard:
    """The application; see Guard for `keys` and `hosts`. `logs_requests`: the log has what was asked."""

    def listed() -> Response:
        return JsonAnswer({"object": "list", "data": [_tell_model(service.served)]})

    def ready() -> Response:
        return JsonAnswer({"status": "ready", "model": service.served.name})

    def metrics() -> Response:
        return PlainTextResponse(service.metrics.write(service.admission, service.opened))

    routes = [
        *(Route(path, _decode(service, kind, logs_requests), methods=["POST"]) for path, kind in DECODE.items()),
        *(Route(path, _tell(service, answer), methods=["POST"]) for path, (_, answer) in TELL.items()),
        Route("/v1/models", _always(listed)),
        Route("/v1/models/{model:path}", _find_model(service)),
        Route("/health", _always(lambda: JsonAnswer({"status": "ok"}))),
        Route("/ready", _always(ready)),
        Route("/version", _always(lambda: JsonAnswer({"version": nextok.__version__}))),
        Route("/metrics", _always(metrics)),
        Route("/openapi.json", _always(lambda: JsonAnswer(describe_api(DECODE, TELL)))),
        *(Route(path, _refuse_route, methods=["GET", "POST"]) for path in NOT_HERE),
    ]
    paths = [route.path for route in routes]
    return Guard(Router(routes, redirect_slashes=False), service.metrics, paths, keys, hosts)


def _decode(service: Service, kind: str, logs_requests: bool) -> Endpoint:
    """The endpoint of a route that writes texts. All but the waiting is done off the event loop."""

    async def endpoint(request: Request) -> ASGIApp:
        await service.turns.wait()
        body = await read_json(request)
        if logs_requests:
            find_record(request.scope).request = body
        task = await service.read(kind, body)
        headers = tell_ignored(task.values.ignored)
        if task.is_streamed:
            return await answer_with_events(request, service.stream(request, task), headers, service.turns)
        outputs = await service.run(request, task)
        return JsonAnswer(await asyncio.to_thread(lambda: dump_json(task.tell(outputs))), headers=headers)

    return endpoint


def _tell(service: Service, answer: Callable[[Served, Any], dict[str, Any]]) -> Endpoint:
    """The endpoint of a route that only computes."""

    async def endpoint(request: Request) -> ASGIApp:
        body, served = await read_json(request), service.served
        return JsonAnswer(await asyncio.to_thread(lambda: dump_json(answer(served, body))))

    return endpoint


def _always(answer: Callable[[], Response]) -> Endpoint:
    async def endpoint(request: Request) -> ASGIApp:
        return answer()

    return endpoint


def _find_model(service: Service) -> Endpoint:
    async def endpoint(request: Request) -> ASGIApp:
        check_model(service.served, request.path_params["model"])
        return JsonAnswer(_tell_model(service.served))

    return endpoint


def _tell_model(served: Served) -> dict[str, Any]:
    facts = {"id": served.name, "object": "model", "created": 0, "owned_by": "nextok"}
    return facts | {"max_model_len": served.lm.model.context, "drafts": list(served.drafts)}


async def _refuse_route(request: Request) -> ASGIApp:
    raise ApiError(404, f"this server has no {request.url.path}; it has {' and '.join(DECODE)}")
