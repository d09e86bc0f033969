"""The same work on nextok and on other engines for CPUs, each in a process of its own, measured in turn.

    python benchmarks/peers.py --peers DIR                 all sides that DIR/peers.json names; README.md says how to
                                                           make DIR
    python benchmarks/peers.py --peers DIR --model FILE    nextok and each build of llama.cpp on another GGUF file

A side that cannot start is reported and left out; work that an engine cannot do is a dash. Every figure is taken in
rounds A B A B ... after a first time that does not count. A peer's ratio is nextok's figure divided by the peer's,
round by round: of the nextok side that reads the same file if there is one, else of the first. Run it on a machine
that does nothing else. Results go to benchmarks/results/ as JSON, all rounds of them.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
PROMPT = "<|im_start|>user\nWhy is the sky blue? Answer in two sentences.<|im_end|>\n<|im_start|>assistant\n"


class Figure(NamedTuple):
    """One line of the table: seconds of `method(*arguments)` become `amount` of work a second, or milliseconds."""

    name: str
    method: str
    arguments: tuple[int, ...]
    amount: int | None = None
    repeat: int = 1

    def of(self, seconds):
        return self.amount / seconds if self.amount else 1000 * seconds


def figures(tokens):
    """All that is measured on a side that stays, by key."""
    greedy = {f"greedy {size}": Figure(f"greedy, batch {size} (tok/s)", "greedy", (size, tokens), size * tokens)
              for size in (1, 4, 16)}  # fmt: skip
    rows = {f"rows {size}": Figure(f"pass of {size} rows (ms)", "rows", (size,), repeat=10)
            for size in (1, 2, 4, 8, 16)}  # fmt: skip
    return {
        **greedy,
        "beam 4": Figure("beam search, width 4 (steps/s)", "beam", (4, tokens), tokens),
        **rows,
        "prefill 512": Figure("prompt of 512 tokens (tok/s)", "prefill", (512,), 512),
        "deep 4000": Figure("greedy after 4,000 tokens (tok/s)", "deep", (4000, 32), 32),
    }


class Failed(Exception):
    """Why a side or a piece of work gives no figure."""


class Side:
    """One process that works on demand."""

    def __init__(self, entry, folder, threads, prompt):
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - as long as the process
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
        try:
            self.process = subprocess.Popen(
                [python_of(entry, folder), "-m", "sides"],
                cwd=HERE,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.log,
                text=True,
            )
        except OSError as error:
            raise Failed(str(error)) from None
        options = entry.get("options", {})
        model = str(folder / entry["model"])
        self.loaded = self.ask(kind=entry["kind"], model=model, threads=threads, prompt=prompt, **options)

    def ask(self, **request):
        """The process's answer; Failed with the last line of what it said if it is gone."""
        try:
            print(json.dumps(request), file=self.process.stdin, flush=True)
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if answer:
            return json.loads(answer)
        self.close()
        self.log.seek(0)
        last = [line.strip() for line in self.log if line.strip()][-1:]
        raise Failed(f"ended with {self.process.returncode}: {''.join(last)}")

    def work(self, figure):
        """One value of a figure, and the text that was written."""
        answer = self.ask(method=figure.method, arguments=figure.arguments, repeat=figure.repeat)
        if "error" in answer:
            raise Failed(answer["error"])
        return (figure.of(answer["seconds"]), answer["text"]) if answer else (None, None)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def python_of(entry, folder):
    """The interpreter of a side: a path, from the folder of peers.json on; this one if it names none."""
    return str(folder / entry["python"]) if "python" in entry else sys.executable


class Run:
    """All sides, what they were measured to do, and what went wrong."""

    def __init__(self, entries, folder, options):
        from nextok import load_tokenizer

        self.entries, self.folder, self.options = entries, folder, options
        self.prompt = load_tokenizer(folder / next(iter(entries.values()))["model"]).encode_chat(PROMPT)
        self.sides, self.versions, self.notes, self.problems, self.results, self.texts = {}, {}, {}, [], {}, {}

    def attempt(self, who, what, work):
        """What `work` returns, or None with the reason noted."""
        try:
            return work()
        except Failed as problem:
            self.problems.append(f"{who}, {what}: {problem}")
            print(self.problems[-1], file=sys.stderr, flush=True)
            if who in self.sides and self.sides[who].process.poll() is not None:
                del self.sides[who]
            return None

    def load(self):
        """Processes that load, write one text and end, in turn; then those that stay for the other figures."""
        text = figures(self.options.tokens)["greedy 1"]
        seconds, memory = [], []
        for _ in range(self.options.rounds):
            seconds.append({})
            memory.append({})
            for who in self.entries:
                side = self.attempt(who, "load", lambda who=who: self._start(who))
                if side is None:
                    continue
                seconds[-1][who] = side.loaded["seconds"]
                if self.attempt(who, "first text", lambda side=side: side.work(text)):
                    memory[-1][who] = side.ask(method="memory")["megabytes"]
                    side.close()
            self.entries = {who: self.entries[who] for who in self.entries if who in seconds[-1]}
        self._report("load, imports and all (s)", seconds)
        self._report("peak memory, one text (MB)", memory)
        for who in self.entries:
            side = self.attempt(who, "load", lambda who=who: self._start(who))
            if side:
                self.sides[who], self.versions[who] = side, side.loaded["versions"]

    def _start(self, who):
        return Side(self.entries[who], self.folder, self.options.threads, self.prompt)

    def measure(self, key, figure):
        """One figure of all sides; the first time does not count, but says what each side writes."""
        able = []
        for who, side in list(self.sides.items()):
            first = self.attempt(who, key, lambda side=side: side.work(figure))
            if first and first[0] is not None:
                able.append(who)
                if key == "greedy 1":
                    self.texts[who] = first[1]
        rounds = []
        for _ in range(self.options.rounds):
            values = {who: self.attempt(who, key, lambda who=who: self.sides[who].work(figure)) for who in able}
            rounds.append({who: value[0] for who, value in values.items() if value})
            able = [who for who in able if values[who]]
        self._report(figure.name, rounds)

    def _report(self, name, rounds):
        """Print one figure and keep it."""
        common = [who for who in self.entries if all(who in values for values in rounds)]
        medians = {who: round(median(values[who] for values in rounds), 3) for who in common}
        ratios = {}
        for who in common:
            ours = self._ours(who)
            if ours in common and not self._is_ours(who):
                each = sorted(values[ours] / values[who] for values in rounds)
                ratios[who] = {"of": ours} | dict(
                    zip(("median", "least", "most"), (round(x, 3) for x in (median(each), each[0], each[-1])))
                )
        self.results[name] = {"median": medians, "ratio": ratios, "rounds": rounds}
        print(f"\n{name}")
        for who in self.entries:
            line = f"{medians[who]:10.1f}" if who in medians else f"{'–':>10}"
            if who in ratios:
                line += "   {of} / it {median:.2f} ({least:.2f} to {most:.2f})".format(**ratios[who])
            print(f"  {who:24}{line}", flush=True)

    def _is_ours(self, who):
        return self.entries[who]["kind"] == "nextok"

    def _ours(self, who):
        """The nextok side that `who` is compared with: of the same file, else the first."""
        ours = [each for each in self.entries if self._is_ours(each)]
        same = [each for each in ours if self.entries[each]["model"] == self.entries[who]["model"]]
        return (same or ours or [None])[0]

    def finish(self):
        """How much of each text is what nextok writes, the notes of the sides, and the end of all processes."""
        agreement = {}
        for who, text in self.texts.items():
            ours = self.texts.get(self._ours(who), text)
            agreement[who] = next((at for at, pair in enumerate(zip(text, ours)) if pair[0] != pair[1]), len(text))
        print(f"\ntokens of greedy text before the first that differs from nextok's: {agreement}")
        for who, side in self.sides.items():
            self.notes[who] = side.ask(method="memory")
            side.close()
        return agreement


def saved(run, agreement, started):
    """Write everything to the file of results."""
    git = ["git", "-C", str(HERE), "describe", "--always", "--dirty"]
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "")
    record = {
        "date": started["date"],
        "machine": {"cpu": cpu.partition(":")[2].strip() or platform.processor(), "cores": os.cpu_count()},
        "system": platform.platform(),
        "load average": {"before": started["load"], "after": os.getloadavg()},
        "commit": subprocess.run(git, capture_output=True, text=True).stdout.strip(),
        "threads": run.options.threads,
        "tokens": run.options.tokens,
        "sides": run.entries,
        "versions": run.versions,
        "at the end": run.notes,
        "same greedy tokens": agreement,
        "problems": run.problems,
        "results": run.results,
    }
    stem = f"peers-{Path(run.options.model).stem}" if run.options.model else "peers"
    file = Path(run.options.out or HERE / "results" / f"{stem}-{started['date'][:10]}.json")
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(record, indent=1) + "\n")
    print(f"written to {file}")


def chosen(options):
    """The sides that the arguments ask for, as {name: entry of peers.json}, nextok first."""
    folder = Path(options.peers)
    entries = json.loads((folder / "peers.json").read_text())
    if options.model:
        model = str(Path(options.model).resolve())
        builds = dict.fromkeys(entry["python"] for entry in entries.values() if entry["kind"] == "llama_cpp")
        sides = {
            build.removesuffix("/bin/python"): {"kind": "llama_cpp", "python": build, "model": model}
            for build in builds
        }
        entries = {"nextok": {"kind": "nextok", "model": model}, **sides}
    wanted = [part for part in options.sides.split(",") if part]
    return {who: entry for who, entry in entries.items() if not wanted or any(part in who for part in wanted)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", required=True, metavar="DIR", help="a folder with peers.json")
    parser.add_argument("--model", help="a GGUF file, for nextok and llama.cpp alone")
    parser.add_argument("--sides", default="", help="only sides with one of these in their names: nextok,llama")
    parser.add_argument("--figures", default="", help="only figures whose keys begin like this: 'greedy 1,rows'")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=64, help="to write in each text")
    parser.add_argument("--out", help="the file of results")
    options = parser.parse_args()
    started = {"date": datetime.now().isoformat(timespec="seconds"), "load": os.getloadavg()}
    run = Run(chosen(options), Path(options.peers).resolve(), options)
    run.load()
    wanted = tuple(options.figures.split(","))
    for key, figure in figures(options.tokens).items():
        if f"{key} ".startswith(tuple(f"{each} " if each else "" for each in wanted)):
            run.measure(key, figure)
    saved(run, run.finish(), started)


if __name__ == "__main__":
    main()
