"""`nextok serve` as a process of its own: how it starts and ends, and what wrong connections do to it."""

import http.client
import json
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager, suppress

import pytest

from tiny_file import write_tiny_file

SECONDS = 60
"""Longest wait for anything, on a busy machine too."""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_file(tmp_path_factory.mktemp("model"), context=8192)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as opened:
        return opened.getsockname()[1]


def command(model, port):
    return [sys.executable, "-W", "error", "-m", "nextok", "serve", str(model), "--port", str(port), "--threads", "1"]


@contextmanager
def started(model):
    """A server that has said that it listens: its process and its port."""
    port = free_port()
    process = subprocess.Popen(command(model, port), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        line = process.stderr.readline()
        assert f"http://127.0.0.1:{port}/v1" in line, line + process.stderr.read()
        yield process, port
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def port(model):
    with started(model) as (process, port):
        threading.Thread(target=process.stderr.read, daemon=True).start()  # or its log fills the pipe
        yield port
        process.terminate()
        assert process.wait(SECONDS) == 0, "after all that it met"


def ask(port, path="/v1/completions", **body):
    """The status and the object of one good request."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)) as connection:
        connection.request("POST", path, json.dumps({"max_tokens": 4, "seed": 1} | body))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


@contextmanager
def open_stream(port, tokens):
    """The answer of a stream whose first event has come."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    body = {"prompt": "abc", "max_tokens": tokens, "ignore_eos": True, "stream": True}
    with closing(connection):
        connection.request("POST", "/v1/completions", json.dumps(body))
        with connection.getresponse() as answer:
            assert answer.readline().startswith(b"data: ")
            yield answer


def read_ends(answer):
    """How the choices of a stream that is whole ended."""
    frames = [frame for frame in answer.read().split(b"\n\n") if frame.startswith(b"data: ")]
    assert frames[-1] == b"data: [DONE]"
    choices = [choice for frame in frames[:-1] for choice in json.loads(frame[6:])["choices"]]
    return [choice["finish_reason"] for choice in choices if choice["finish_reason"]]


@pytest.mark.parametrize(
    "signals",
    [[signal.SIGTERM], [signal.SIGTERM, signal.SIGTERM], [signal.SIGINT]],
    ids=["term", "term twice", "ctrl-c"],
)
def test_a_server_that_is_told_to_end_writes_its_streams_to_the_end(model, signals):
    with started(model) as (process, port):
        with open_stream(port, 1500) as stream:
            for each in signals:
                process.send_signal(each)
            assert read_ends(stream) == ["length"]
        assert process.wait(SECONDS) == 0
        assert "Traceback" not in process.stderr.read()
        with pytest.raises(ConnectionRefusedError):
            ask(port)


def test_ctrl_c_twice_does_not_wait_for_streams(model):
    with started(model) as (process, port):
        with open_stream(port, 8000) as stream:
            process.send_signal(signal.SIGINT)
            wait_until_refused(port)
            process.send_signal(signal.SIGINT)
            with suppress(http.client.IncompleteRead, ConnectionError):
                assert b"[DONE]" not in stream.read()
        assert process.wait(SECONDS) in (0, 130)


def test_clients_that_leave_in_the_middle_fill_no_log(model):
    body = json.dumps({"prompt": "abc", "max_tokens": 5000, "ignore_eos": True, "stream": True}).encode()
    with started(model) as (process, port):
        for _ in range(3):
            streams = [socket.create_connection(("127.0.0.1", port), timeout=SECONDS) for _ in range(24)]
            for each in streams:
                each.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            for each in streams:
                assert each.recv(1 << 12)
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # leaves by a reset
                each.close()
        process.terminate()
        assert process.wait(SECONDS) == 0
        lines = process.stderr.read().splitlines()
    assert len(lines) == 3 * 24
    assert all(" 499 " in line or " 200 " in line for line in lines), lines


def wait_until_refused(port):
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return
    pytest.fail("the server goes on listening")


def test_a_port_in_use_is_one_line(model):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(command(model, port), capture_output=True, text=True, timeout=SECONDS, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert f"port {port}" in done.stderr
    assert "in use" in done.stderr


HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
BODY = b'{"prompt":"abc","max_tokens":2}'
GOOD = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n"
# What is sent -> the status that comes back before the server closes the connection.
REFUSED = {
    "junk": (bytes(range(256)) * 8 + b"\r\n\r\n", 400),
    "the beginning of TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500) + b"\r\n\r\n", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 403),
    "HTTP/0.9": (b"GET /\r\n\r\n", 400),
    "no host": (b"GET /health HTTP/1.1\r\n\r\n", 400),
    "another host": (b"GET /health HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", 403),
    "no method": (b" / HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "a NUL in a header": (HEAD + b"X-A: a\x00b\r\n\r\n", 400),
    "headers without an end": (HEAD + b"X-Long: " + b"a" * 500_000, 400),
    "a body of 5 MB": (HEAD + b"Connection: close\r\nContent-Length: 5000000\r\n\r\n" + b" " * 5_000_000, 413),
    "chunks of 5 MB": (CHUNKED + b"Connection: close\r\n\r\n4C4B40\r\n" + b" " * 5_000_000, 413),
    "a chunk without a size": (CHUNKED + b"\r\nxyz\r\n" + BODY, 400),
    "a body longer than said": (HEAD + b"Connection: close\r\nContent-Length: 5\r\n\r\n" + BODY, 400),
    "two lengths": (HEAD + b"Content-Length: 31\r\nContent-Length: 5\r\n\r\n" + BODY, 400),
    "a negative length": (HEAD + b"Content-Length: -1\r\n\r\n" + BODY, 400),
    "a length that is no number": (HEAD + b"Content-Length: ten\r\n\r\n" + BODY, 400),
    "another protocol": (HEAD + b"Connection: Upgrade, close\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\n{}", 400),
}
# What is sent before the client sends no more: then it counts as gone, and nothing comes back.
HALF_CLOSED = {
    "nothing": b"",
    "half a header": b"POST /v1/completions HTTP/1.1\r\nHos",
    "a body shorter than said": HEAD + b"Content-Length: 100\r\n\r\n" + BODY,
    "a chunk shorter than said": CHUNKED + b"\r\n64\r\n" + BODY,
}


def talk(port, data, half_close=False):
    """Everything that comes back for these bytes until the server closes the connection."""
    received = bytearray()
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as connection:
        with suppress(ConnectionError):  # the server may close before it has everything
            connection.sendall(data)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
        with suppress(ConnectionError):
            while part := connection.recv(1 << 16):
                received += part
    return bytes(received)


@pytest.mark.parametrize("kind", REFUSED)
def test_a_wrong_connection_is_told_so_and_the_next_request_works(port, kind):
    data, status = REFUSED[kind]
    answer = talk(port, data)
    assert answer.split()[1] == str(status).encode(), answer[:300]
    assert ask(port, prompt="abc")[0] == 200


LARGE = {"20 KB in one": b"X-Long: " + b"a" * 20_000, "many": b"\r\n".join([b"X: a"] * 10_000)}


@pytest.mark.parametrize("kind", LARGE)
def test_large_headers_are_refused_whether_they_come_at_once_or_in_parts(port, kind):
    head, mark, body = GOOD.partition(b"\r\n\r\n")
    data = head + b"\r\nConnection: close\r\n" + LARGE[kind] + mark + body
    assert talk(port, data).split()[1] in (b"431", b"400")  # 400 if a part was too large by itself
    path = data.replace(LARGE[kind], b"X-Short: a").replace(b"completions", b"completions?" + b"a" * 20_000, 1)
    assert talk(port, path).split()[1] in (b"431", b"400")
    assert talk(port, data.replace(LARGE[kind], b"X-Short: a")).split()[1] == b"200"


@pytest.mark.parametrize("kind", HALF_CLOSED)
def test_a_client_that_stops_sending_has_left_and_the_next_request_works(port, kind):
    assert talk(port, HALF_CLOSED[kind], half_close=True) == b""
    assert ask(port, prompt="abc")[0] == 200


def test_headers_and_bodies_that_come_byte_by_byte_do_not_stop_others(port):
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as slow:
        slow.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for place in range(len(GOOD)):
            slow.sendall(GOOD[place : place + 1])
            if place % 25 == 0:
                assert ask(port, prompt="abc")[0] == 200
        assert slow.recv(1 << 16).startswith(b"HTTP/1.1 200 ")


def test_two_hundred_connections_that_say_nothing_do_not_stop_others(port):
    idle = [socket.create_connection(("127.0.0.1", port), timeout=SECONDS) for _ in range(200)]
    try:
        assert ask(port, prompt="abc")[0] == 200
    finally:
        for each in idle:
            each.close()


def test_what_comes_after_the_first_request_on_a_connection_is_a_request_of_its_own(port):
    answer = talk(port, GOOD + GOOD + b"\x00junk\r\n\r\n")
    statuses = [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200", b"200", b"400"]
