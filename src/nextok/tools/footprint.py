"""What a model costs a process of its own: its start, its first token, and memory at the peak.

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
_dice = random.Random(0)


def measure_footprint(**options: Any) -> dict[str, float]:
    """Start Python, load a model with these options and decode a little: what that took, in seconds and bytes."""
    started_at = time.perf_counter()
    command = [sys.executable, "-m", "nextok.tools.footprint", json.dumps(options)]
    none, pipe = subprocess.DEVNULL, subprocess.PIPE
    with (
        TemporaryFile() as stderr,  # a pipe that nobody reads meanwhile could fill up
        subprocess.Popen(command, stdin=none, stdout=pipe, stderr=stderr, encoding="utf-8") as process,
    ):
        assert process.stdout is not None
        process.stdout.readline()
        first_token_after = time.perf_counter() - started_at
        facts = process.stdout.read()
        if process.wait():
            stderr.seek(0)
            said = stderr.read().decode(errors="replace").strip() or f"exit code {process.returncode}"
            raise NextokError(f"a process of its own could not run {options['model']}: {said.splitlines()[-1]}")
    return {"first token": first_token_after, **json.loads(facts)}


def draw_ids(lm: "LM", count: int) -> list[int]:
    """Token ids to be read where it does not matter which; others each time, so that nothing of them is known yet."""
    return _dice.choices(range(lm.model.vocab_size), k=count)


def read_peak_memory() -> int | None:
    """The most memory that this process ever had at once, in bytes; None where the system does not say.

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
