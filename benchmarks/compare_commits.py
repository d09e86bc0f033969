"""`nextok bench` of two commits in turn, A B A B: the ratio of each figure, pair by pair.

    python benchmarks/compare_commits.py OLD/.venv/bin/python NEW/.venv/bin/python [--rounds 5]

Each commit stands built in its own environment. A ratio above 1 means that the second one is faster. The spread of
the pairs says how much the machine itself changed. Nothing else may run.
"""

import argparse
import json
import statistics
import subprocess
from collections import defaultdict

HIGHER_IS_FASTER = ("greedy", "beam", "prefill")
"""Figures in tokens or steps per second; all others are seconds, but for memory and bandwidth, which are left out."""
LEFT_OUT = ("bandwidth", "memory")


def measure(python, arguments):
    """The median of each figure of one run."""
    command = [python, "-m", "nextok", "bench", "--json", *arguments]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(f"{' '.join(command)}: {result.stderr.strip()}")
    samples = json.loads(result.stdout)["samples"]
    return {name: statistics.median(values) for name, values in samples.items() if name not in LEFT_OUT}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--arguments", default="--quick --rounds 3", help="those of nextok bench, in one string")
    options = parser.parse_args()
    arguments = options.arguments.split()
    ratios = defaultdict(list)
    for _ in range(options.rounds):
        old, new = measure(options.old, arguments), measure(options.new, arguments)
        for name in old:
            faster = new[name] / old[name] if name.startswith(HIGHER_IS_FASTER) else old[name] / new[name]
            ratios[name].append(faster)
    for name, values in ratios.items():
        print(f"{name:12} {statistics.median(values):6.3f}   {min(values):6.3f} to {max(values):6.3f}")


if __name__ == "__main__":
    main()
