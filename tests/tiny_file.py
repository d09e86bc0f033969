"""A GGUF file of a model of bytes with random weights: small enough for many passes a second."""

from pathlib import Path

import numpy as np

from gguf_writer import F32, Weight, array, gguf
from tiny import VOCAB, tiny_vocabulary

LAYERS, WIDTH, HEADS, KV_HEADS, HIDDEN = 2, 64, 4, 2, 128
LETTERS = range(ord("a"), ord("z") + 1)


def tiny_file(context: int = 4096, seed: int = 1) -> bytes:
    """A whole file. Its model writes small letters; now and then, where it samples, another byte or the end."""
    head = WIDTH // HEADS
    settings = {
        "block_count": LAYERS,
        "context_length": context,
        "embedding_length": WIDTH,
        "feed_forward_length": HIDDEN,
        "attention.head_count": HEADS,
        "attention.head_count_kv": KV_HEADS,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.freq_base": 10000.0,
        "rope.dimension_count": head,
    }
    vocabulary = tiny_vocabulary()
    vocabulary["tokenizer.ggml.token_type"] = array("i32", vocabulary["tokenizer.ggml.token_type"])
    metadata = {"general.architecture": "llama"} | {f"llama.{key}": value for key, value in settings.items()}
    random = np.random.default_rng(seed)

    def matrix(rows: int, columns: int, deviation: float = 0.2) -> Weight:
        return _pack(random.normal(0, deviation, (rows, columns)))

    output = random.normal(0, 0.4, (VOCAB, WIDTH))
    output[[token for token in range(VOCAB) if token not in LETTERS]] = 0
    tensors = {
        "token_embd.weight": matrix(VOCAB, WIDTH, 1.0),
        "output_norm.weight": _pack(np.ones(WIDTH)),
        "output.weight": _pack(output),
    }
    for layer in range(LAYERS):
        block = {
            "attn_norm": _pack(np.ones(WIDTH)),
            "attn_q": matrix(WIDTH, WIDTH),
            "attn_k": matrix(KV_HEADS * head, WIDTH),
            "attn_v": matrix(KV_HEADS * head, WIDTH),
            "attn_output": matrix(WIDTH, WIDTH),
            "ffn_norm": _pack(np.ones(WIDTH)),
            "ffn_gate": matrix(HIDDEN, WIDTH),
            "ffn_up": matrix(HIDDEN, WIDTH),
            "ffn_down": matrix(WIDTH, HIDDEN),
        }
        tensors |= {f"blk.{layer}.{name}.weight": weight for name, weight in block.items()}
    return gguf(metadata | vocabulary, tensors)


def write_tiny_file(folder: Path, context: int = 4096) -> Path:
    """The file, as `tiny.gguf` in a folder."""
    path = folder / "tiny.gguf"
    path.write_bytes(tiny_file(context))
    return path


def _pack(values: np.ndarray) -> Weight:
    return Weight(values.shape, F32, values.astype(np.float32).tobytes())
