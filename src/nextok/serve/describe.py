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
    paths: dict[str, Any] = {path: {"post": _describe_post(kind)} for path, kind in kinds.items()}
    for path, text in ASKED.items():
        paths[path] = {"get": {"summary": text, "responses": _describe_answers(("401", "403", "503"))}}
    by_id = {
        "summary": "The model, if it is called so.",
        "responses": _describe_answers(("401", "403", "404", "503")),
    }
    id_of = {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
    paths["/v1/models/{model}"] = {"get": by_id | {"parameters": [id_of]}}
    return {"openapi": "3.1.0", "info": {"title": "nextok", "version": nextok.__version__}, "paths": paths}


def _describe_post(kind: str) -> dict[str, Any]:
    content = {"application/json": {"schema": describe_fields(kind)}}
    return {"requestBody": {"required": True, "content": content}, "responses": _describe_answers(STATUSES)}


def _describe_answers(statuses: Iterable[str]) -> dict[str, Any]:
    errors = {
        status: {"description": STATUSES[status], "content": {"application/json": {"schema": ERROR}}}
        for status in statuses
    }
    return {"200": {"description": "the answer"}, **errors}
