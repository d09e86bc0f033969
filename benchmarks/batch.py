"""What a batch gains: 200 prompts of mixed lengths answered together, and one after another, on one machine.

    python benchmarks/batch.py [--model NAME] [--lines 200] [--rounds 3] [--ray]

The ratio of the seconds is printed (above 1: together was faster), median of the rounds, least and largest; the texts
must be the same. With --ray also the seconds of two processes over Ray Data, without and with their start, beside one
process with all threads. Nothing else may run.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import nextok as nt
from nextok.api.served import Served
from nextok.batch import run_batch
from nextok.batch.inputs import InFile

WORDS = ("the", "sea", "is", "a", "vast", "body", "of", "salt", "water", "that", "covers", "most", "earth", "and")


def make_lines(count):
    """Prompts of 5 to 200 words and texts of 8 to 128 tokens, the same in every run."""
    chance = random.Random(0)
    for number in range(count):
        prompt = " ".join(chance.choices(WORDS, k=chance.randint(5, 200)))
        body = {"prompt": prompt, "max_tokens": chance.randint(8, 128), "temperature": 0, "ignore_eos": True}
        yield json.dumps({"custom_id": f"{number}", "url": "/v1/completions", "body": body}).encode() + b"\n"


def open_model(model, threads=None):
    """Nothing is kept of ended texts, so that no round is helped by an earlier one."""
    return Served(nt.load(model, threads=threads, cache_memory=0), model)


def time_together(served, lines):
    """Seconds, and the answers."""
    answers, began = [], time.perf_counter()
    run_batch(served, lines, answers.append)
    return time.perf_counter() - began, answers


def time_in_turn(served, lines):
    """The same, each line when the one before has been answered."""
    answers, began = [], time.perf_counter()
    for line in lines:
        run_batch(served, [line], answers.append)
    return time.perf_counter() - began, answers


def time_ray(model, lines):
    """Seconds from the first answer to the last, seconds with the start, and the answers."""
    from nextok.batch.cluster import run_on_ray

    answers, first = [], []

    def write(line):
        first.append(time.perf_counter())
        answers.append(line)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "requests.jsonl")
        path.write_bytes(b"".join(lines))
        began = time.perf_counter()
        run_on_ray(partial(open_model, model, 1), InFile(str(path)), write, actors=2)
    return time.perf_counter() - first[0], time.perf_counter() - began, answers


def show(name, ratios):
    print(f"{name}: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


def measure(arguments):
    lines, ratios, seconds = list(make_lines(arguments.lines)), [], []
    with open_model(arguments.model).lm as lm:
        served = Served(lm, arguments.model)
        time_together(served, lines[:8])
        for _ in range(arguments.rounds):
            together, answers = time_together(served, lines)
            in_turn, others = time_in_turn(served, lines)
            if answers != others:
                sys.exit("the texts differ")
            ratios.append(in_turn / together)
            seconds.append(together)
    show("one after another / together", ratios)
    if arguments.ray:
        found = [time_ray(arguments.model, lines) for _ in range(arguments.rounds)]
        if any(each != answers for *_, each in found):
            sys.exit("the texts differ over Ray")
        pairs = list(zip(found, seconds))
        show("two processes over Ray, start included / one", [whole / one for (_, whole, _), one in pairs])
        show("two processes over Ray, from the first answer / one", [rest / one for (rest, *_), one in pairs])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--lines", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ray", action="store_true")
    measure(parser.parse_args())
