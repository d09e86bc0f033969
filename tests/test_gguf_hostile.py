"""No GGUF file, however damaged, does more than raise ModelFileError: at once, in one line, in little memory."""

import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gguf_writer as w
from gguf_writer import Raw, Weight, u32, u64
from nextok.errors import ModelFileError
from nextok.formats import open_gguf

HEAD = b"GGUF" + u32(3)


def metadata(**changes: Any) -> bytes:
    """The small model with settings changed; None removes one. `__` stands for a dot."""
    changed = w.tiny_metadata() | {key.replace("__", "."): value for key, value in changes.items()}
    return w.gguf({key: value for key, value in changed.items() if value is not None}, w.tiny_tensors())


def llama(**changes: Any) -> bytes:
    return metadata(**{f"llama.{key}": value for key, value in changes.items()})


def tensors(architecture: str = "llama", **changes: Weight | None) -> bytes:
    """The small model with tensors changed, added or (None) removed."""
    changed = w.tiny_tensors(architecture) | {key.replace("__", "."): value for key, value in changes.items()}
    kept = {name: weight for name, weight in changed.items() if weight is not None}
    return w.gguf(w.tiny_metadata(architecture), kept)


def one_key(key: str | bytes, value: Any) -> bytes:
    return w.gguf({key: value}, {})


def one_tensor(shape: tuple[int, ...], kind: int = w.F32, size: int = 64, offset: int | None = None) -> bytes:
    return w.gguf({}, {"token_embd.weight": Weight(shape, kind, bytes(size), offset)})


def truncations() -> Iterator[tuple[str, bytes, str]]:
    """A file of one key and one tensor, cut in the middle of each of its fields."""
    whole = w.gguf({"k": w.array("u32", [1, 2])}, {"t": w.floats(2, 3)})
    ends = {"magic": 4, "version": 8, "tensor count": 16, "key count": 24, "key length": 32, "key": 33}
    ends |= {"value type": 37, "element type": 41, "array length": 49, "array": 57, "name length": 65, "name": 66}
    ends |= {"dimension count": 70, "dimensions": 86, "kind": 90, "offset": 98, "padding": 128, "data": 152}
    assert ends["data"] == len(whole) - 8  # less the padding behind the only tensor
    for field, end in ends.items():
        yield f"truncated in {field}", whole[: end - 1], "truncated|begin with"


def container_cases() -> Iterator[tuple[str, bytes, str]]:
    yield from truncations()
    yield "empty", b"", "empty"
    yield "another magic", b"GGML" + bytes(100), "begin with 'GGUF'"
    yield "version 0", b"GGUF" + u32(0) + bytes(16), "version 0"
    yield "version 1", b"GGUF" + u32(1) + bytes(16), "version 1"
    yield "version 4", b"GGUF" + u32(4) + bytes(16), "version 4"
    yield "big-endian", b"GGUF" + u32(3)[::-1] + bytes(16), "big-endian"
    yield (
        "43 bytes that hang the public package",
        (HEAD + u64(0) + u64(1) + w.string("k") + u32(w.ARRAY) + u32(0) + u64(2**63))[:43],
        "truncated",
    )
    for number in (65_537, 2**63, 2**64 - 1):
        yield f"{number} keys", HEAD + u64(0) + u64(number), "keys are announced"
        yield f"{number} tensors", HEAD + u64(number) + u64(0), "tensors are announced"
        yield f"key of {number} bytes", HEAD + u64(0) + u64(1) + u64(number), "bytes of a key"
        yield f"name of {number} bytes", HEAD + u64(1) + u64(0) + u64(number), "bytes of a tensor name"
    yield "more keys than there are", HEAD + u64(0) + u64(60_000), "truncated"
    yield "more tensors than there are", HEAD + u64(60_000) + u64(0), "truncated"
    for code, type_ in {"u8": 0, "u64": 10, "f64": 12, "bool": 7, "string": w.STRING}.items():
        for length in (4 << 20, 2**61, 2**63, 2**64 - 1):
            value = Raw(w.ARRAY, u32(type_) + u64(length))
            yield f"array of {length} {code}", one_key("k", value), "announced"
    yield "string of 16 MiB", one_key("k", Raw(w.STRING, u64(1 << 24))), "announced"
    yield "string of 2^63", one_key("k", Raw(w.STRING, u64(2**63))), "announced"
    texts = Raw(w.ARRAY, u32(w.STRING) + u64(3) + w.string("a") + u64(2**63))
    yield "string of 2^63 in an array", one_key("k", texts), "announced"
    texts = Raw(w.ARRAY, u32(w.STRING) + u64(2) + w.string("a") + u64(1) + b"\xff")
    yield "string in an array is not UTF-8", one_key("k", texts), "not UTF-8"
    yield "nested array", one_key("k", Raw(w.ARRAY, u32(w.ARRAY) + u64(1) + u32(0) + u64(0))), "holds arrays"
    nested = (u32(w.ARRAY) + u64(1)) * 50_000
    yield "array nested 50,000 deep", one_key("k", Raw(w.ARRAY, nested)), "holds arrays"
    yield "value type 13", one_key("k", Raw(13, bytes(8))), "type 13"
    yield "element type 2^32-1", one_key("k", Raw(w.ARRAY, u32(2**32 - 1) + u64(1))), "type 4294967295"
    yield "boolean of 2", one_key("k", Raw(7, b"\x02")), "neither 0 nor 1"
    yield "boolean of 255 in an array", one_key("k", Raw(w.ARRAY, u32(7) + u64(2) + b"\x01\xff")), "neither 0 nor 1"
    yield "key is not UTF-8", one_key(b"\xff\xfe", 1), "not UTF-8"
    yield "value is not UTF-8", one_key("k", b"\xc3("), "not UTF-8"
    yield "tensor name is not UTF-8", w.gguf({}, {b"\x80": w.floats(8)}), "not UTF-8"
    yield "duplicate key", w.gguf({"two\nlines": 1}, {}, twice=2), "twice"
    yield "duplicate tensor", w.gguf({}, {"t\r\n": w.floats(8)}, twice=2), "twice"


def tensor_cases() -> Iterator[tuple[str, bytes, str]]:
    yield "no dimensions", one_tensor(()), "0 dimensions"
    yield "five dimensions", one_tensor((1,) * 5), "5 dimensions"
    many = HEAD + u64(1) + u64(0) + w.string("t") + u32(2**32 - 1) + bytes(64)
    yield "2^32-1 dimensions", many, "dimensions"
    yield "dimension of 0", one_tensor((0, 4)), "holds nothing"
    yield "product wraps to 0", one_tensor((2**32, 2**32)), "truncated"
    yield "product wraps to 4", one_tensor((2**62 + 1, 4)), "truncated"
    yield "four huge dimensions", one_tensor((2**64 - 1,) * 4), "truncated"
    yield "dimension of -1", one_tensor((2**64 - 1,)), "truncated"
    yield "row is not whole blocks", one_tensor((2, 31), w.Q8_0), "blocks of 32"
    yield "kind Q2_K", one_tensor((256,), 10), "'Q2_K' is not read"
    yield "kind IQ4_NL", one_tensor((256,), 20), "'IQ4_NL' is not read"
    yield "withdrawn kind", one_tensor((256,), 4), "is not read"
    yield "unknown kind", one_tensor((256,), 2**32 - 1), "'4294967295' is not read"
    yield "data missing", one_tensor((1000,)), "truncated"
    yield "last byte missing", w.gguf({}, {"t": w.floats(8)})[:-1], "truncated, 1 bytes"
    yield "offset outside", one_tensor((4,), offset=1 << 20), "truncated"
    yield "offset not aligned", one_tensor((4,), offset=4), "multiple of 32"
    yield "offset 2^64-32", one_tensor((4,), offset=2**64 - 32), "truncated"
    pair = {"a": w.floats(16), "b": Weight((16,), w.F32, bytes(64), offset=32)}
    yield "tensors overlap", w.gguf({}, pair), "overlaps"
    pair["b"].offset = 0
    yield "tensors at one place", w.gguf({}, pair), "overlaps"
    for value in (0, 1, 3, 48, 2**31, w.number("u64", 2**40), w.number("i32", -32), 32.0, "32", True):
        shown = value if not isinstance(value, Raw) else value.data.hex()
        yield f"alignment {shown!r}", w.gguf({"general.alignment": value}, {}), "general.alignment"


def setting_cases() -> Iterator[tuple[str, bytes, str]]:
    required = ["block_count", "context_length", "embedding_length", "feed_forward_length"]
    required += ["attention.head_count", "attention.layer_norm_rms_epsilon"]
    for key in required:
        yield f"no {key}", llama(**{key: None}), f"llama.{key} is missing"
        yield f"{key} is a string", llama(**{key: "2"}), f"llama.{key} is '2'"
        yield f"{key} is an array", llama(**{key: w.array("u32", [2, 2])}), rf"llama.{key} is \[2, 2\]"
        yield f"{key} is 0", llama(**{key: 0}), f"llama.{key} is 0"
        yield f"{key} is negative", llama(**{key: w.number("i64", -4)}), f"llama.{key} is -4"
        yield f"{key} is 2^64-1", llama(**{key: w.number("u64", 2**64 - 1)}), f"llama.{key} is 18446"
    for key in ("attention.head_count_kv", "attention.key_length", "rope.dimension_count"):
        for value in (0, True, 2.0, w.number("i32", -1), w.number("u64", 2**63)):
            yield f"{key} is {value}", llama(**{key: value}), f"llama.{key} is"
    for key in ("attention.layer_norm_rms_epsilon", "rope.freq_base", "rope.scaling.factor"):
        for number in (float("nan"), float("inf"), -1.0, 0.0):
            yield f"{key} is {number}", llama(**{key: number}), f"llama.{key} is"
    yield "no architecture", metadata(general__architecture=None), "general.architecture is missing"
    yield "architecture is a number", metadata(general__architecture=7), "general.architecture is 7"
    for name in ("gemma3", "phi3", "llama4", "", "LLAMA", "llama\nmistral", "x" * 10_000):
        unknown = metadata(general__architecture=name)
        yield f"architecture {name[:20]!r}", unknown, "not supported: choose a model of llama, mistral, qwen2, qwen3"
    yield "experts", llama(expert_count=8), "expert_count is 8"
    yield "not causal", llama(**{"attention.causal": False}), "causal is False"
    yield "capped logits", llama(final_logit_softcapping=30.0), "softcapping is 30"
    yield "an adapter", metadata(general__type="adapter"), "general.type is 'adapter'"
    yield "one of three parts", metadata(split__count=w.number("u16", 3)), "gguf-split --merge"
    for name in ("yarn", "longrope", "su", ""):
        yield f"rope scaling {name!r}", llama(**{"rope.scaling.type": name}), "rope scaling"
    yield "more heads than width", llama(**{"attention.head_count": 64}), "key_length is missing"
    yield "heads cannot share", llama(**{"attention.head_count_kv": 3}), "cannot share"
    yield "more key-value heads than heads", llama(**{"attention.head_count_kv": 8}), "cannot share"
    yield "rotary width is odd", llama(**{"rope.dimension_count": 7}), "must be even"
    yield "rotary width above head width", llama(**{"rope.dimension_count": 10}), "at most the head width"
    yield "values have another width", llama(**{"attention.value_length": 16}), "value_length is 16"
    yield "more tokens than rows", metadata(tokenizer__ggml__tokens=["a"] * 9), "do not fit the vocabulary"


def model_cases() -> Iterator[tuple[str, bytes, str]]:
    for name in w.tiny_tensors():
        if not name.startswith("blk.1"):
            yield f"no {name}", tensors(**{name: None}), name
    yield "embedding of one dimension", tensors(token_embd__weight=w.floats(32)), "has shape"
    yield "embedding of another width", tensors(token_embd__weight=w.floats(8, 16)), r"not \(8, 32\)"
    yield "query turned", tensors(blk__0__attn_k__weight=w.floats(32, 16)), "attn_k.weight has shape"
    yield "norm of two dimensions", tensors(output_norm__weight=w.floats(1, 32)), "has shape"
    yield "output of another vocabulary", tensors(output__weight=w.floats(9, 32)), "has shape"
    yield "bias of another width", tensors(blk__1__ffn_up__bias=w.floats(65)), "has shape"
    yield "a layer too many", tensors(blk__2__attn_norm__weight=w.floats(32)), "blk.2"
    yield "a layer written 00", tensors(blk__00__attn_norm__weight=w.floats(32)), "blk.00"
    yield "experts' gate", tensors(blk__0__ffn_gate_inp__weight=w.floats(8, 32)), "no part of a llama model"
    yield "norms of queries in llama", tensors(blk__0__attn_q_norm__weight=w.floats(8)), "no part of a llama"
    yield "a tensor of another model", tensors(position_embd__weight=w.floats(8, 32)), "position_embd"
    yield "rope table of another length", tensors(rope_freqs__weight=w.floats(5)), "rope_freqs"
    yield "rope table with 0", tensors(rope_freqs__weight=Weight((4,), w.F32, bytes(16))), "no divisor"
    nan = np.full(4, np.nan, np.float32).tobytes()
    yield "rope table with NaN", tensors(rope_freqs__weight=Weight((4,), w.F32, nan)), "no divisor"
    yield "qwen2 without bias", tensors("qwen2", blk__1__attn_v__bias=None), "attn_v.bias is missing"
    yield "qwen3 without norm", tensors("qwen3", blk__0__attn_q_norm__weight=None), "attn_q_norm.weight is missing"
    yield "a thousand layers announced", llama(block_count=1000), "blk.2.attn_norm.weight is missing"


CASES = [*container_cases(), *tensor_cases(), *setting_cases(), *model_cases()]


def test_there_are_many_cases_of_different_names() -> None:
    assert len({name for name, _, _ in CASES}) == len(CASES) >= 60


@pytest.mark.parametrize(("data", "message"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(data)
    start = time.process_time()
    with pytest.raises(ModelFileError, match=message) as caught:
        open_gguf(path)
    assert time.process_time() - start < 1
    text = str(caught.value)
    assert text.startswith("bad.gguf: ")
    assert text.isprintable()
    assert len(text) < 400


def test_no_case_takes_much_memory(tmp_path: Path) -> None:
    tracemalloc.start()
    for number, (_, data, _) in enumerate(CASES):
        path = tmp_path / f"{number}.gguf"
        path.write_bytes(data)
        with pytest.raises(ModelFileError):
            open_gguf(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20
