"""The Jinja environment of chat templates; run as a program, it renders each in a copy that the system may end.

Nothing of nextok is imported, so that the child process starts in the time that Python and Jinja take.
"""

import html  # noqa: F401  # jinja2 loads this and textwrap in filters, but then the child may open no files
import json
import os
import sys
import textwrap  # noqa: F401
from collections.abc import Mapping
from datetime import datetime
from typing import Any, BinaryIO, NoReturn

import jinja2
import jinja2.debug  # jinja2 loads it when a template fails, but then the child may open no files
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox
from jinja2.utils import Namespace

CHILD_BYTES = 512 << 20
"""Largest address space of a process that renders, in bytes."""
SIZE_BYTES = 8
"""Bytes of the number before each request and each answer: how long it is."""
MOST_OPEN_FILES = 64
"""A process that only reads requests never has a file descriptor as large as this."""


class TextTooLongError(Exception):
    """A template wrote more characters than are allowed."""


class RefusedError(jinja2.exceptions.TemplateError):
    """A template called `raise_exception`."""


class ChatNamespace(Namespace):
    """Jinja's `namespace`, without names that could reach into Python."""

    def __init__(self, /, *pairs: Any, **attributes: Any) -> None:
        super().__init__()
        for name, value in dict(*pairs, **attributes).items():
            self[name] = value

    def __setitem__(self, name: str, value: Any) -> None:
        if str(name).startswith("_"):
            raise jinja2.exceptions.SecurityError(f"a namespace cannot hold {name!r}")
        super().__setitem__(name, value)


class GenerationBlock(jinja2.ext.Extension):
    """`{% generation %}`, which marks the assistant's words for training, is only a block here."""

    tags = {"generation"}  # noqa: RUF012  (jinja2 declares it so)

    def parse(self, parser: Any) -> jinja2.nodes.Node:
        """The block's body, with a scope of its own."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.Scope(body, lineno=line)


class ChatEnvironment(jinja2.sandbox.ImmutableSandboxedEnvironment):
    """What a chat template may use: all that Hugging Face offers, without `lipsum`, `cycler` and `joiner`."""

    def __init__(self, now: datetime) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[GenerationBlock, jinja2.ext.loopcontrols])
        self.filters["tojson"] = to_json
        self.globals = {
            "range": jinja2.sandbox.safe_range,
            "dict": make_dict,
            "namespace": ChatNamespace,
            "raise_exception": raise_exception,
            "strftime_now": now.strftime,
        }


def to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """JSON without the escapes for HTML that Jinja's own filter adds."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def make_dict(*pairs: Any, **items: Any) -> dict[str, Any]:
    """A new dict; templates do not get the class itself, as its methods change dicts."""
    return dict(*pairs, **items)


def raise_exception(message: object) -> NoReturn:
    """Raise RefusedError: a template calls this to refuse messages."""
    raise RefusedError(str(message))


def write_limited(template: jinja2.Template, values: Mapping[str, Any], characters: int) -> str:
    """The text that the template writes; TextTooLongError as soon as it has more than `characters` characters."""
    text: list[str] = []
    for part in template.generate(values):
        text.append(part)
        characters -= len(part)
        if characters < 0:
            raise TextTooLongError
    return "".join(text)


def limit_this_process(seconds: float) -> None:
    """Let the system end this process when it computes too long, and deny it memory, files and children."""
    import codecs
    import resource
    import signal

    codecs.lookup("unicode-escape")  # of Jinja's strings: loaded from a file, which the limits deny
    signal.setitimer(signal.ITIMER_REAL, seconds)  # its default action ends the process, inside C code too
    resource.setrlimit(resource.RLIMIT_AS, (CHILD_BYTES, CHILD_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
    if hasattr(resource, "RLIMIT_NPROC"):
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))


def run_job(request: Mapping[str, Any]) -> dict[str, str]:
    """Render one request; the outcome is under `text` or `error`."""
    try:
        template = ChatEnvironment(datetime.fromisoformat(request["now"])).from_string(request["template"])
        return {"text": write_limited(template, request["values"], request["characters"])}
    except TextTooLongError:
        return {"error": f"wrote more than {request['characters']:,} characters"}
    except MemoryError:
        return {"error": f"needs more than {CHILD_BYTES >> 20} MiB of memory"}
    except RecursionError:
        return {"error": "calls itself without end"}
    except RefusedError as error:
        return {"error": f"refuses these messages ({error})"}
    except Exception as error:  # a template can raise anything
        return {"error": f"failed ({type(error).__name__}: {error})"}


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until there are no more, each in a copy of this process, so that nothing is left of it."""
    import codecs

    codecs.lookup("unicode-escape")  # of Jinja's strings: loaded from a file, which the limits deny
    ChatEnvironment(datetime.now()).from_string("{{ 1 }}").render()  # loads the rest, once for all copies
    while len(head := requests.read(SIZE_BYTES)) == SIZE_BYTES:
        request = requests.read(int.from_bytes(head, "big"))
        answer = render_in_copy(request) if hasattr(os, "fork") else json.dumps(run_job(json.loads(request))).encode()
        answers.write(len(answer).to_bytes(SIZE_BYTES, "big") + answer)
        answers.flush()
        if not hasattr(os, "fork"):
            return


def render_in_copy(request: bytes) -> bytes:
    """The outcome of a request as JSON, or the exit status of the copy that rendered it under `status`."""
    source, sink = os.pipe()
    copy = os.fork()
    if not copy:
        _render_and_exit(request, sink)
    os.close(sink)
    with open(source, "rb") as file:
        answer = file.read()
    status = os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1])
    return json.dumps({"status": status}).encode() if status else answer


def _render_and_exit(request: bytes, sink: int) -> NoReturn:
    try:
        for other in (0, 1):  # a copy must not read the requests of others, nor answer them
            os.dup2(sink, other)
        os.closerange(3, MOST_OPEN_FILES)
        job = json.loads(request)
        limit_this_process(job["seconds"])
        answer = json.dumps(run_job(job)).encode()
        while answer:
            answer = answer[os.write(1, answer) :]
        os._exit(0)
    finally:
        os._exit(1)


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
