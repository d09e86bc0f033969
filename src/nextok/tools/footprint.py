"""The cost of a model in a process of its own: time to start, time to the first token, and peak memory.

`python -m nextok.tools.footprint OPTIONS` is that process; OPTIONS are the arguments of `nextok.load`, as JSON.
"""

import json
import random
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from nextok.errors import NextokError

if TYPE_CHECKING:
    from nextok.lm import LM

PROMPT, TOKENS = 16, 16
"""Number of tokens of the prompt, and of the text."""
_dice = random.Random(0)


def measure_footprint(**options: Any) -> dict[str, float]:
    """Start Python, load a model with these options and write some tokens; the cost in seconds and bytes.

    NextokError if the process fails.
    """
    started_at = time.perf_counter()
    command = [sys.executable, "-m", "nextok.tools.footprint", json.dumps(options)]
    none, pipe = subprocess.DEVNULL, subprocess.PIPE
    with (
        TemporaryFile() as stderr,  # a pipe could fill up, as it is not read meanwhile
        subprocess.Popen(command, stdin=none, stdout=pipe, stderr=stderr, encoding="utf-8") as process,
    ):
        assert process.stdout is not None
        process.stdout.readline()
        first_token_after = time.perf_counter() - started_at
        facts = process.stdout.read()
        if process.wait():
            stderr.seek(0)
            output = stderr.read().decode(errors="replace").strip() or f"exit code {process.returncode}"
            raise NextokError(f"a process of its own could not run {options['model']}: {output.splitlines()[-1]}")
    return {"first token": first_token_after, **json.loads(facts)}


def draw_ids(lm: "LM", count: int) -> list[int]:
    """Random token ids, other ones at each call, so that no cache holds them."""
    return _dice.choices(range(lm.model.vocab_size), k=count)


def read_peak_memory() -> int | None:
    """The peak memory of this process, in bytes; None where the system does not tell.

    Pages of files that are mapped count while they are in memory.
    """
    with suppress(OSError, ValueError, IndexError):  # not getrusage on Linux: a child begins with its parent's peak
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    with suppress(ImportError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return None


def _run(options: dict[str, Any]) -> None:
    from nextok.loading import load

    started_at = time.perf_counter()
    lm = load(**options)
    load_seconds = time.perf_counter() - started_at
    ids = draw_ids(lm, max(1, min(PROMPT, lm.model.context // 2)))
    lm.generate(ids, max_tokens=1)
    print("the first token is there", flush=True)
    lm.generate(ids, max_tokens=TOKENS, ignore_eos=True)
    peak = read_peak_memory()
    print(json.dumps({"load": load_seconds} | ({} if peak is None else {"memory": peak})))


if __name__ == "__main__":
    _run(json.loads(sys.argv[1]))
