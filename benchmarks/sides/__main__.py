"""One engine in a process of its own: `python -m sides` in benchmarks/, then JSON on stdin and stdout, line by line.

The first line says which side this is; it is answered by what loading took. Each line after it names a method, its
arguments and how often to repeat it; it is answered by the median of the seconds, and by the first text written.
"""

import importlib
import json
import os
import statistics
import sys
import time
from pathlib import Path


def peak_memory():
    """The most megabytes of this process that were in memory at once, pages of mapped files among them."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024
    except OSError:
        import resource

        unit = 2**20 if sys.platform == "darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def loaded(kind, **arguments):
    """A side, and how many seconds it took to import the engine and load the model."""
    start = time.perf_counter()
    side = importlib.import_module(f"sides.{kind}").Side(**arguments)
    return side, time.perf_counter() - start


def measured(side, method, arguments, repeat):
    """The answer to one request; {} if the engine has no such method."""
    prepare = getattr(side, method, None)
    if prepare is None:
        return {}
    seconds = []
    for _ in range(repeat):
        work = prepare(*arguments)
        start = time.perf_counter()
        texts = work()
        seconds.append(time.perf_counter() - start)
    length = {"rows": 1, "prefill": 1}.get(method, arguments[-1])
    wrong = [len(text) for text in texts if len(text) != length]
    if wrong:
        raise ValueError(f"a text of {wrong[0]} tokens instead of {length}")
    return {"seconds": statistics.median(seconds), "text": [int(token) for token in texts[0]]}


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what an engine prints is no answer

    def say(answer):
        print(json.dumps(answer), file=answers, flush=True)

    side, seconds = loaded(**json.loads(sys.stdin.readline()))
    say({"seconds": seconds, "versions": side.versions})
    for line in sys.stdin:
        request = json.loads(line)
        if request["method"] == "memory":
            say({"megabytes": peak_memory(), "notes": getattr(side, "notes", {})})
            continue
        try:
            say(measured(side, **request))
        except Exception as error:
            say({"error": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    main()
