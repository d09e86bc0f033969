"""How fast text comes: nextok, and transformers in float32 beside it if it is installed, measured in turn.

    python benchmarks/decode.py                    nextok alone
    python benchmarks/decode.py --peer PYTHON      and transformers in another Python that has torch and transformers

Each side is one process that waits while the other works. Every figure is taken in rounds A B A B ...; the median
is printed, with the ratio of each round where there are two sides. Results go to benchmarks/results/ as JSON.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

PROMPT = "<|im_start|>user\nWhy is the sky blue? Answer in two sentences.<|im_end|>\n<|im_start|>assistant\n"
TOKENS = 64
FIGURES = {
    "greedy, one text (tok/s)": "greedy 1",
    "greedy, 4 texts (tok/s)": "greedy 4",
    "greedy, 16 texts (tok/s)": "greedy 16",
    "beam search, width 4 (steps/s)": "beam 4",
    "prompt of 512 tokens (tok/s)": "prefill",
}


def ours(path):
    """Yield a function from a figure's key to tokens per second."""
    import nextok as nt

    lm = nt.load(path, backend=os.environ["BACKEND"])
    ids = lm.tokenizer.encode_chat(PROMPT)

    def measure(key):
        if key == "prefill":
            start = time.perf_counter()
            lm.generate(list(range(100, 612)), max_tokens=1)
            return 512 / (time.perf_counter() - start)
        kind, size = key.split()
        strategy = nt.Beam(int(size), early_stopping="never") if kind == "beam" else nt.Greedy()
        prompts = [ids] if kind == "beam" else [ids] * int(size)
        start = time.perf_counter()
        lm.generate(prompts, strategy, max_tokens=TOKENS, ignore_eos=True)
        return TOKENS * len(prompts) / (time.perf_counter() - start)

    return measure


def theirs(path):
    """The same for transformers in float32, on the same dequantised weights."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(os.cpu_count() or 1)
    folder, file = os.path.split(path)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32)
    ids = torch.tensor([json.loads(os.environ["PROMPT_IDS"])])

    def measure(key):
        if key == "prefill":
            start = time.perf_counter()
            with torch.no_grad():
                model(torch.arange(100, 612)[None], logits_to_keep=1)
            return 512 / (time.perf_counter() - start)
        kind, size = key.split()
        rows = ids if kind == "beam" else ids.expand(int(size), -1)
        beams = int(size) if kind == "beam" else 1
        start = time.perf_counter()
        model.generate(
            rows,
            attention_mask=torch.ones_like(rows),
            max_new_tokens=TOKENS,
            min_new_tokens=TOKENS,
            do_sample=False,
            num_beams=beams,
            repetition_penalty=1.0,
            pad_token_id=0,
        )
        return TOKENS * len(rows) / (time.perf_counter() - start)

    return measure


def work(side, path):
    """Answer the figures that come on stdin, one a line."""
    measure = {"ours": ours, "theirs": theirs}[side](path)
    print("ready", flush=True)
    for line in sys.stdin:
        print(measure(line.strip()), flush=True)


class Side:
    """One process that measures on demand."""

    def __init__(self, python, side, path):
        command = [python, __file__, "--work", side, "--model", path]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline().strip() != "ready":
            raise SystemExit(f"the {side} side did not start; see its message above")

    def measure(self, key):
        print(key, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2", help="name or path of a GGUF model")
    parser.add_argument("--peer", help="a Python with torch and transformers")
    parser.add_argument("--backend", default="native", choices=["native", "numpy", "torch"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        return work(options.work, options.model)

    import nextok as nt
    from nextok.hub import resolve

    path = str(resolve(options.model).path)
    os.environ["BACKEND"] = options.backend
    os.environ["PROMPT_IDS"] = json.dumps(nt.load_tokenizer(path).encode_chat(PROMPT))
    sides = {"nextok": Side(sys.executable, "ours", path)}
    if options.peer:
        sides["transformers"] = Side(options.peer, "theirs", path)
    results = {}
    for name, key in FIGURES.items():
        for side in sides.values():  # warm up
            side.measure(key)
        rounds = [{who: side.measure(key) for who, side in sides.items()} for _ in range(options.rounds)]
        medians = {who: round(statistics.median(each[who] for each in rounds), 1) for who in sides}
        results[name] = {"median": medians}
        line = f"{name:34}" + "".join(f"{who} {value:8.1f}   " for who, value in medians.items())
        if options.peer:
            ratios = sorted(each["nextok"] / each["transformers"] for each in rounds)
            results[name]["ratio"] = [round(ratios[i], 2) for i in (0, len(ratios) // 2, -1)]
            line += "ratio {1} ({0} to {2})".format(*results[name]["ratio"])
        print(line, flush=True)
    save(path, options.backend, results)
    return None


def save(path, backend, results):
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "")
    record = {
        "date": date.today().isoformat(),
        "machine": {"cpu": cpu.partition(":")[2].strip() or platform.processor(), "cores": os.cpu_count()},
        "commit": commit,
        "backend": backend,
        "model": Path(path).name,
        "tokens": TOKENS,
        "results": results,
    }
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    file = folder / f"decode-{backend}-{record['date']}.json"
    file.write_text(json.dumps(record, indent=1) + "\n")
    print(f"written to {file}")


if __name__ == "__main__":
    main()
