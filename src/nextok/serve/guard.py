"""What stands before all routes: whose key it is, which name the client called us by, and one form for all errors."""

import hmac
import json
import logging
import time
from collections.abc import Sequence

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nextok.serve.errors import ApiError, explain
from nextok.serve.leaving import ClientLeftError
from nextok.serve.metrics import Metrics

OPEN = ("/health", "/ready")
"""Routes that need no key."""

log = logging.getLogger("nextok.serve")


class Guard:
    """The outermost part of the application.

    `keys`: one of them must be in `Authorization: Bearer`; none are needed if empty. `hosts`: names that the Host
    header may have, so that a page of another site cannot reach a server on this machine under a name of its own;
    any are allowed if empty. `routes`: the paths that are told apart in metrics and log.
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
        began_at, status = time.perf_counter(), 0

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            self._check(scope)
            await self._app({**scope, "app": self}, receive, watch)  # with an app, the routes raise what they refuse
        except (ClientLeftError, ClientDisconnect):
            status = 499
        except Exception as error:
            known = _explain_route(error, scope) if isinstance(error, HTTPException) else explain(error)
            if known.status == 500:
                log.exception("a request failed")
            if not status:
                await _send_error(known, watch)
        finally:
            route = scope["path"] if scope["path"] in self._routes else "other"
            self._metrics.count_answer(route, status)
            log.info("%s %s %d %.3f s", scope["method"], route, status, time.perf_counter() - began_at)

    def _check(self, scope: Scope) -> None:
        headers = {name.lower(): value for name, value in scope["headers"]}
        host = headers.get(b"host", b"").decode("latin-1").lower()
        name = host.rpartition(":")[0] if ":" in host.rpartition("]")[2] else host
        if self._hosts and name not in self._hosts:
            raise ApiError(
                403,
                f"this server answers to {', '.join(sorted(self._hosts))}, not to {name[:80]!r}",
            )
        if self._keys and scope["path"] not in OPEN:
            given = headers.get(b"authorization", b"")
            key = given[7:] if given[:7].lower() == b"bearer " else b""
            if sum(hmac.compare_digest(key, each) for each in self._keys) == 0:  # all of them, in equal time
                raise ApiError(
                    401, "give a key of this server, as in `Authorization: Bearer KEY`", code="invalid_api_key"
                )


def _explain_route(error: HTTPException, scope: Scope) -> ApiError:
    path = scope["path"][:80]
    if error.status_code == 405:
        return ApiError(405, f"{scope['method']} does not go with {path!r}")
    return ApiError(error.status_code, f"this server has no {path!r}; /openapi.json lists what it has")


async def _send_error(error: ApiError, send: Send) -> None:
    body = json.dumps(error.to_json(), ensure_ascii=False).encode("utf-8", "replace")
    headers = {"content-type": "application/json", "content-length": str(len(body)), **error.headers}
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})
