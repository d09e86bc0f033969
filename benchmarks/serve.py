"""What HTTP costs: the server beside the library called directly, in turn, on one machine.

    python benchmarks/serve.py [--model NAME] [--rounds 7] [--tokens 64]

The server is a process of its own; its clients are tasks in this one. For 1 and for 16 greedy texts at once the
ratio of the library's seconds to the server's is printed (above 1: the server was faster), and how much later the
first token of a lone text comes, in milliseconds: medians of the rounds, least and largest. Nothing else may run.
"""

import argparse
import asyncio
import statistics
import sys
import time

import httpx
from serving_tools import free_port, nextok_command, running

import nextok as nt

SIZES = (1, 16)
PROMPT = "The sea is a vast body of salt water that covers most of the earth. "


def make_bodies(size, tokens):
    """Requests with different beginnings, so that nothing is read once for all."""
    return [
        {"prompt": f"{place} {PROMPT}", "max_tokens": tokens, "temperature": 0, "ignore_eos": True}
        for place in range(size)
    ]


async def time_server(client, bodies):
    """Seconds until all have been answered; the texts."""
    began = time.perf_counter()
    answers = await asyncio.gather(*(client.post("/v1/completions", json=body) for body in bodies))
    return time.perf_counter() - began, [answer.json()["choices"][0]["text"] for answer in answers]


def time_library(lm, bodies, tokens):
    """The same, called directly."""
    began = time.perf_counter()
    outputs = lm.generate([body["prompt"] for body in bodies], max_tokens=tokens, ignore_eos=True)
    return time.perf_counter() - began, [output.text for output in outputs]


async def time_first_token(client, body):
    """Seconds to the first event of a stream."""
    began = time.perf_counter()
    async with client.stream("POST", "/v1/completions", json=body | {"stream": True}) as answer:
        async for _ in answer.aiter_lines():
            return time.perf_counter() - began
    return sys.exit("the stream has no events")


def time_first_piece(lm, body, tokens):
    """The same of the library's stream."""
    began = time.perf_counter()
    with lm.stream(body["prompt"], max_tokens=tokens, ignore_eos=True) as stream:
        next(stream)
        return time.perf_counter() - began


def tell(name, values, unit=""):
    print(f"{name:34} {statistics.median(values):6.2f}{unit}  {min(values):.2f} to {max(values):.2f}", flush=True)


async def measure(lm, port, rounds, tokens):
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=600) as client:
        for size in SIZES:
            bodies, ratios = make_bodies(size, tokens), []
            for number in range(rounds + 1):
                direct, texts = time_library(lm, bodies, tokens)
                served, same = await time_server(client, bodies)
                if texts != same:
                    sys.exit("the server wrote other texts than the library")
                if number:  # the first round warms both up
                    ratios.append(direct / served)
            tell(f"throughput, {size} at once, x", ratios)
        later = []
        for _ in range(rounds):
            [body] = make_bodies(1, tokens)
            first = time_first_piece(lm, body, tokens)
            later.append(1000 * (await time_first_token(client, body) - first))
        tell("first token later by", later, " ms")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=64)
    options = parser.parse_args()
    port = free_port()
    with running(nextok_command(options.model, port, cache_memory=0), port):
        asyncio.run(measure(nt.load(options.model), port, options.rounds, options.tokens))


if __name__ == "__main__":
    main()
