"""Batches for tests: a small model in a file, which any process can load, and lines of requests."""

import json

import numpy as np

from gguf_writer import F32, Weight, array, gguf, tiny_metadata, tiny_tensors
from nextok.text.vocabulary import build_byte_alphabet
from tiny import EOS, TEMPLATE, VOCAB


def write_model(path):
    """A Llama of random weights over bytes; its tokens are those of tiny.py."""
    letters = {byte: letter for letter, byte in build_byte_alphabet().items()}
    metadata = tiny_metadata() | {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": [*(letters[byte] for byte in range(256)), "ĠĠ", "<eos>", "<user>"],
        "tokenizer.ggml.token_type": array("i32", [1] * 257 + [3, 3]),
        "tokenizer.ggml.merges": ["Ġ Ġ"],
        "tokenizer.ggml.eos_token_id": EOS,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": TEMPLATE,
        "llama.context_length": 256,
    }
    del metadata["tokenizer.ggml.scores"]
    random = np.random.default_rng(0)
    tensors = {}
    for name, weight in tiny_tensors().items():
        shape = (VOCAB, 32) if name == "token_embd.weight" else weight.shape
        values = np.ones(shape) if "norm" in name else random.standard_normal(shape) / 4
        tensors[name] = Weight(shape, F32, values.astype(np.float32).tobytes())
    path.write_bytes(gguf(metadata, tensors))
    return path


def ask(custom_id, **body):
    """A line that asks for a completion."""
    body = {"prompt": f"the {custom_id}", "max_tokens": 12} | body
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": "/v1/completions", "body": body}) + "\n"


def chat(custom_id, text="hi", **body):
    """A line that asks for an answer in a chat."""
    body = {"messages": [{"role": "user", "content": text}], "max_tokens": 12} | body
    line = {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}
    return json.dumps(line) + "\n"


def mixed(count):
    """Requests of many lengths."""
    makers = (ask, chat)
    return "".join(makers[i % 2](f"line-{i}", max_tokens=1 + (i * 7) % 23) for i in range(count))
