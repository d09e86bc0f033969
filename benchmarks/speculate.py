"""What speculation is worth: each prompt plain and speculative, one right after the other.

    python benchmarks/speculate.py                 prompt lookup, by kind of work and temperature, on an idle machine
    python benchmarks/speculate.py --equal         no clock: are all texts the same, token for token?
    python benchmarks/speculate.py --model LARGE --draft SMALL
                                                   a draft model: ten prompts fixed beforehand, greedy, each alone
    python benchmarks/speculate.py --model LARGE --draft SMALL --busy
                                                   the same LM after a minute in which another process had the cores

The prompts are those of benchmarks/prompts.json. A text in which a small model only repeats itself would flatter
any draft: it is counted and left out. Results go to benchmarks/results/ as JSON.
"""

import argparse
import json
import statistics
import subprocess
import sys
from datetime import date
from pathlib import Path

import nextok as nt

HERE = Path(__file__).parent
COPYING = ("summarise", "edit", "extract")
TEMPERATURES = (0.0, 0.7, 1.0)
LIMITS = (1, 4, 10)
LONGEST_PERIOD, LOOP = 32, 64
PAIR_PROMPTS = (("chat", range(0, 36, 7)), ("edit", (0, 5)), ("summarise", (3,)), ("extract", (2,)))
"""The ten prompts for a pair of models: kind of work, and places in prompts.json."""
BUSY_TOKENS = 48
"""Tokens that are written while other processes keep all cores busy."""


def loops(tokens):
    """Whether somewhere so many tokens in a row repeat what stood a short period before."""
    for period in range(1, LONGEST_PERIOD + 1):
        run = 0
        for before, token in zip(tokens, tokens[period:]):
            run = run + 1 if before == token else 0
            if run >= LOOP - period:
                return True
    return False


def sampling(temperature):
    return nt.Greedy() if temperature == 0 else nt.Sample(temperature)


def timed(lm, ids, strategy, tokens, seed):
    """The output, and its seconds per token after the first."""
    output = lm.generate(ids, strategy, max_tokens=tokens, seed=seed)
    stats = output.stats
    return output, (stats.seconds - stats.seconds_to_first_token) / max(1, stats.generated_tokens - 1)


def pairs(lm, prompts, temperature, tokens):
    """Each prompt's plain and speculative output and their seconds per token."""
    plain = sampling(temperature)
    speculative = nt.Speculate(nt.PromptLookup(), plain)
    rows = []
    for seed, prompt in enumerate(prompts):
        ids = lm.chat_ids(prompt)
        pair = {}
        for strategy in (plain, speculative) if seed % 2 else (speculative, plain):
            pair[strategy] = timed(lm, ids, strategy, tokens, seed)
        (one, slow), (two, fast) = pair[plain], pair[speculative]
        if one.tokens != two.tokens:
            raise SystemExit(f"different texts at temperature {temperature}: {prompt!r}")
        rows.append((one, two, slow, fast))
    return rows


def summary(rows):
    """What a table says of such pairs."""
    kept = [row for row in rows if not loops(row[0].tokens) and len(row[0].tokens) >= 16]
    stats = [two.stats for _, two, _, _ in kept]
    passes = sum(each.verifications for each in stats)
    work = [(len(one.tokens) - 1, slow, fast) for one, _, slow, fast in kept]
    return {
        "texts": len(kept),
        "loops": sum(loops(row[0].tokens) for row in rows),
        "ratio": sum(n * slow for n, slow, _ in work) / sum(n * fast for n, _, fast in work),
        "median_ratio": statistics.median(slow / fast for _, slow, fast in work),
        "worst_ratio": min(slow / fast for _, slow, fast in work),
        "drafted_per_pass": sum(each.drafted for each in stats) / passes,
        "accepted_per_pass": sum(each.accepted for each in stats) / passes,
        "acceptance": sum(each.accepted for each in stats) / max(1, sum(each.drafted for each in stats)),
        "plain_tokens_per_second": sum(n for n, _, _ in work) / sum(n * slow for n, slow, _ in work),
    }


def speeds(lm, prompts, tokens):
    heads = f"{'texts':>5} {'loops':>5} {'x':>6} {'median':>6} {'worst':>6} {'drafted':>8}"
    print(f"{'':10} {'T':>4} {heads} accepted a pass")
    results = []
    kinds = {kind: prompts[kind] for kind in (*COPYING, "chat")}
    for temperature in TEMPERATURES:
        taken = {kind: pairs(lm, asked, temperature, tokens) for kind, asked in kinds.items()}
        taken["copying"] = [row for kind in COPYING for row in taken[kind]]
        for kind, rows in taken.items():
            row = summary(rows)
            results.append({"kind": kind, "temperature": temperature, **row})
            print(
                f"{kind:10} {temperature:4} {row['texts']:5} {row['loops']:5} {row['ratio']:6.2f} "
                f"{row['median_ratio']:6.2f} {row['worst_ratio']:6.2f} {row['drafted_per_pass']:8.2f} "
                f"{row['accepted_per_pass']:8.2f} ({row['acceptance']:.0%})",
                flush=True,
            )
    return results


def pair_of_models(lm, small, prompts, tokens, busy):
    """Ten prompts, plain, with the small model as draft, and with prompt lookup before it.

    Printed are each prompt's ratios, and those of all tokens over all seconds.
    """
    plain, drafts = nt.Greedy(), (nt.DraftModel(small), nt.Drafts(nt.PromptLookup(), nt.DraftModel(small)))
    strategies, ids = (plain, *map(nt.Speculate, drafts)), lm.chat_ids("Warm up.")
    lm.generate(ids, max_tokens=4)
    if busy:
        others = [subprocess.Popen([sys.executable, "-c", "while True: sum(range(9999))"]) for _ in range(4)]
        try:
            lm.generate(lm.chat_ids(prompts["chat"][1]), strategies[1], max_tokens=BUSY_TOKENS)
        finally:
            for other in others:
                other.kill()
    rows = []
    for place, prompt in enumerate(prompts[kind][each] for kind, places in PAIR_PROMPTS for each in places):
        ids, found = lm.chat_ids(prompt), {}
        for strategy in strategies[place % 3 :] + strategies[: place % 3]:
            found[strategy] = lm.generate(ids, strategy, max_tokens=tokens)
        outputs = [found[strategy] for strategy in strategies]
        if any(output.tokens != outputs[0].tokens for output in outputs):
            raise SystemExit(f"different texts: {prompt!r}")
        seconds = [output.stats.seconds - output.stats.seconds_to_first_token for output in outputs]
        rows.append((len(outputs[0].tokens) - 1, *seconds))
        told = [
            f"{seconds[0] / second:5.2f} x, {output.stats.accepted:3} of {output.stats.drafted:3} in "
            f"{output.stats.passes:2} passes"
            for output, second in zip(outputs[1:], seconds[1:])
        ]
        print(f"{place:2} {rows[-1][0]:4} tokens  {'   '.join(told)}  {prompt[:40]!r}", flush=True)
    total = [sum(column) for column in zip(*rows)]
    print(f"plain: {total[0] / total[1]:.1f} tokens/s")
    for place, draft in enumerate(drafts, 2):
        ratios = statistics.median(row[1] / row[place] for row in rows)
        print(f"{total[1] / total[place]:.2f} x, median prompt {ratios:.2f} x: {type(draft).__name__}")


def equalities(lm, prompts, tokens):
    """Every prompt, plain and with each limit, in one batch; the number of different texts."""
    asked = [lm.chat_ids(prompt) for each in prompts.values() for prompt in each]
    different = 0
    for temperature in TEMPERATURES:
        plain = lm.generate(asked, sampling(temperature), max_tokens=tokens, seed=1)
        for limit in LIMITS:
            strategy = nt.Speculate(nt.PromptLookup(limit), sampling(temperature))
            outputs = lm.generate(asked, strategy, max_tokens=tokens, seed=1)
            wrong = sum(one.tokens != two.tokens for one, two in zip(plain, outputs))
            accepted = sum(output.stats.accepted for output in outputs)
            written = sum(len(output.tokens) for output in outputs)
            different += wrong
            print(
                f"T {temperature}, at most {limit:2} drafted: {len(asked)} texts, {written} tokens, "
                f"{accepted} of them accepted drafts, {wrong} texts different",
                flush=True,
            )
    return different


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--equal", action="store_true")
    parser.add_argument("--draft", help="a small model of the same vocabulary")
    parser.add_argument("--busy", action="store_true", help="first write some tokens while the machine is busy")
    options = parser.parse_args()
    lm = nt.load(options.model)
    prompts = json.loads((HERE / "prompts.json").read_text())
    if options.draft:
        pair_of_models(lm, nt.load(options.draft), prompts, options.tokens, options.busy)
        return
    if options.equal:
        raise SystemExit(equalities(lm, prompts, options.tokens) > 0)
    lm.generate("Warm up.", nt.Speculate(nt.PromptLookup()), max_tokens=64)
    results = speeds(lm, prompts, options.tokens)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    record = {
        "date": str(date.today()),
        "commit": commit,
        "model": lm.name,
        "tokens": options.tokens,
        "rows": results,
    }
    (HERE / "results" / f"speculate-{date.today()}.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
