"""Builds GGUF bytes, right ones and wrong ones, from dictionaries."""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

CODES = {"u8": (0, "B"), "i8": (1, "b"), "u16": (2, "H"), "i16": (3, "h"), "u32": (4, "I"), "i32": (5, "i")}
CODES |= {"f32": (6, "f"), "bool": (7, "?"), "u64": (10, "Q"), "i64": (11, "q"), "f64": (12, "d")}
STRING, ARRAY = 8, 9
F32, F16, Q4_0, Q8_0, BF16 = 0, 1, 2, 8, 30


@dataclass
class Raw:
    """A metadata value given as its type and its very bytes."""

    type_: int
    data: bytes


@dataclass
class Weight:
    """A tensor: shape in numpy order, bytes, and, if it shall not lie where it should, its offset."""

    shape: tuple[int, ...]
    kind: int
    data: bytes
    offset: int | None = None


def u32(number: int) -> bytes:
    return struct.pack("<I", number)


def u64(number: int) -> bytes:
    return struct.pack("<Q", number)


def string(value: str | bytes) -> bytes:
    data = value if isinstance(value, bytes) else value.encode()
    return u64(len(data)) + data


def number(code: str, value: Any) -> Raw:
    type_, letter = CODES[code]
    return Raw(type_, struct.pack("<" + letter, value))


def array(code: str, values: list[Any]) -> Raw:
    """An array of "string" or of one of the numeric codes."""
    if code == "string":
        return Raw(ARRAY, u32(STRING) + u64(len(values)) + b"".join(map(string, values)))
    type_, letter = CODES[code]
    return Raw(ARRAY, u32(type_) + u64(len(values)) + struct.pack(f"<{len(values)}{letter}", *values))


def raw(value: Any) -> Raw:
    """A Python value as GGUF writers store it: int as u32, float as f32, list as an array of strings."""
    match value:
        case Raw():
            return value
        case bool():
            return number("bool", value)
        case int():
            return number("u32", value)
        case float():
            return number("f32", value)
        case str() | bytes():
            return Raw(STRING, string(value))
        case list():
            return array("string", value)
    raise TypeError(f"cannot write {value!r}")


def pairs(metadata: dict[str | bytes, Any]) -> list[bytes]:
    return [string(key) + u32(raw(value).type_) + raw(value).data for key, value in metadata.items()]


def tensor_info(name: str | bytes, weight: Weight, offset: int) -> bytes:
    dimensions = b"".join(u64(size) for size in reversed(weight.shape))
    return string(name) + u32(len(weight.shape)) + dimensions + u32(weight.kind) + u64(offset)


def gguf(
    metadata: dict[Any, Any], tensors: dict[Any, Weight], version: int = 3, alignment: int = 32, twice: int = 1
) -> bytes:
    """A whole file; `twice=2` writes every key and every tensor two times."""
    keys, infos, data = pairs(metadata) * twice, [], b""
    for name, weight in list(tensors.items()) * twice:
        infos.append(tensor_info(name, weight, len(data) if weight.offset is None else weight.offset))
        data += weight.data + bytes(-len(weight.data) % alignment)
    head = b"GGUF" + u32(version) + u64(len(infos)) + u64(len(keys)) + b"".join(keys) + b"".join(infos)
    return head + (bytes(-len(head) % alignment) + data if infos else b"")


def floats(*shape: int) -> Weight:
    values = np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32)
    return Weight(shape, F32, values.tobytes())


def q8_0(*shape: int) -> Weight:
    blocks = int(np.prod(shape)) // 32
    block = np.float16(0.25).tobytes() + bytes(range(32))
    return Weight(shape, Q8_0, block * blocks)


def tiny_metadata(architecture: str = "llama") -> dict[str, Any]:
    """Settings of a model with 2 layers, width 32, 4 heads, 2 key-value heads, 8 tokens."""
    settings = {
        "block_count": 2,
        "context_length": 128,
        "embedding_length": 32,
        "feed_forward_length": 64,
        "attention.head_count": 4,
        "attention.head_count_kv": 2,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.freq_base": 10000.0,
        "rope.dimension_count": 8,
    }
    return {
        "general.architecture": architecture,
        **{f"{architecture}.{key}": value for key, value in settings.items()},
        "tokenizer.ggml.tokens": ["<s>", "</s>", "a", "b", "ab", "é", "日", ""],
        "tokenizer.ggml.scores": array("f32", [0.0] * 8),
        "tokenizer.ggml.add_bos_token": True,
    }


def tiny_tensors(architecture: str = "llama") -> dict[str, Weight]:
    tensors = {"token_embd.weight": q8_0(8, 32), "output_norm.weight": floats(32)}
    for layer in range(2):
        block = {
            "attn_norm.weight": floats(32),
            "attn_q.weight": q8_0(32, 32),
            "attn_k.weight": floats(16, 32),
            "attn_v.weight": floats(16, 32),
            "attn_output.weight": q8_0(32, 32),
            "ffn_norm.weight": floats(32),
            "ffn_gate.weight": q8_0(64, 32),
            "ffn_up.weight": q8_0(64, 32),
            "ffn_down.weight": q8_0(32, 64),
        }
        if architecture == "qwen2":
            block |= {"attn_q.bias": floats(32), "attn_k.bias": floats(16), "attn_v.bias": floats(16)}
        if architecture == "qwen3":
            block |= {"attn_q_norm.weight": floats(8), "attn_k_norm.weight": floats(8)}
        tensors |= {f"blk.{layer}.{name}": weight for name, weight in block.items()}
    return tensors


def tiny(architecture: str = "llama") -> bytes:
    return gguf(tiny_metadata(architecture), tiny_tensors(architecture))
