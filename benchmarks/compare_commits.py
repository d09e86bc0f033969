"""The speed of two commits, measured in turn every second, so that a machine whose speed drifts does not matter.

    python benchmarks/compare_commits.py OLD/.venv/bin/python NEW/.venv/bin/python [--rounds 20] [--model NAME]

Each commit stands built in its own environment, and runs in a process that stays. A ratio above 1 means that the
second one is faster: the median of the pairs, and their quartiles. Nothing else may run.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections import defaultdict

SIDE = """
import json, sys, time
import nextok as nt
lm = nt.load(sys.argv[1])
ids = lm.tokenizer.encode("The sea is a vast body of salt water that covers most of the earth.")
long = (ids * 40)[:512]
figures = {
    "greedy 1": lambda: lm.generate(ids, max_tokens=64, ignore_eos=True),
    "greedy 4": lambda: lm.generate([ids[: 8 + n] for n in range(4)], max_tokens=48, ignore_eos=True),
    "greedy 16": lambda: lm.generate([ids[: 2 + n] for n in range(16)], max_tokens=24, ignore_eos=True),
    "sampling": lambda: lm.generate(ids, nt.Sample(0.8, 50, 0.95), max_tokens=64, seed=1, ignore_eos=True),
    "beam 4": lambda: lm.generate(ids, nt.Beam(4), max_tokens=32, ignore_eos=True),
    "prompt 512": lambda: lm.generate(long, max_tokens=1),
    "stream": lambda: list(lm.stream(ids, max_tokens=64, ignore_eos=True)),
}
for line in sys.stdin:
    began = time.perf_counter()
    figures[json.loads(line)]()
    print(time.perf_counter() - began, flush=True)
"""
FIGURES = ("greedy 1", "greedy 4", "greedy 16", "sampling", "beam 4", "prompt 512", "stream")


def start(python, model):
    """A process that measures a figure for each line that it is sent."""
    command = [python, "-c", SIDE, model]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def measure(side, figure):
    """Seconds of one figure."""
    side.stdin.write(json.dumps(figure) + "\n")
    side.stdin.flush()
    answer = side.stdout.readline()
    if not answer:
        sys.exit("a side has ended: see its error above")
    return float(answer)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--model", default="smollm2")
    options = parser.parse_args()
    old, new = (start(python, options.model) for python in (options.old, options.new))
    ratios = defaultdict(list)
    for number in range(-1, options.rounds):
        for figure in FIGURES:
            sides = (old, new) if number % 2 else (new, old)
            seconds = {side: measure(side, figure) for side in sides}
            if number >= 0:  # the first round warms up
                ratios[figure].append(seconds[old] / seconds[new])
    for figure, values in ratios.items():
        low, median, high = statistics.quantiles(values, n=4)
        print(f"{figure:12} {median:6.3f}   {low:6.3f} to {high:6.3f}")
    for side in (old, new):
        side.stdin.close()
        side.wait()


if __name__ == "__main__":
    main()
