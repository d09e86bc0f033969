"""One file for each engine: how it does the work that `benchmarks/peers.py` measures.

Each has a class `Side(model, threads, prompt, **options)` with `versions`, and of these methods those that the engine
is capable of. Each prepares and returns a function; only that function is timed, and it returns lists of token ids.

- `greedy(batch, tokens)`: read the prompt and write `tokens` tokens after it, in `batch` texts at once
- `beam(width, tokens)`: the same by beam search; the best text
- `rows(count)`: after the prompt, read `count` more tokens in one pass and find the best next token of each
- `prefill(count)`: read a prompt of `count` tokens, find the best next token
- `deep(depth, tokens)`: write `tokens` tokens after a text of `depth` tokens that has been read before

End tokens end nothing. The engines are imported by their files alone, since no Python has them all.
"""


def filler(count, first=100):
    """Token ids that stand for a text; what they say costs nobody anything."""
    return list(range(first, first + count))
