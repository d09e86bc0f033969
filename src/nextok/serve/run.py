"""The server as a process: where it listens, what it says at its start, and how it ends."""

import asyncio
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import uvicorn

from nextok.serve.app import build_app
from nextok.serve.service import Service

LOCAL = ("localhost", "127.0.0.1", "[::1]")
"""The names of this machine for itself."""
MOST_HEADER_BYTES = 16 << 10
"""Largest size of a request's headers, in bytes."""
DRAIN_SECONDS = 30
"""Longest time, in seconds, that requests in flight have to end after SIGTERM."""


class Server(uvicorn.Server):
    """One that ends with status 0 after SIGTERM and Ctrl-C, once all requests have ended."""

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
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ValueError(
            f"cannot listen at {host}, port {port} ({error.strerror or error}): choose another"
        ) from None


def build_server(service: Service, host: str, keys: Sequence[str] = ()) -> Server:
    """The server of one service; `await server.serve([socket])` runs it until SIGTERM or Ctrl-C."""
    hosts = LOCAL if host in ("127.0.0.1", "localhost", "::1") else ()
    config = uvicorn.Config(
        build_app(service, keys, hosts),
        log_level="warning",
        access_log=False,
        h11_max_incomplete_event_size=MOST_HEADER_BYTES,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        server_header=False,
        lifespan="off",
    )
    return Server(config)
