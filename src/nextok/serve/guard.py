"""What stands before all routes: whose key it is, which name the client called us by, and one form for all errors."""

import hmac
import logging
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nextok.api.errors import ApiError, explain
from nextok.api.json_body import dump_json
from nextok.serve.leaving import ClientLeftError
from nextok.serve.metrics import Metrics
from nextok.serve.record import KEY, Record, choose_id

OPEN = ("/health", "/ready")
"""Routes that need no key."""

MOST_HEADER_BYTES = 16 << 10
"""Largest size of a request's path and headers, in bytes."""

log = logging.getLogger("nextok.serve")


class Guard:
    """The outermost part of the application.

    `keys`: one of them must be in `Authorization: Bearer`; none are needed if empty. `hosts`: names that the Host
    header may have, so that a page of another site cannot reach a server on this machine under a name of its own;
    any are allowed if empty. `routes`: the paths that are told apart in metrics and log. Every answer has the
    request's id as `x-request-id`.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        routes: Sequence[str],
        keys: Sequence[str] = (),
        hosts: Sequence[str] = (),
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._keys = [key.encode() for key in keys]
        self._hosts = {host.lower() for host in hosts}
        self._routes = set(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began_at = time.perf_counter()
        headers = {name.lower(): value for name, value in scope["headers"]}
        route = scope["path"] if scope["path"] in self._routes else "other"
        record = Record(choose_id(headers.get(b"x-request-id", b"")), scope["method"], route)

        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", record.id.encode())]
            await send(message)

        try:
            _check_size(scope)
            self._check(scope["path"], headers)
            # With an app in their scope the routes raise what they refuse.
            await self._app({**scope, "app": self, KEY: record}, receive, watch)
        except (ClientLeftError, ClientDisconnect):
            record.status = 499
            self._metrics.count_aborted()
        except Exception as error:
            await self._refuse(error, scope, record, watch)
        finally:
            record.seconds = time.perf_counter() - began_at
            self._metrics.count_answer(route, record.status)
            log.info("%s", record, extra={KEY: record})

    async def _refuse(self, error: Exception, scope: Scope, record: Record, send: Send) -> None:
        told = _explain_route(error, scope) if isinstance(error, HTTPException) else explain(error)
        record.add_error(told)
        if told.status == 500:
            log.exception("a request failed")
        if scope["path"] not in OPEN:
            self._metrics.count_refused(told)
        if not record.status:
            await _send_error(told, send)

    def _check(self, path: str, headers: dict[bytes, bytes]) -> None:
        host = headers.get(b"host", b"").decode("latin-1").lower()
        name, colon, port = host.rpartition(":")
        self._check_host(name if colon and port.isdecimal() else host)
        if b"origin" in headers and not self._keys:
            self._check_host(_find_host(headers[b"origin"].decode("latin-1")))
        if self._keys and path not in OPEN:
            given = headers.get(b"authorization", b"")
            key = given[7:] if given[:7].lower() == b"bearer " else b""
            if sum(hmac.compare_digest(key, each) for each in self._keys) == 0:  # all of them, in equal time
                raise ApiError(
                    401, "give a key of this server, as in `Authorization: Bearer KEY`", code="invalid_api_key"
                )

    def _check_host(self, name: str) -> None:
        """ApiError (403) for a name that is not ours: of the request, or of the page that sent it."""
        if self._hosts and name not in self._hosts:
            line = f"this server answers to {', '.join(sorted(self._hosts))}, not to {name[:80]!r}"
            raise ApiError(403, line)


def _check_size(scope: Scope) -> None:
    """ApiError (431) for a head that is too large: uvicorn notices that only of one that comes in parts."""
    size = len(scope["raw_path"]) + len(scope["query_string"])
    if size + sum(len(name) + len(value) for name, value in scope["headers"]) > MOST_HEADER_BYTES:
        raise ApiError(431, f"path and headers must have at most {MOST_HEADER_BYTES:,} bytes")


def _find_host(origin: str) -> str:
    """The host of an origin, in brackets if it is an IPv6 address."""
    try:
        name = urlsplit(origin).hostname or origin
    except ValueError:
        return origin
    return f"[{name}]" if ":" in name else name


def _explain_route(error: HTTPException, scope: Scope) -> ApiError:
    path = scope["path"][:80]
    if error.status_code == 405:
        return ApiError(405, f"{scope['method']} does not go with {path!r}")
    return ApiError(error.status_code, f"this server has no {path!r}; /openapi.json lists what it has")


async def _send_error(error: ApiError, send: Send) -> None:
    body = dump_json(error.to_json())
    headers = {"content-type": "application/json", "content-length": str(len(body)), **error.headers}
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})
