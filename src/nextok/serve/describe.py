"""The OpenAPI document, made of the table of fields."""

from collections.abc import Iterable, Mapping
from typing import Any

import nextok
from nextok.api.fields import describe_fields

ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type"],
            "properties": {name: {"type": ["string", "null"]} for name in ("message", "type", "param", "code")},
        }
    },
}
ASKED = {
    "/health": "Whether the server lives.",
    "/ready": "Whether it takes requests.",
    "/version": "The version of nextok.",
    "/metrics": "Numbers for Prometheus.",
    "/v1/models": "The model.",
}
"""Routes without a body."""
WHOLE, WORDS, TOKENS = {"type": "integer"}, {"type": "string"}, {"type": "array", "items": {"type": "integer"}}
CHOICES = {"type": "array", "items": {"type": "object", "required": ["index", "finish_reason"]}}
WRITTEN = {
    "id": WORDS,
    "object": WORDS,
    "created": WHOLE,
    "model": WORDS,
    "choices": CHOICES,
    "usage": {"type": "object"},
}
MODEL = {"id": WORDS, "object": {"const": "model"}, "max_model_len": WHOLE}
ANSWERS: dict[str, dict[str, Any]] = {
    "/v1/completions": WRITTEN,
    "/v1/chat/completions": WRITTEN,
    "/tokenize": {"tokens": TOKENS, "count": WHOLE, "max_model_len": WHOLE},
    "/detokenize": {"prompt": WORDS, "content": WORDS},
    "/apply-template": {"prompt": WORDS, "tokens": TOKENS},
    "/v1/chat/completions/input_tokens": {"object": WORDS, "input_tokens": WHOLE},
    "/v1/models": {"object": {"const": "list"}, "data": {"type": "array", "items": {"type": "object"}}},
    "/v1/models/{model}": MODEL,
    "/health": {"status": WORDS},
    "/ready": {"status": WORDS, "model": WORDS},
    "/version": {"version": WORDS},
}
"""The members that the answers of each route have always; there may be more."""
STATUSES = {
    "400": "a wrong field",
    "401": "a key is needed",
    "403": "a name that is not the server's",
    "404": "another model",
    "405": "another method",
    "408": "the body came too slowly",
    "413": "the body is too large",
    "415": "the body is compressed",
    "431": "path and headers are too large",
    "503": "no place now; see Retry-After",
}


def describe_api(decoding: Mapping[str, str], telling: Mapping[str, tuple[str, Any]]) -> dict[str, Any]:
    """The document of all routes: of those with a body their path and the kind of their fields."""
    kinds = {**decoding, **{path: kind for path, (kind, _) in telling.items()}}
    paths: dict[str, Any] = {path: {"post": _describe_post(path, kind)} for path, kind in kinds.items()}
    for path, text in ASKED.items():
        paths[path] = {"get": {"summary": text, "responses": _describe_answers(path, ("401", "403", "431", "503"))}}
    by_id = {
        "summary": "The model, if it is called so.",
        "responses": _describe_answers("/v1/models/{model}", ("401", "403", "404", "431", "503")),
    }
    id_of = {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
    paths["/v1/models/{model}"] = {"get": by_id | {"parameters": [id_of]}}
    return {"openapi": "3.1.0", "info": {"title": "nextok", "version": nextok.__version__}, "paths": paths}


def _describe_post(path: str, kind: str) -> dict[str, Any]:
    content = {"application/json": {"schema": describe_fields(kind)}}
    return {"requestBody": {"required": True, "content": content}, "responses": _describe_answers(path, STATUSES)}


def _describe_answers(path: str, statuses: Iterable[str]) -> dict[str, Any]:
    errors = {
        status: {"description": STATUSES[status], "content": {"application/json": {"schema": ERROR}}}
        for status in statuses
    }
    content: dict[str, Any] = {"text/plain": {}}
    if members := ANSWERS.get(path):
        schema = {"type": "object", "required": list(members), "properties": members}
        content = {"application/json": {"schema": schema}}
    if members is WRITTEN:
        content["text/event-stream"] = {}
    return {"200": {"description": "the answer", "content": content}, **errors}
