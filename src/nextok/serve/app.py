"""The routes of the server."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp

import nextok
from nextok.serve.chat import answer_chat, begin_turn
from nextok.serve.completions import complete
from nextok.serve.errors import ApiError
from nextok.serve.fields import CHAT, COMPLETION, describe_fields, read_fields
from nextok.serve.guard import Guard
from nextok.serve.reading import JsonAnswer, read_json
from nextok.serve.service import Service
from nextok.serve.texts import spell

Answer = Callable[[Service, Request, Mapping[str, Any], list[str]], Awaitable[Response]]

NOT_HERE = ("/v1/responses", "/v1/embeddings", "/v1/images/generations", "/v1/audio/speech")
"""OpenAI's routes that this server has not."""


def build_app(service: Service, keys: Sequence[str] = (), hosts: Sequence[str] = ()) -> ASGIApp:
    """The application; see Guard for `keys` and `hosts`."""
    routes = [
        Route("/v1/completions", _take(service, COMPLETION, complete), methods=["POST"]),
        Route("/v1/chat/completions", _take(service, CHAT, answer_chat), methods=["POST"]),
        Route("/v1/models", _always(lambda: JsonAnswer({"object": "list", "data": [_tell_model(service)]}))),
        Route("/v1/models/{model:path}", _bind(_find_model, service)),
        Route("/tokenize", _bind(_tokenize, service), methods=["POST"]),
        Route("/detokenize", _bind(_detokenize, service), methods=["POST"]),
        Route("/apply-template", _bind(_apply_template, service), methods=["POST"]),
        Route("/health", _always(lambda: JsonAnswer({"status": "ok"}))),
        Route("/ready", _always(lambda: JsonAnswer({"status": "ready"}))),
        Route("/version", _always(lambda: JsonAnswer({"version": nextok.__version__}))),
        Route("/metrics", _always(lambda: PlainTextResponse(_write_metrics(service)))),
        Route("/openapi.json", _always(lambda: JsonAnswer(_describe_api()))),
        *(Route(path, _refuse_route, methods=["GET", "POST"]) for path in NOT_HERE),
    ]  # fmt: skip
    paths = [route.path for route in routes]
    return Guard(Router(routes, redirect_slashes=False), service.metrics, paths, keys, hosts)


def _take(service: Service, route: str, answer: Answer) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint of a route that decodes: reads the fields, then answers."""
    needed = "messages" if route == CHAT else "prompt"

    async def endpoint(request: Request) -> Response:
        values, ignored = read_fields(await read_json(request), route, service.strict)
        if needed not in values:
            raise ApiError(400, f"the body needs {needed}", needed)
        if values.get("model", service.name) != service.name:
            raise ApiError(
                404,
                f"there is no model {values['model']!r:.80}; this server has {service.name}",
                "model",
                "model_not_found",
            )
        return await answer(service, request, values, ignored)

    return endpoint


def _bind(
    answer: Callable[[Service, Request], Awaitable[Response]], service: Service
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        return await answer(service, request)

    return endpoint


def _always(answer: Callable[[], Response]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        return answer()

    return endpoint


def _write_metrics(service: Service) -> bytes:
    return service.metrics.write(service.admission.texts, service.lm.engine.kept.bytes)


def _tell_model(service: Service) -> dict[str, Any]:
    facts = {"id": service.name, "object": "model", "created": 0, "owned_by": "nextok"}
    return facts | {"max_model_len": service.lm.model.context, "drafts": list(service.drafts)}


async def _find_model(service: Service, request: Request) -> Response:
    name = request.path_params["model"]
    if name != service.name:
        raise ApiError(
            404, f"there is no model {name!r:.80}; this server has {service.name}", "model", "model_not_found"
        )
    return JsonAnswer(_tell_model(service))


async def _tokenize(service: Service, request: Request) -> Response:
    """vLLM's fields and llama.cpp's: prompt or content, or messages."""
    body = await _read_object(request)
    text, tokenizer = body.get("prompt", body.get("content")), service.lm.tokenizer
    if "messages" in body:
        ids = (await asyncio.to_thread(begin_turn, service, body)).ids
    elif isinstance(text, str):
        special = body.get("add_special_tokens", body.get("add_special", True)) is not False
        ids = await asyncio.to_thread(tokenizer.encode, text, special=special)
    else:
        raise ApiError(400, "the body needs prompt, a text, or messages", "prompt")
    texts = {"token_strs": [spell(tokenizer, token) for token in ids]} if body.get("return_token_strs") else {}
    return JsonAnswer({"tokens": ids, "count": len(ids), "max_model_len": service.lm.model.context} | texts)


async def _detokenize(service: Service, request: Request) -> Response:
    ids = (await _read_object(request)).get("tokens")
    if not isinstance(ids, list) or not all(type(each) is int for each in ids):
        raise ApiError(400, "the body needs tokens, a list of token ids", "tokens")
    text = await asyncio.to_thread(service.lm.tokenizer.decode, ids)
    return JsonAnswer({"prompt": text, "content": text})


async def _apply_template(service: Service, request: Request) -> Response:
    body = await _read_object(request)
    if "messages" not in body:
        raise ApiError(400, "the body needs messages", "messages")
    names = ("tools", "chat_template_kwargs", "continue_final_message")
    options: Any = {name: body[name] for name in names if name in body}
    prompt = await asyncio.to_thread(lambda: service.lm.write_prompt(body["messages"], **options))
    return JsonAnswer({"prompt": prompt.text, "tokens": prompt.ids})


async def _read_object(request: Request) -> dict[str, Any]:
    body = await read_json(request)
    if not isinstance(body, dict):
        raise ApiError(400, "the body must be a JSON object")
    return body


async def _refuse_route(request: Request) -> Response:
    raise ApiError(404, f"this server has no {request.url.path}; it has /v1/chat/completions and /v1/completions")


def _describe_api() -> dict[str, Any]:
    """The OpenAPI document of the routes that decode, made of the table of fields."""

    def post(route: str, text: str) -> dict[str, Any]:
        content = {"application/json": {"schema": describe_fields(route)}}
        answers = {
            status: {"description": what} for status, what in (("200", "the answer"), ("400", "a wrong field"))
        }
        return {
            "post": {"summary": text, "requestBody": {"required": True, "content": content}, "responses": answers}
        }

    paths = {
        "/v1/chat/completions": post(CHAT, "Answer a conversation."),
        "/v1/completions": post(COMPLETION, "Continue a text."),
    }
    return {"openapi": "3.1.0", "info": {"title": "nextok", "version": nextok.__version__}, "paths": paths}
