"""The process that renders templates of unknown origin: started once, asked by any thread."""

import atexit
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Any

from nextok.errors import TemplateError

BOOT = "import runpy, sys; sys.path += sys.argv[2:]; runpy.run_path(sys.argv[1], run_name='__main__')"
KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TZ")
SIZE_BYTES = 8
"""Bytes of the number before each request and each answer, as in sandbox.py."""
MOST_ANSWER = 64 << 20
"""Largest number of bytes of an answer."""


class RenderProcess:
    """Starts `sandbox.py` when it is first asked, and again when it has ended for any reason.

    That process copies itself for each rendering and limits the copy, so no template sees what another one left.
    It ends with this process, whose end closes its input; a fork of this process starts one of its own.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def render(self, request: bytes, seconds: float) -> dict[str, Any]:
        """The outcome of a request; OSError if there is none after so many seconds, when the process is killed.

        A process that was ended while it had nothing to do is started again.
        """
        with self._lock:
            if self._process is not None:
                try:
                    return self._ask(self._process, request, seconds)
                except EOFError:
                    self._stop()
            self._process = _start()
            try:
                return self._ask(self._process, request, seconds)
            except EOFError:
                raise OSError("its process ended") from None

    def stop(self) -> None:
        """End the process; the next request starts a new one."""
        with self._lock:
            self._stop()

    def begin_anew(self) -> None:
        """In a fork: leave the process to the parent."""
        process, self._process, self._lock = self._process, None, threading.Lock()
        if process is not None:
            for pipe in _list_pipes(process):
                pipe.close()
            process.returncode = 0  # it is no child of this process, which must not wait for it

    def _ask(self, process: "subprocess.Popen[bytes]", request: bytes, seconds: float) -> dict[str, Any]:
        requests, answers = _list_pipes(process)
        late = threading.Event()

        def end() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        try:
            _write(requests, len(request).to_bytes(SIZE_BYTES, "big") + request)
            size = int.from_bytes(_read(answers, SIZE_BYTES), "big")
            if size > MOST_ANSWER:
                raise OSError(f"its answer has {size:,} bytes")
            outcome: dict[str, Any] = json.loads(_read(answers, size))
            return outcome
        except (EOFError, BrokenPipeError):
            if late.is_set():
                self._stop()
                raise OSError(f"no answer in {seconds:g} s") from None
            raise EOFError from None
        except BaseException:  # such as Ctrl-C: the answer would be read as that of the next request
            self._stop()
            raise
        finally:
            timer.cancel()

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            for pipe in _list_pipes(process):
                pipe.close()
            process.wait()


def build_command() -> list[str]:
    """The command of a Python without site packages and the user's settings, with only the folders of Jinja."""
    import jinja2
    import markupsafe

    if not sys.executable:
        raise TemplateError("this chat template needs a Python program to run in, and there is none")
    folders = [str(Path(str(module.__file__)).parents[1]) for module in (jinja2, markupsafe)]
    return [sys.executable, "-I", "-S", "-c", BOOT, str(Path(__file__).with_name("sandbox.py")), *folders]


def _start() -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        build_command(),
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ},
        start_new_session=True,  # Ctrl-C in a terminal is for this process only
    )


def _list_pipes(process: "subprocess.Popen[bytes]") -> tuple[IO[bytes], IO[bytes]]:
    assert process.stdin
    assert process.stdout
    return process.stdin, process.stdout


def _write(pipe: IO[bytes], data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[pipe.write(rest) :]


def _read(pipe: IO[bytes], size: int) -> bytes:
    parts = list[bytes]()
    while size:
        part = pipe.read(min(size, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


CHILD = RenderProcess()
"""The one of this process. It keeps nothing between requests."""
atexit.register(CHILD.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=CHILD.begin_anew)
