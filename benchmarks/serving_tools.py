"""What the benchmarks of the server share: servers as processes of their own, a client that costs little, /proc.

The client speaks HTTP/1.1 over plain asyncio streams, one connection a request. It keeps the bytes of an answer and
reads them afterwards, so that the cores that it shares with the server are left to the server.
"""

import asyncio
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

TESTS = Path(__file__).parent.parent / "tests"
START_SECONDS = 120
"""Longest time, in seconds, that a server has to become ready."""


@dataclass
class Answer:
    """What came back. `first` and `whole`: seconds from the request to its first event and to its end."""

    status: int = 0  # 0: the connection ended before there was one
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    first: float = 0.0
    whole: float = 0.0

    def json(self):
        return json.loads(self.body)

    def events(self):
        """The events of a stream, without the last one's `[DONE]`; the events before an early end."""
        frames = [frame for frame in self.body.split(b"\n\n") if frame.startswith(b"data: ")]
        return [json.loads(frame[6:]) for frame in frames if not frame.startswith(b"data: [DONE]")]

    @property
    def is_whole(self):
        """Whether all of it came: a stream up to its `[DONE]`, any other answer in its length."""
        if self.headers.get("content-type", "").startswith("text/event-stream"):
            return self.body.endswith(b"data: [DONE]\n\n")
        return bool(self.status) and len(self.body) == int(self.headers.get("content-length", -1))

    def text(self):
        """The text of the first choice, streamed or not, of either route."""
        if self.headers.get("content-type", "").startswith("text/event-stream"):
            choices = [choice for event in self.events() for choice in event.get("choices", ())]
            return "".join(each.get("text") or each.get("delta", {}).get("content") or "" for each in choices)
        choice = self.json()["choices"][0]
        return choice["text"] if "text" in choice else choice["message"]["content"]


def write_request(path, body=None, headers=()):
    """The bytes of one request; the connection ends with its answer."""
    data = b"" if body is None else json.dumps(body).encode()
    lines = [f"{'GET' if body is None else 'POST'} {path} HTTP/1.1", "Host: localhost", "Connection: close"]
    lines += [f"Content-Length: {len(data)}", "Content-Type: application/json"] if data else []
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode() + data


async def ask(port, path, body=None, until: Callable[[bytearray], bool] | None = None):
    """One request. `until` sees all bytes after each arrival and may end the answer early by returning True.

    ConnectionError (and its kinds) if there is no connection or it breaks off.
    """
    answer, received, began = Answer(), bytearray(), time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    try:
        writer.write(write_request(path, body))
        while data := await reader.read(1 << 16):
            received += data
            if not answer.first and b"\ndata: " in received:
                answer.first = time.perf_counter() - began
            if until is not None and until(received):
                break
    finally:
        answer.whole = time.perf_counter() - began
        writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    read_answer(received, answer)
    return answer


def read_answer(received, answer):
    """Take the bytes of an answer apart."""
    head, mark, rest = bytes(received).partition(b"\r\n\r\n")
    if not mark:
        return
    first, *lines = head.decode("latin-1").split("\r\n")
    answer.status = int(first.split()[1])
    answer.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    is_chunked = answer.headers.get("transfer-encoding") == "chunked"
    answer.body = join_chunks(rest) if is_chunked else rest


def join_chunks(data):
    """The body that came in chunks; what there is of it if it ended early."""
    parts, place = [], 0
    while (end := data.find(b"\r\n", place)) >= 0:
        size = int(data[place:end].split(b";")[0], 16)
        parts.append(data[end + 2 : end + 2 + size])
        if size == 0:
            break
        place = end + 4 + size
    return b"".join(parts)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as opened:
        return opened.getsockname()[1]


def nextok_command(model, port, **flags):
    """The command of a server; `flags` are those of `nextok serve`, such as queue=64."""
    command = [sys.executable, "-m", "nextok", "serve", model, "--port", port, "-q"]
    for name, value in flags.items():
        command += [f"--{name.replace('_', '-')}", value]
    return [str(each) for each in command]


@dataclass
class Running:
    """A server that runs."""

    process: subprocess.Popen
    port: int
    complaints: list[str] = field(default_factory=list)  # lines of its log, once it has ended

    def stop(self, seconds=60):
        """End it by SIGTERM; its exit status, or None if it had to be killed."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None

    def memory(self):
        """Its resident memory, in MB, with that of its children."""
        return sum(memory_of(each) for each in (self.process.pid, *children_of(self.process.pid)))

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


def memory_of(process):
    """Resident memory of a process, in MB; 0 if it has ended."""
    with suppress(OSError), open(f"/proc/{process}/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6
    return 0.0


def children_of(process):
    """The ids of all processes below this one."""
    found = []
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{process}/task"):
            with open(f"/proc/{process}/task/{thread}/children") as file:
                for each in file.read().split():
                    found += [int(each), *children_of(int(each))]
    return found


@contextmanager
def running(command, port, ready="/ready", log=subprocess.DEVNULL):
    """A server as a process of its own, ended at the end; RuntimeError if it does not start."""
    process = subprocess.Popen(command, stdout=log, stderr=log)
    server = Running(process, port)
    try:
        wait_until_ready(server, ready)
        yield server
    finally:
        server.stop()


def wait_until_ready(server, path):
    """Until the server answers 200 there."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.process.poll() is None:
        with suppress(OSError):
            if asyncio.run(ask(server.port, path)).status == 200:
                return
        time.sleep(0.1)
    raise RuntimeError(f"this server does not start: {' '.join(map(str, server.process.args))}")


def raise_open_files(wanted):
    """Let this process and its children open so many files; say so if that cannot be had."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if max(soft, allowed) < wanted:
        print(f"only {max(soft, allowed):,} open files are allowed here, of {wanted:,} wanted", file=sys.stderr)


def write_tiny_model(folder, context=4096):
    """The tests' tiny model as a file."""
    sys.path.insert(0, str(TESTS))
    from tiny_file import write_tiny_file

    return write_tiny_file(Path(folder), context)
