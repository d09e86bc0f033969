"""What a step of each strategy costs, in units of a greedy step of the same run.

    python benchmarks/steps.py          beams, samplers, a grammar; nothing else may run

Every strategy writes the same number of tokens after the same prompt, in rounds A B C A B C ...; the ratio to the
greedy step of its own round is taken, and the median printed with the least and the largest.
"""

import argparse
import json
import statistics
import subprocess
from datetime import date
from pathlib import Path

import nextok as nt

PROMPT, TOKENS = 500, 64
PENALTIES = {
    "repetition_penalty": 1.1,
    "presence_penalty": 0.2,
    "frequency_penalty": 0.1,
    "no_repeat_ngram_size": 4,
    "dry": nt.DRY(0.8),
}
FILTERS = {
    "top_p": 0.95,
    "min_p": 0.02,
    "typical_p": 0.97,
    "epsilon_cutoff": 1e-4,
    "eta_cutoff": 3e-4,
    "top_n_sigma": 3.0,
    "xtc": nt.XTC(0.3, 0.1),
}
MASKS = {"logit_bias": {1000: 1.0, 2000: -1.0}, "bad_words": ["nonsense"], "forbidden_token_ids": [3000]}
WORK = {
    "greedy": (nt.Greedy(), {}),
    "beam, width 4": (nt.Beam(4, early_stopping="never"), {}),
    "beam, width 8": (nt.Beam(8, early_stopping="never"), {}),
    "sampling": (nt.Sample(0.8), {}),
    "sampling, top-k 50": (nt.Sample(0.8, top_k=50), {}),
    "all filters": (nt.Sample(0.8, top_k=50, **FILTERS), {}),
    "all filters, no top-k": (nt.Sample(0.8, **FILTERS), {}),
    "all penalties": (nt.Greedy(**PENALTIES), {}),
    "all filters, penalties and masks": (nt.Sample(0.8, top_k=50, **FILTERS, **PENALTIES), MASKS),
    "log-probabilities, 5 alternatives": (nt.Greedy(), {"logprobs": 5}),
    "mirostat 2": (nt.Sample(mirostat=nt.Mirostat()), {}),
    "custom": (nt.Greedy(custom=lambda row: row), {}),
    "grammar (regex)": (nt.Greedy(), {"grammar": nt.Grammar.regex(r"[a-z ]{1000,2000}"), "ignore_eos": False}),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    lm = nt.load(options.model)
    text = (Path(__file__).parent / "README.md").read_text()
    ids = lm.tokenizer.encode(text)[:PROMPT]
    seconds = {name: [] for name in WORK}
    for number in range(options.rounds + 1):
        for name, (strategy, rules) in WORK.items():
            wishes = {"max_tokens": TOKENS, "ignore_eos": True, "seed": number, **rules}
            stats = lm.generate(ids, strategy, **wishes).stats
            if number:  # the first round warms up
                seconds[name].append((stats.seconds - stats.seconds_to_first_token) / (TOKENS - 1))
    results = []
    for name, taken in seconds.items():
        ratios = sorted(mine / greedy for mine, greedy in zip(taken, seconds["greedy"]))
        low, middle, high = ratios[0], statistics.median(ratios), ratios[-1]
        results.append({"what": name, "milliseconds": 1000 * statistics.median(taken), "ratio": [low, middle, high]})
        print(
            f"{name:36}{1000 * statistics.median(taken):8.2f} ms   x {middle:.2f} ({low:.2f} to {high:.2f})",
            flush=True,
        )
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    record = {"date": str(date.today()), "commit": commit, "model": lm.name, "prompt": PROMPT, "rows": results}
    target = Path(__file__).parent / "results" / f"steps-{date.today()}.json"
    target.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
