"""Services of small models, and real servers on a free port of this machine."""

import asyncio
import threading
import time
from contextlib import contextmanager

from nextok.api.served import Served
from nextok.serve.admission import Admission
from nextok.serve.run import build_server, open_socket
from nextok.serve.service import Service


def serve(lm, *, seats=32, queue=64, deadline=600.0, **served):
    """A service of a model that is loaded."""
    return Service(Served(lm, lm.name, **served), Admission(seats, queue), deadline)


@contextmanager
def serving(service, keys=()):
    """A real server on a free port, in a thread; yields its address."""
    server, opened = build_server(service, "127.0.0.1", keys), open_socket("127.0.0.1", 0)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([opened])))
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{opened.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


def is_refused(answer, status=400):
    """Check that an answer is an error in OpenAI's form: one line that is not too long."""
    assert answer.status_code == status, answer.text[:300]
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["message"]
    assert "\n" not in error["message"]
    assert len(error["message"]) <= 2000
