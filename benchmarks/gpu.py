"""The torch backend on a GPU: tokens per second, what speculation adds, and the share of the memory's bandwidth.

    python benchmarks/gpu.py                     SmolLM2 in bfloat16, then a model of 7B's shape with random weights
    python benchmarks/gpu.py --device cpu --quick      only to see that it runs

The bandwidth is that of copying a large tensor within the device, both ways counted.
"""

import argparse
import json
import statistics
import time
from datetime import date
from pathlib import Path

import torch

import nextok as nt
from nextok.formats.tensor import ModelConfig
from nextok.models.torch.llama import LlamaTorch
from nextok.models.torch.weights import Layer, Weights

COPIED = "Repeat this list twice, word for word: " + ", ".join(
    f"{colour} {thing}"
    for colour in ("red", "green", "blue", "white")
    for thing in ("house", "boat", "tree", "stone")
)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    device = torch.device(options.device)
    tokens = 8 if options.quick else 256
    bandwidth = copied(device, 1 << (24 if options.quick else 31))
    lm = nt.load("smollm2", backend="torch", device=options.device)
    results = {"bandwidth": bandwidth / 1e9, **smollm2(lm, tokens, options.rounds)}
    del lm
    large = random_model(device, layers=2 if options.quick else 32, width=512 if options.quick else 4096)
    lm = nt.LM(large, nt.load_tokenizer("smollm2"))
    speed = median(lambda: greedy(lm, [1, 2, 3], tokens), options.rounds)
    results["7B shape, greedy, tok/s"] = speed
    results["7B shape, share of the bandwidth"] = speed * large.bytes_per_token / bandwidth
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else "processor"
    print(json.dumps({"date": str(date.today()), "device": machine, "torch": torch.__version__, **results}, indent=1))


def smollm2(lm, tokens, rounds):
    """Tokens per second of one text, of many, and with prompt lookup where there is something to copy."""
    text = (Path(__file__).parent / "README.md").read_text()
    prompt = lm.tokenizer.encode(text)[:64]
    copy = lm.chat_ids(COPIED)
    lookup = nt.Speculate(nt.PromptLookup())
    found = {
        "greedy, 1 text, tok/s": median(lambda: greedy(lm, prompt, tokens), rounds),
        "greedy, 16 texts, tok/s": median(lambda: greedy(lm, prompt, tokens, 16), rounds),
    }
    found["beam search, width 4, steps/s"] = median(
        lambda: steps(lm, prompt, tokens, nt.Beam(4, early_stopping="never")), rounds
    )
    found["copying, plain, tok/s"] = median(lambda: steps(lm, copy, tokens, nt.Greedy()), rounds)
    found["copying, prompt lookup, tok/s"] = median(lambda: steps(lm, copy, tokens, lookup), rounds)
    return found


def greedy(lm, prompt, tokens, count=1):
    """Tokens per second after the first, of so many texts together."""
    outputs = lm.generate([prompt] * count, max_tokens=tokens, ignore_eos=True)
    taken = [each.stats.seconds - each.stats.seconds_to_first_token for each in outputs]
    return count * (tokens - 1) / max(taken)


def steps(lm, prompt, tokens, strategy):
    stats = lm.generate(prompt, strategy, max_tokens=tokens, ignore_eos=True).stats
    return (tokens - 1) / (stats.seconds - stats.seconds_to_first_token)


def median(measure, rounds):
    measure()  # records the graphs
    measure()
    return statistics.median(measure() for _ in range(rounds))


def copied(device, size):
    """Bytes read and written per second."""
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = []
    for _ in range(5):
        finished(device)
        started_at = time.perf_counter()
        target.copy_(source)
        finished(device)
        seconds.append(time.perf_counter() - started_at)
    return 2 * size / min(seconds)


def finished(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def random_model(device, layers, width):
    """Llama 2 7B's shape at 32 layers of width 4096, in bfloat16."""
    hidden, head = width * 43 // 16, 128
    config = ModelConfig(
        "llama", layers, width, width // head, width // head, head, hidden, 49_152, 4096, 1e-5, 1e4, head, True
    )

    def matrix(*shape):
        return torch.randn(shape, dtype=torch.bfloat16, device=device) / width**0.5

    def layer():
        ones = torch.ones(width, dtype=torch.bfloat16, device=device)
        q_k_v, output = ((matrix(3 * width, width), None),), ((matrix(width, width), None),)
        gate_up, down = ((matrix(2 * hidden, width), None),), ((matrix(width, hidden), None),)
        return Layer(ones, q_k_v, None, None, output, ones, gate_up, down)

    embedding = matrix(49_152, width)
    norm = torch.ones(width, dtype=torch.bfloat16, device=device)
    return LlamaTorch(config, Weights(embedding, tuple(layer() for _ in range(layers)), norm, embedding))


if __name__ == "__main__":
    main()
