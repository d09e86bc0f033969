"""Twenty thousand damaged GGUF files: each is read whole or refused, at once and in one line."""

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf_writer as w
from gguf_writer import Raw, Weight, u64
from nextok.errors import ModelFileError
from nextok.formats import open_gguf

HUGE = (2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40, 2**53, 2**61, 2**62, 2**63 - 1, 2**63, 2**64 - 1)


def flipped(data: bytearray, choose: random.Random) -> None:
    for _ in range(choose.randint(1, 4)):
        data[choose.randrange(len(data))] ^= 1 << choose.randrange(8)


def flipped_in_header(data: bytearray, choose: random.Random) -> None:
    for _ in range(choose.randint(1, 4)):
        data[choose.randrange(2000)] = choose.randrange(256)


def cut(data: bytearray, choose: random.Random) -> None:
    del data[choose.randrange(choose.choice((100, 2500, len(data)))) :]


def huge(data: bytearray, choose: random.Random) -> None:
    at = choose.randrange(2500)
    data[at : at + choose.choice((0, 8))] = u64(choose.choice(HUGE))


def swapped(data: bytearray, choose: random.Random) -> None:
    size = choose.randint(1, 200)
    one, two = choose.randrange(2500), choose.randrange(2500)
    data[one : one + size], data[two : two + size] = data[two : two + size], data[one : one + size]


def removed(data: bytearray, choose: random.Random) -> None:
    at = choose.randrange(2500)
    del data[at : at + choose.randint(1, 16)]


def odd_number(choose: random.Random) -> int:
    return choose.choice((0, 1, 2, 7, 8, 31, 33, *HUGE))


def odd_value(choose: random.Random) -> Any:
    code = choose.choice([*w.CODES])
    number = choose.choice((0, 1, -1, 3, 127)) if code not in ("f32", "f64") else choose.choice((-1.0, 1e30, 0.0))
    number = abs(number) if code[0] == "u" else number
    return choose.choice((w.number(code, number), w.array(code, [number]), "", "yarn", ["a"] * 9, Raw(9, b"")))


def rebuilt(choose: random.Random) -> bytes:
    """A well-formed file with one to three wrong settings or tensors."""
    architecture = choose.choice(("llama", "mistral", "qwen2", "qwen3"))
    settings, weights = w.tiny_metadata(architecture), w.tiny_tensors(architecture)
    for _ in range(choose.randint(1, 3)):
        key, name = choose.choice([*settings]), choose.choice([*weights])
        weight = weights[name]
        match choose.randrange(8):
            case 0:
                settings[key] = odd_value(choose)
            case 1:
                settings.pop(key) if len(settings) > 1 else None
            case 2:
                weights.pop(name) if len(weights) > 1 else None
            case 3:
                sizes = (odd_number(choose) for _ in range(choose.randint(0, 5)))
                weights[name] = Weight(tuple(sizes), weight.kind, weight.data)
            case 4:
                weights[name] = Weight(weight.shape, choose.randrange(45), weight.data)
            case 5:
                offset = choose.choice((32, 64, 1024, odd_number(choose)))
                weights[name] = Weight(weight.shape, weight.kind, weight.data, offset)
            case 6:
                weights[choose.choice([*weights]) + choose.choice(("", "x", "\n"))] = weights.pop(name)
            case 7:
                rotated = weight.shape[::-1]
                weights[name] = Weight(rotated, weight.kind, weight.data)
    return w.gguf(settings, weights, choose.choice((2, 3)))


MUTATIONS: list[Callable[[bytearray, random.Random], None]]
MUTATIONS = [flipped, flipped_in_header, cut, huge, swapped, removed]


def mutant(valid: bytes, choose: random.Random) -> bytes:
    data = bytearray(rebuilt(choose) if choose.random() < 0.4 else valid)
    if data == valid or choose.random() < 0.2:
        choose.choice(MUTATIONS)(data, choose)
    return bytes(data)


def test_8_000_mutants_are_read_or_refused(tmp_path: Path) -> None:
    choose, valid, path = random.Random(20_000), w.tiny(), tmp_path / "mutant.gguf"
    messages, slowest = [], 0.0
    for _ in range(8_000):
        path.unlink(missing_ok=True)  # a mapped file must not change
        path.write_bytes(mutant(valid, choose))
        start = time.process_time()
        try:
            tensors = open_gguf(path).tensors
            tensor = tensors[choose.choice([*tensors])]
            assert tensor.to_float32().shape == tensor.shape
        except ModelFileError as error:
            messages.append(str(error))
        slowest = max(slowest, time.process_time() - start)
    assert slowest < 1
    assert 4_000 < len(messages) < 8_000
    assert all(message.isprintable() for message in messages)
