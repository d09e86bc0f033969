"""The native core: the numpy model's numbers, and to the last bit independent of batch, chunks, branches, threads."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import nextok as nt
from nextok import _native
from nextok.core.query import Draws, Pick, Row, Top
from nextok.engine.engine import Engine
from nextok.errors import LogitsError
from nextok.formats import open_model
from nextok.formats.quants import KINDS
from nextok.formats.tensor import Checkpoint, Tensor
from nextok.models.base import Feed
from nextok.models.llama_numpy import LlamaNumpy
from nextok.models.native import NativeModel
from nextok.readout.readout import read
from nextok.sampling.edits import Forbid
from nextok.sampling.sampler import Sampler
from nextok.sampling.transforms import Custom, Surprise, Temperature, TopK
from test_native_readout import same
from test_numpy_model import CLOSE, FIXTURE, TOKENS, difference, in_memory, straight, write_folder
from test_numpy_model import CONFIG as SMALL
from toys import BEAMS, SAMPLINGS, STRATEGIES, Lent, asked, by_engine, by_reference, outcome

ISAS = _native.instruction_sets()
TEXTS = json.loads((Path(__file__).parent / "fixtures" / "greedy.json").read_text())["texts"]
VOCAB = 97
DICE = np.random.default_rng(3)
LONG = DICE.integers(0, VOCAB, 330).tolist()  # more than a chunk of attention


def logits(model, *feeds):
    return model.logits(feeds)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", FIXTURE)
def test_exact_logits_equal_those_of_transformers(name, isa, tmp_path):
    model = NativeModel(open_model(write_folder(tmp_path, name)), exact=True, isa=isa)
    expected = np.array(FIXTURE[name]["logits"])
    assert difference(logits(model, straight(model, TOKENS)), expected) < CLOSE


# --- quantised weights, and the last bit ------------------------------------------------------------------------

CONFIG = replace(
    SMALL, width=64, head_width=16, rope_width=16, rope_interleaved=True, hidden=96, vocab_size=VOCAB, context=512
)
WIDE = replace(CONFIG, width=256, hidden=512, head_width=64, rope_width=64)  # K formats have blocks of 256
SIZES = {"Q8_0": 0.1, "Q4_K": 0.02, "Q5_K": 0.01, "Q6_K": 0.005}  # of a scale, for weights of about the same size


def shapes(config):
    """The matrices of one layer."""
    d, q, kv = config.width, config.heads * config.head_width, config.kv_heads * config.head_width
    shapes = {"attn_q": (q, d), "attn_k": (kv, d), "attn_v": (kv, d), "attn_output": (d, q)}
    return shapes | {"ffn_gate": (config.hidden, d), "ffn_up": (config.hidden, d), "ffn_down": (d, config.hidden)}


def quantised(name, kind, shape, dice):
    """Random blocks of a storage format with scales that keep the numbers near one."""
    known = KINDS[kind]
    blocks = np.frombuffer(dice.bytes(known.count_bytes(shape)), known.layout).copy()
    size = SIZES.get(kind, 1.0) * (64 / shape[1]) ** 0.5
    for field in {"scale", "minimum"} & set(blocks.dtype.names):
        centre = 1 if field == "scale" else 8 if kind.endswith("K") else -8  # K formats subtract their minimum
        blocks[field] = centre * size * dice.uniform(0.004, 0.02, blocks[field].shape)
    data = np.frombuffer(blocks.tobytes(), np.uint8)
    return Tensor(name, shape, kind, data, known.decode)


def rounded(name, kind, values):
    """Numbers in F32, F16 or BF16."""
    known = KINDS[kind]
    bits = np.asarray(values, np.float32).view(np.uint32) >> 16
    stored = {"F32": np.float32(values), "F16": np.float16(values), "BF16": bits.astype(np.uint16)}[kind]
    return Tensor(name, values.shape, kind, np.frombuffer(stored.tobytes(), np.uint8), known.decode)


def checkpoint(kind, seed=1):
    """A small random Llama, its matrices in one storage format."""
    dice = np.random.default_rng(seed)
    config = WIDE if kind.endswith("_K") else CONFIG
    norms = ["output_norm", *(f"blk.{i}.{part}" for i in range(config.layers) for part in ("attn_norm", "ffn_norm"))]
    tensors = {f"{name}.weight": 1 + 0.2 * dice.standard_normal(config.width) for name in norms}
    tensors = {name: in_memory(name, values) for name, values in tensors.items()}
    tensors["token_embd.weight"] = in_memory("token_embd.weight", dice.standard_normal((VOCAB, config.width)))
    for layer in range(config.layers):
        for part, shape in shapes(config).items():
            name = f"blk.{layer}.{part}.weight"
            tensors[name] = (
                rounded(name, kind, 0.2 * (64 / shape[1]) ** 0.5 * dice.standard_normal(shape))
                if kind in FLOATS
                else quantised(name, kind, shape, dice)
            )
    return Checkpoint(config, tensors, {})


FLOATS = ["F32", "F16", "BF16"]
FORMATS = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K", *FLOATS]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kind", FORMATS)
def test_every_storage_format_computes_what_its_numbers_say(kind, isa):
    reference = LlamaNumpy(checkpoint(kind))
    expected = reference.logits(reference.forward([straight(reference, LONG)]))
    assert expected.std() > 0.5
    exact = NativeModel(checkpoint(kind), exact=True, isa=isa)
    assert difference(logits(exact, straight(exact, LONG)), expected) < CLOSE * np.abs(expected).max()
    model = NativeModel(checkpoint(kind), isa=isa)
    fast = logits(model, straight(model, LONG))
    # Floating weights meet floating activations, and only the cache is shorter by half.
    assert np.abs(fast - expected).mean() < (0.001 if kind in FLOATS else 0.03) * expected.std()
    assert (fast != expected).any() or (kind in FLOATS and isa == "portable")


@pytest.fixture(
    scope="module",
    params=[
        (kind, isa, exact)
        for kind in ("Q4_1", "Q8_0", "Q5_0", "Q6_K", "F16")
        for isa in ISAS
        for exact in (False, True)
    ],
    ids=str,
)
def model(request):
    kind, isa, exact = request.param
    return NativeModel(checkpoint(kind), exact=exact, isa=isa, threads=2)


def last(model, tokens):
    return logits(model, straight(model, tokens, rows=[len(tokens) - 1]))[0]


@pytest.mark.parametrize("rows", [2, 3, 4, 7, 8, 16, 33])
def test_a_row_does_not_depend_on_the_other_rows_of_the_pass(model, rows):
    texts = [LONG[i : i + 1 + 3 * i % 40] for i in range(rows)]
    together = logits(model, *(straight(model, text, rows=[len(text) - 1]) for text in texts))
    order = np.random.default_rng(rows).permutation(rows)
    shuffled = logits(model, *(straight(model, texts[i], rows=[len(texts[i]) - 1]) for i in order))
    for i in range(0, rows, 5):
        assert (together[i] == last(model, texts[i])).all()
    assert (shuffled == together[order]).all()


@pytest.fixture(scope="module")
def whole(model):
    """The logits of every token of LONG, read in one pass."""
    return logits(model, straight(model, LONG))


@pytest.mark.parametrize(("size", "length"), [(1, 130), (5, len(LONG)), (64, len(LONG))])
def test_a_text_read_in_chunks_equals_the_whole_to_the_last_bit(model, whole, size, length):
    cache = model.open()
    parts = [straight(model, LONG[i : i + size], cache, i) for i in range(0, length, size)]
    assert (np.concatenate([logits(model, part) for part in parts]) == whole[:length]).all()


@pytest.mark.parametrize("depth", [3, 70, 250, 310])
def test_a_branch_equals_its_path_read_straight_to_the_last_bit(model, depth):
    cache, trunk = model.open(), LONG[:depth]
    logits(model, straight(model, trunk, cache))
    # Two branches of two tokens below the trunk, in slots that are out of order.
    a, b, c, d = depth + 5, depth + 1, depth + 20, depth + 3
    feed = Feed(cache, [5, 6, 7, 8], [a, b, c, d], [depth] * 4, [(a,), (b,), (a, c), (b, d)], [2, 3])
    assert (logits(model, feed) == [last(model, [*trunk, 5, 7]), last(model, [*trunk, 6, 8])]).all()
    cache.move([a, c, b, d], [b, depth, c, a])
    e, f = depth + 30, depth + 31
    moved = Feed(cache, [9, 9], [e, f], [depth] * 2, [(b, depth, e), (c, a, f)], [0, 1])
    paths = [[*trunk, 5, 7, 9], [*trunk, 6, 8, 9]]
    assert (logits(model, moved) == [last(model, path) for path in paths]).all()


@pytest.mark.parametrize("length", [20, 300])
def test_a_long_tail_in_scattered_slots_equals_the_straight_path_to_the_last_bit(model, length):
    """Slots in reverse order above a trunk of seven, beside the trunk itself: long and short looks in one feed."""
    text = LONG[: 7 + length]
    cache, straight_cache = model.open(), model.open()
    expected = logits(model, straight(model, text, straight_cache))
    slots = [*range(7), *range(7 + length - 1, 6, -1)]
    tails = [()] * 7 + [tuple(slots[7 : i + 1]) for i in range(7, 7 + length)]
    feed = Feed(cache, text, slots, [*range(1, 8), *[7] * length], tails, list(range(len(text))))
    assert (logits(model, feed) == expected).all()


@pytest.mark.parametrize("threads", [1, 3, 5])
def test_threads_change_nothing(threads):
    one, other = NativeModel(checkpoint("Q4_1"), threads=2), NativeModel(checkpoint("Q4_1"), threads=threads)
    assert (logits(one, straight(one, LONG)) == logits(other, straight(other, LONG))).all()


@pytest.mark.parametrize("name", SAMPLINGS | BEAMS)
def test_the_engine_equals_the_reference_without_exception(name):
    model = NativeModel(checkpoint("Q4_1"))
    engine, running = Engine(model, budget=37), []
    for seed in range(8):
        request = asked(LONG[seed : seed + 40], seed=seed, stop_ids=frozenset({3}))
        engine.submit(request, STRATEGIES[name], lambda event: None)
        running.append((request, asked(LONG[seed : seed + 40], seed=seed, stop_ids=frozenset({3}))))
    engine.run()
    for request, alone in running:
        by_reference(STRATEGIES[name], alone, model)
        assert outcome(request) == outcome(alone)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_speculation_never_changes_the_text_without_exception(sampling):
    model, other = NativeModel(checkpoint("Q4_1")), Lent(NativeModel(checkpoint("Q4_1", seed=2)))
    drafts = [
        nt.PromptLookup(shortest=1),
        nt.DraftModel(other, 4),
        nt.DraftModel(Lent(model), 4),
        nt.TokenTree(other),
    ]
    for seed in range(6):
        plain = asked(LONG[:20] * 2, seed=seed, max_tokens=30)
        by_engine(SAMPLINGS[sampling], plain, model)
        for draft in drafts:
            speculative = asked(LONG[:20] * 2, seed=seed, max_tokens=30)
            by_engine(nt.Speculate(draft, SAMPLINGS[sampling]), speculative, model)
            assert outcome(speculative) == outcome(plain)


class Told:
    """A core that tells which of its functions were called."""

    def __init__(self, core):
        self.core, self.calls = core, []

    def __getattr__(self, name):
        self.calls.append(name)
        return getattr(self.core, name)


def test_rows_that_need_python_are_answered_in_the_same_pass():
    """A function, and mirostat, of which two rows need to know what was chosen in an earlier one."""
    model = NativeModel(checkpoint("F32"), exact=True)
    scores = logits(model, straight(model, LONG[:8]))
    reversed_row = Custom(lambda row: row[::-1])
    surprise = Surprise(2, 3.0, 0.9, 6.0)

    def rows(first):
        reads = [
            Pick(Sampler((Temperature(0.8), TopK(5)))),
            Pick(Sampler((reversed_row,), noise=False)),
            Pick(Sampler((surprise,))),
            Top(4, (Forbid(frozenset({1})), surprise)),
            Pick(Sampler((surprise, reversed_row))),
            Pick(Sampler(noise=False)),
            Pick(Sampler((Custom(lambda row: row[1:]),))),
            Draws(3),
        ]
        after = {3: (2, first), 4: (2, first)}
        return [Row(index, read, 7, 9, logprobs=2, after=after.get(index)) for index, read in enumerate(reads)]

    first = read(scores, rows(0))[2].token
    expected = read(scores, rows(first))
    model._core = Told(model._core)
    found = model.answer([straight(model, LONG[:8])], rows(first))
    assert model._core.calls == ["open", "answer"]
    assert all(map(same, expected, found))
    assert isinstance(found[6], ValueError)
    # The control: where the earlier row chose another token, the later rows are answered otherwise.
    other = read(scores, rows(first + 1))
    assert [same(*pair) for pair in zip(other, found)] == [True] * 3 + [False] * 2 + [True] * 3


FORK = """
import os, sys
sys.path.insert(0, sys.argv[1])
from test_native import LONG, NativeModel, checkpoint, last
model = NativeModel(checkpoint("Q4_1"), threads=3)
before = last(model, LONG)
child = os.fork()
assert (last(model, LONG) == before).all()
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_has_no_threads_and_goes_on_without_them():
    command = [sys.executable, "-W", "ignore", "-c", FORK, str(Path(__file__).parent)]
    subprocess.run(command, check=True, timeout=60)


# --- what the core refuses --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"tokens": [VOCAB]},
        {"tokens": [-1]},
        {"slots": [-1]},
        {"slots": [1 << 30]},
        {"seen": [0]},
        {"seen": [600]},
        {"seen": [-5]},
        {"tails": [(1 << 30,)]},
        {"tails": [(-1,)]},
        {"rows": [1]},
        {"rows": [-1]},
    ],
    ids=str,
)
def test_every_index_is_checked_before_anything_is_touched(change):
    model = NativeModel(checkpoint("Q8_0"))
    feed = straight(model, [1])
    for field, value in change.items():
        setattr(feed, field, value)
    with pytest.raises(ValueError, match=r"token|slot|row"):
        logits(model, feed)
    with pytest.raises(ValueError, match="slot"):
        model.open().move([-1], [0])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["output_norm.weight", "blk.0.attn_norm.weight", "blk.1.ffn_norm.weight"])
def test_scores_that_are_no_numbers_fail_their_own_request(name, value, isa):
    broken = checkpoint("Q8_0")
    broken.tensors[name] = in_memory(name, np.full(64, value))
    request = asked([1, 2])
    by_engine(nt.Greedy(), request, NativeModel(broken, isa=isa))
    assert isinstance(request.error, LogitsError)


def test_settings_are_refused_by_name(monkeypatch):
    for threads in (0, 2.5, 1000):
        with pytest.raises(ValueError, match="threads must be"):
            NativeModel(checkpoint("Q8_0"), threads=threads)
    monkeypatch.setenv("NEXTOK_ISA", "sse9")
    with pytest.raises(ValueError, match="sse9"):
        NativeModel(checkpoint("Q8_0"))


# --- the real model -----------------------------------------------------------------------------------------------


@pytest.mark.model
def test_exact_precision_writes_the_texts_of_transformers():
    lm = nt.load("smollm2", backend="native", precision="exact")
    outputs = lm.generate([text["prompt"] for text in TEXTS.values()], max_tokens=64, ignore_eos=True)
    for text, output in zip(TEXTS.values(), outputs):
        assert output.tokens[: text["tie"]] == text["tokens"][: text["tie"]]


@pytest.mark.model
def test_fast_precision_stays_near():
    """Over 2,500 positions: the distance of the distributions, and how often the best token is the same."""
    lm, reference = nt.load("smollm2", backend="native"), nt.load("smollm2", backend="native", precision="exact")
    fast, licence = lm.model, lm.tokenizer.encode((Path(__file__).parent.parent / "LICENSE").read_text())
    texts = [text["prompt"] + text["tokens"] for text in TEXTS.values()]
    texts += [licence[start : start + 500] for start in range(0, len(licence), 1000)]
    sampled = lm.generate([text["prompt"] for text in TEXTS.values()], nt.Sample(), max_tokens=48, seed=1)
    texts += [text["prompt"] + output.tokens for text, output in zip(TEXTS.values(), sampled)]
    distances, same = [], []
    for tokens in texts:
        exact, near = (logits(each, straight(each, tokens)).astype(np.float64) for each in (reference.model, fast))
        p, q = (each - np.log(np.exp(each).sum(1, keepdims=True)) for each in (exact, near))
        distances += (np.exp(p) * (p - q)).sum(1).tolist()
        same += (exact.argmax(1) == near.argmax(1)).tolist()
    assert len(same) > 2500
    assert np.mean(distances) < 0.005
    assert np.mean(same) > 0.96


MEMORY = """
from nextok.tools.footprint import read_peak_memory
from nextok.formats import open_model
from nextok.hub import resolve
from nextok.models.native import NativeModel
path = resolve("smollm2").path
before = read_peak_memory()
NativeModel(open_model(path))
print((read_peak_memory() - before) / path.stat().st_size)
"""


@pytest.mark.model
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not tell peak memory")
def test_the_weights_are_not_in_memory_twice():
    """Once they are in panels, the pages of the file are given back."""
    ratio = subprocess.run([sys.executable, "-c", MEMORY], check=True, timeout=120, capture_output=True, text=True)
    assert float(ratio.stdout) < 1.3


@pytest.mark.model
def test_a_batch_on_the_real_model_equals_each_alone_without_exception():
    lm = nt.load("smollm2")
    strategies = [
        nt.Greedy(),
        nt.Sample(temperature=0.7),
        nt.Sample(top_p=0.9),
        nt.Beam(4),
        nt.Speculate(nt.PromptLookup()),
        nt.Speculate(nt.DraftModel(lm, 5), nt.Sample(temperature=0.7)),
        nt.Speculate(nt.TokenTree(lm)),
    ]
    engine, running = Engine(lm.model, budget=64), []
    for seed, text in enumerate(TEXTS.values()):
        request, strategy = asked(text["prompt"], seed=seed, max_tokens=16), strategies[seed % len(strategies)]
        engine.submit(request, strategy, lambda event: None)
        running.append((request, strategy, asked(text["prompt"], seed=seed, max_tokens=16)))
    engine.run()
    for request, strategy, alone in running:
        by_engine(strategy, alone, lm.model)
        assert outcome(request) == outcome(alone)
        if isinstance(strategy, nt.Speculate):
            plain = asked(request.tree.path(request.prompt), seed=request.seed, max_tokens=16)
            by_engine(strategy.sampling, plain, lm.model)
            assert outcome(plain) == outcome(request)
