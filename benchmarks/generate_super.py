"""generate_super against the loop of the tutorial that it began with, which reads the whole text anew for each token.

    python benchmarks/generate_super.py          Happy-LLM models of both published shapes; nothing else may run

The loop is written here in the plainest PyTorch, on the same random weights and threads: greedy, sampling and beam
search, one prompt and four. Rounds A B C A B C ...; the median of each round's ratio is printed with the least and
the largest.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import torch

import nextok as nt
from nextok.formats import open_model
from nextok.formats.quantize import quantize_checkpoint
from nextok.models.native import NativeModel

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from happy_folder import write_checkpoint, write_tokenizer
from happy_llm import random_transformer

SHAPES = {"82M (768 x 12)": {"dim": 768, "n_layers": 12}, "215M (1024 x 18)": {"dim": 1024, "n_layers": 18}}
VOCAB, PROMPT, TOKENS = 6144, 32, 128
WORK = {
    "greedy, 1 text": (1, {}),
    "greedy, 4 texts": (4, {}),
    "sampling, temperature 0.8, top-k 50": (1, {"do_sample": True, "temperature": 0.8, "top_k": 50}),
    "beam search, width 3": (1, {"num_beams": 3}),
}


@torch.inference_mode()
def loop(model, tokens, count, do_sample=False, temperature=1.0, top_k=None, num_beams=1):
    """The tutorial's strategies without a cache: a full pass over every text for each of its tokens."""
    if num_beams > 1:
        return beams(model, tokens, count, num_beams)
    for _ in range(count):
        logits = model(tokens).logits[:, -1]
        if do_sample:
            best = (logits / temperature).topk(top_k or logits.shape[-1])
            drawn = best.indices.gather(-1, best.values.softmax(-1).multinomial(1))
        else:
            drawn = logits.argmax(-1, keepdim=True)
        tokens = torch.cat([tokens, drawn], 1)
    return tokens[:, -count:]


def beams(model, tokens, count, width):
    """One pass for each beam, as in the tutorial."""
    live = [(tokens, 0.0)]
    for _ in range(count):
        grown = []
        for text, score in live:
            best = model(text).logits[0, -1].log_softmax(-1).topk(width)
            pairs = zip(best.indices, best.values.tolist())
            grown += [(torch.cat([text, token.view(1, 1)], 1), score + logprob) for token, logprob in pairs]
        live = sorted(grown, key=lambda beam: -beam[1])[:width]
    return live[0][0][:, -count:]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=TOKENS)
    options = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = nt.load_tokenizer(write_tokenizer(Path(folder) / "tokenizer_k"))
        for shape, sizes in SHAPES.items():
            model = random_transformer(vocab_size=VOCAB, n_heads=16, n_kv_heads=8, **sizes)
            path = write_checkpoint(Path(folder) / f"{sizes['dim']}.pth", model, model.args.config())
            sides = {
                "native": nt.LM(NativeModel(open_model(path)), tokenizer),
                "native, exact": nt.LM(NativeModel(open_model(path), exact=True), tokenizer),
                "native, q8_0": nt.LM(NativeModel(quantize_checkpoint(open_model(path), "q8_0")), tokenizer),
                "the module itself (torch)": model,
            }
            results += [{"model": shape, **row} for row in compared(model, sides, options)]
    print(json.dumps({"date": str(date.today()), "torch_threads": torch.get_num_threads(), "results": results}))


def compared(model, sides, options):
    """For each kind of work the seconds of the loop, and each side's ratio to it within a round."""
    for name, (rows, wishes) in WORK.items():
        prompt = torch.randint(5, 300, (rows, PROMPT), generator=torch.Generator().manual_seed(1))
        seconds = {side: [] for side in ("loop", *sides)}
        for _ in range(options.rounds):
            seconds["loop"].append(timed(loop, model, prompt, options.tokens, **wishes))
            for side, held in sides.items():
                taken = timed(nt.generate_super, held, prompt, max_new_tokens=options.tokens, seed=1, **wishes)
                seconds[side].append(taken)
        row = {"work": name, "loop_seconds": statistics.median(seconds["loop"])}
        for side in sides:
            ratios = sorted(slow / quick for slow, quick in zip(seconds["loop"], seconds[side]))
            row[side] = {"ratio": statistics.median(ratios), "from": ratios[0], "to": ratios[-1]}
        print(json.dumps(row), file=sys.stderr, flush=True)
        yield row


def timed(work, *arguments, **wishes):
    started_at = time.perf_counter()
    work(*arguments, **wishes)
    return time.perf_counter() - started_at


if __name__ == "__main__":
    main()
