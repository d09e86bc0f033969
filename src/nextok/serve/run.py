"""The server as a process: where it listens, what it says at its start, and how it ends."""

import asyncio
import json
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn

from nextok.api.served import Served
from nextok.serve.app import build_app
from nextok.serve.guard import MOST_HEADER_BYTES
from nextok.serve.memory import give_back_when_idle
from nextok.serve.protocol import PatientProtocol
from nextok.serve.record import KEY, Record
from nextok.serve.service import Service

LOCAL = ("localhost", "127.0.0.1", "[::1]")
"""The names of this machine for itself."""
DRAIN_SECONDS = 30
"""Longest time, in seconds, that requests in flight have to end after SIGTERM; then they end with an error."""
LAST_SECONDS = 3
"""Time, in seconds, in which clients receive that error."""
SWITCH_SECONDS = 0.0002
"""Longest time, in seconds, for which the engine's thread keeps the event loop waiting; Python's own is 5 ms."""
BACKLOG = 2048
"""Number of connections that the system takes in for us while we are busy."""


class Server(uvicorn.Server):
    """One that ends with status 0 after SIGTERM and Ctrl-C, once all requests have ended."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle the signals of the end while the server runs; only the main thread of a process gets them."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take no more requests, and end when those in flight have ended."""
        self._service.is_draining = True
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Wait until requests have ended, and end those that go on too long."""
        timer = asyncio.get_running_loop().call_later(DRAIN_SECONDS, self._service.end)
        try:
            await super().shutdown(sockets)
        finally:
            timer.cancel()


def check_address(host: str, keys: Sequence[str], insecure: bool) -> None:
    """ValueError for an address that others can reach, unless there is a key or it was said to be meant."""
    if host not in ("127.0.0.1", "localhost", "::1") and not keys and not insecure:
        raise ValueError(
            f"--host {host} lets others in: give --api-key KEY, or --insecure if anybody may use this server"
        )


def open_socket(host: str, port: int) -> socket.socket:
    """A socket that listens there; ValueError if that cannot be had. Port 0 takes a free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        opened = socket.create_server((host, port), family=family, backlog=BACKLOG)
        # Of sockets that are handed to it, asyncio does not see that they are TCP's. Without this the second part of
        # an answer on a connection that goes on waits 40 ms for the client's acknowledgement of the first.
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return opened
    except OSError as error:
        raise ValueError(
            f"cannot listen at {host}, port {port} ({error.strerror or error}): choose another"
        ) from None


def build_server(service: Service, host: str, keys: Sequence[str] = (), logs_requests: bool = False) -> Server:
    """The server of one service; `await server.serve([socket])` runs it until SIGTERM or Ctrl-C."""
    hosts = LOCAL if host in ("127.0.0.1", "localhost", "::1") else ()
    config = uvicorn.Config(
        build_app(service, keys, hosts, logs_requests),
        http=PatientProtocol,
        ws="none",
        backlog=BACKLOG,
        log_config=None,
        access_log=False,
        h11_max_incomplete_event_size=MOST_HEADER_BYTES,
        timeout_graceful_shutdown=DRAIN_SECONDS + LAST_SECONDS,
        server_header=False,
        lifespan="off",
    )
    return Server(config, service)


async def run(
    server: Server,
    service: Service,
    opened: socket.socket,
    load: Callable[[], Served],
    announce: Callable[[Served], object],
) -> None:
    """Serve until the end; meanwhile load the model, until when requests are told to come again.

    `announce` is called once they are answered. What `load` raises ends the server, and is raised.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    give_back_when_idle(service.admission)
    serving = asyncio.ensure_future(server.serve([opened]))
    loading = _run_aside(load)
    both: set[asyncio.Future[Any]] = {serving, loading}
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    if loading.done():
        if loading.exception():
            server.should_exit = True
        else:
            service.opened = loading.result()
            announce(service.opened)
    await serving
    if loading.done():
        loading.result()


def _run_aside(work: Callable[[], Served]) -> "asyncio.Future[Served]":
    """The result of some work in a thread that does not keep the process alive."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[Served] = loop.create_future()

    def tell(made: Served | None, error: BaseException | None) -> None:
        if error is not None:
            result.set_exception(error)
        elif made is not None:
            result.set_result(made)

    def do() -> None:
        made, error = None, None
        try:
            made = work()
        except BaseException as raised:
            error = raised
        if not loop.is_closed():
            loop.call_soon_threadsafe(tell, made, error)

    threading.Thread(target=do, name="loading", daemon=True).start()
    return result


def open_log(as_json: bool, quiet: bool) -> None:
    """Write what goes wrong to standard error, and unless `quiet` a line for each request."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines(as_json))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    # asyncio tells of each write to a client that has just left.
    logging.getLogger("asyncio").addFilter(lambda record: record.msg != "socket.send() raised exception.")
    logging.getLogger("nextok.serve").setLevel(logging.WARNING if quiet else logging.INFO)


class _Lines(logging.Formatter):
    """A line of text, or of JSON."""

    def __init__(self, as_json: bool) -> None:
        super().__init__("%(message)s")
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        """The line of one record."""
        about: Record | None = getattr(record, KEY, None)
        if self._as_json and about:
            return about.to_json()
        text = super().format(record)
        return json.dumps({"level": record.levelname, "message": text}) if self._as_json else text
