"""The numpy model: the logits of transformers for every kind of its family, and the laws of batches and caches."""

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from fixtures.make_tiny_models import weights
from nextok.core.tree import ROOT, Tree
from nextok.drafts.draft_model import DraftModel
from nextok.drafts.prompt_lookup import PromptLookup
from nextok.drafts.token_tree import TokenTree
from nextok.engine.engine import Engine
from nextok.engine.memo import Memo
from nextok.errors import LimitError, LogitsError
from nextok.formats import open_model
from nextok.formats.tensor import Checkpoint, ModelConfig, Tensor
from nextok.models.base import Feed
from nextok.models.llama_numpy import KeysAndValues, LlamaNumpy
from nextok.strategies.beam.beam import Beam
from nextok.strategies.sample import Greedy, Sample
from nextok.strategies.speculate import Speculate
from toys import Lent, RandomDraft, asked, by_engine, by_reference, outcome

FIXTURE = json.loads((Path(__file__).parent / "fixtures" / "tiny_models.json").read_text())
TOKENS = FIXTURE.pop("tokens")
TRANSFORMERS = FIXTURE.pop("about")
CLOSE = 1e-4
FAR = 1e-2  # a mistake must move some logit by this much, a hundred times what is allowed


def straight(model, tokens, cache=None, start=0, rows=None) -> Feed:
    """A plain run of tokens after `start` others; by default every one of them is read out."""
    return Feed.from_run(cache or model.open(), tokens, start, rows)


def logits(model, *feeds):
    """The logits of all rows that the feeds ask for, in one pass."""
    return model.logits(model.forward(feeds))


def difference(one, other) -> float:
    return float(np.abs(np.asarray(one) - np.asarray(other)).max())


# --- the same numbers as transformers -------------------------------------------------------------------------


def write_folder(path: Path, name: str, **changes) -> Path:
    """The model of the fixture as a Hugging Face folder, its configuration as transformers writes it."""
    known = FIXTURE[name]
    (path / "config.json").write_text(json.dumps(known["config"] | changes))
    save_file(weights(known["shapes"]), path / "model.safetensors")
    return path


@pytest.mark.parametrize("name", FIXTURE)
def test_logits_equal_those_of_transformers(name, tmp_path):
    model = LlamaNumpy(open_model(write_folder(tmp_path, name)))
    expected = np.array(FIXTURE[name]["logits"])
    assert expected.std() > 1
    assert difference(logits(model, straight(model, TOKENS)), expected) < CLOSE


def other_theta(config, tensors):
    return replace(config, rope_theta=2 * config.rope_theta), tensors


def other_pairing(config, tensors):
    return replace(config, rope_interleaved=not config.rope_interleaved), tensors


def no_scaling(config, tensors):
    return replace(config, rope_divisors=None), tensors


def other_epsilon(config, tensors):
    return replace(config, norm_epsilon=0.1 * config.norm_epsilon), tensors


def without(ending):
    def change(config, tensors):
        return config, {name: tensor for name, tensor in tensors.items() if not name.endswith(ending)}

    return change


def crossed_groups(config, tensors):
    name = "blk.0.attn_k.weight"
    heads = tensors[name].to_float32().reshape(config.kv_heads, config.head_width, config.width)
    return config, tensors | {name: in_memory(name, heads[::-1].reshape(-1, config.width))}


@pytest.mark.parametrize(
    ("name", "mistake"),
    [
        *((name, other_theta) for name in FIXTURE),
        *((name, other_pairing) for name in FIXTURE),
        ("llama3 scaling", no_scaling),
        ("linear scaling", no_scaling),
        ("tied", other_epsilon),
        ("llama", crossed_groups),
        *(("llama with biases", without(f"{part}.bias")) for part in ("attn_v", "attn_output", "ffn_up", "ffn_down")),
        *(("qwen2", without(f"attn_{part}.bias")) for part in "qv"),
        ("qwen3", without("attn_q_norm.weight")),
    ],
)
def test_negative_control_a_wrong_model_is_noticed(name, mistake, tmp_path):
    checkpoint = open_model(write_folder(tmp_path, name))
    config, tensors = mistake(checkpoint.config, dict(checkpoint.tensors))
    model = LlamaNumpy(Checkpoint(config, tensors, {}))
    assert difference(logits(model, straight(model, TOKENS)), FIXTURE[name]["logits"]) > FAR


def test_a_model_in_shards_is_the_same_model(tmp_path):
    arrays = weights(FIXTURE["qwen3"]["shapes"])
    weight_map = {name: f"model-0000{1 + number % 3}-of-00003.safetensors" for number, name in enumerate(arrays)}
    for shard in set(weight_map.values()):
        save_file({name: arrays[name] for name in arrays if weight_map[name] == shard}, tmp_path / shard)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (tmp_path / "config.json").write_text(json.dumps(FIXTURE["qwen3"]["config"]))
    model = LlamaNumpy(open_model(tmp_path))
    assert difference(logits(model, straight(model, TOKENS)), FIXTURE["qwen3"]["logits"]) < CLOSE


def rounded_to_bfloat16(array):
    """Round to nearest, ties to even: the bytes, and the float32 numbers that they stand for."""
    bits = array.view(np.uint32)
    short = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return short.tobytes(), (short.astype(np.uint32) << 16).view(np.float32)


def rounded_to_float16(array):
    short = array.astype(np.float16)
    return short.tobytes(), short.astype(np.float32)


def write_safetensors(path, kind, parts):
    """The file format by hand, since numpy knows no bfloat16: length of the header, header, data."""
    header, data = {}, b""
    for name, (part, numbers) in parts.items():
        header[name] = {"dtype": kind, "shape": numbers.shape, "data_offsets": [len(data), len(data) + len(part)]}
        data += part
    head = json.dumps(header).encode()
    path.write_bytes(len(head).to_bytes(8, "little") + head + data)


@pytest.mark.parametrize(
    ("kind", "rounded", "tolerance"), [("BF16", rounded_to_bfloat16, 0.3), ("F16", rounded_to_float16, 0.03)]
)
def test_half_precision_files_hold_the_same_model_rounded(kind, rounded, tolerance, tmp_path):
    whole = LlamaNumpy(open_model(write_folder(tmp_path, "qwen2")))
    parts = {name: rounded(array) for name, array in weights(FIXTURE["qwen2"]["shapes"]).items()}
    write_safetensors(tmp_path / "model.safetensors", kind, parts)
    checkpoint = open_model(tmp_path)
    assert {tensor.kind for tensor in checkpoint.tensors.values()} == {kind}
    half = LlamaNumpy(checkpoint)
    assert difference(half._layers[1].qkv_bias[:48], parts["model.layers.1.self_attn.q_proj.bias"][1]) == 0
    far = difference(logits(half, straight(half, TOKENS)), logits(whole, straight(whole, TOKENS)))
    assert 0 < far < tolerance


@pytest.mark.parametrize("name", ["llama3 scaling", "linear scaling"])
def test_rope_settings_mean_the_same_as_older_files_write_them(name, tmp_path):
    new = open_model(write_folder(tmp_path, name)).config
    rope = dict(FIXTURE[name]["config"]["rope_parameters"])
    older = {"rope_parameters": None, "rope_theta": rope.pop("rope_theta"), "rope_scaling": rope}
    assert open_model(write_folder(tmp_path, name, **older)).config == new


def test_a_sliding_window_is_the_end_of_the_context(tmp_path):
    model = LlamaNumpy(open_model(write_folder(tmp_path, "mistral")))
    assert model.context == FIXTURE["mistral"]["config"]["sliding_window"] == 64
    with pytest.raises(LimitError, match="64 tokens"):
        model.forward([straight(model, [1] * 65)])


# --- small models in memory -----------------------------------------------------------------------------------

VOCAB = 23
CONFIG = ModelConfig(
    architecture="llama",
    layers=2,
    width=32,
    heads=4,
    kv_heads=2,
    head_width=8,
    hidden=48,
    vocab_size=VOCAB,
    context=256,
    norm_epsilon=1e-5,
    rope_theta=10_000.0,
    rope_width=8,
    rope_interleaved=False,
)
SHAPES = {"attn_q": (32, 32), "attn_k": (16, 32), "attn_v": (16, 32), "attn_output": (32, 32)}
SHAPES |= {"ffn_gate": (48, 32), "ffn_up": (48, 32), "ffn_down": (32, 48)}


def in_memory(name: str, array) -> Tensor:
    data = np.frombuffer(np.ascontiguousarray(array, np.float32).tobytes(), np.uint8)
    return Tensor(name, array.shape, "F32", data, lambda data, shape: data.view(np.float32).reshape(shape))


def arrays_of(seed: int) -> dict[str, np.ndarray]:
    """The weights of a small random Llama whose logits are about 2 wide, by their names in a checkpoint."""
    normal = np.random.default_rng(seed).standard_normal
    arrays = {"token_embd.weight": normal((VOCAB, 32)), "output.weight": 0.4 * normal((VOCAB, 32))}
    arrays["output_norm.weight"] = 1 + 0.2 * normal(32)
    for layer in range(CONFIG.layers):
        for name, shape in SHAPES.items():
            arrays[f"blk.{layer}.{name}.weight"] = 0.3 * normal(shape)
        for name in ("attn_norm", "ffn_norm"):
            arrays[f"blk.{layer}.{name}.weight"] = 1 + 0.2 * normal(32)
    return arrays


def model_of(arrays, **changes) -> LlamaNumpy:
    tensors = {name: in_memory(name, array) for name, array in arrays.items()}
    return LlamaNumpy(Checkpoint(replace(CONFIG, **changes), tensors, {}))


HALVES, NEIGHBOURS = model_of(arrays_of(1)), model_of(arrays_of(1), rope_interleaved=True)
EVERY_LAYOUT = pytest.mark.parametrize("model", [HALVES, NEIGHBOURS], ids=["halves", "neighbours"])
DICE = random.Random(5)
TEXTS = [[DICE.randrange(VOCAB) for _ in range(length)] for length in (1, 2, 3, 5, 8, 13, 21, 34, 1, 70)]
LONG = [DICE.randrange(VOCAB) for _ in range(150)]


def test_both_rope_layouts_write_the_same_model_when_the_rows_are_put_in_order():
    arrays = arrays_of(1)
    for name, array in arrays.items():
        if "attn_q." in name or "attn_k." in name:
            arrays[name] = array.reshape(-1, 2, 4, 32).swapaxes(1, 2).reshape(array.shape)
    reordered = model_of(arrays, rope_interleaved=True)
    expected = logits(HALVES, straight(HALVES, LONG))
    assert difference(logits(reordered, straight(reordered, LONG)), expected) < CLOSE
    assert difference(logits(NEIGHBOURS, straight(NEIGHBOURS, LONG)), expected) > FAR


@EVERY_LAYOUT
def test_many_texts_in_one_pass_equal_each_alone(model):
    together = logits(model, *(straight(model, text) for text in TEXTS))
    alone = np.concatenate([logits(model, straight(model, text)) for text in TEXTS])
    assert difference(together, alone) < CLOSE


@EVERY_LAYOUT
@pytest.mark.parametrize("size", [1, 5, 64, 65, 149])
def test_a_text_read_in_chunks_equals_the_whole_over_the_growth_of_its_cache(model, size):
    cache = model.open()
    assert len(LONG) > 2 * cache._slots.shape[3]
    chunks = [
        logits(model, straight(model, LONG[start : start + size], cache, start)) for start in range(0, 150, size)
    ]
    assert difference(np.concatenate(chunks), logits(model, straight(model, LONG))) < CLOSE


def test_only_the_wanted_rows_are_answered_in_their_order():
    whole = logits(HALVES, straight(HALVES, LONG))
    some = logits(HALVES, straight(HALVES, LONG, rows=[3, 70, 149]), straight(HALVES, LONG[:5], rows=[0, 4]))
    assert difference(some, whole[[3, 70, 149, 0, 4]]) < CLOSE


@EVERY_LAYOUT
def test_a_branching_feed_equals_its_paths_read_straight(model):
    trunk, cache = [4, 8, 15], model.open()
    model.forward([straight(model, trunk, cache)])
    tails = {(9,): [16], (5,): [22], (9, 3): [16, 1], (9, 7): [16, 2], (5, 4): [22, 1], (9, 7, 6): [16, 2, 3]}
    feed = Feed(
        cache=cache,
        tokens=[path[-1] for path in tails.values()],
        slots=[tail[-1] for tail in tails],
        seen=[len(trunk)] * len(tails),
        tails=list(tails),
        rows=list(range(len(tails))),
    )
    paths = [straight(model, trunk + path, rows=[len(trunk) + len(path) - 1]) for path in tails.values()]
    assert difference(logits(model, feed), [logits(model, path)[0] for path in paths]) < CLOSE


@EVERY_LAYOUT
def test_random_trees_that_grow_and_are_pruned_equal_their_paths_read_straight(model):
    for seed in range(12):
        dice, tree = random.Random(seed), Tree()
        memo, live = Memo(model.open()), [tree.extend(ROOT, range(dice.randrange(1, 6)))]
        for _ in range(25):
            grown = [tree.add(dice.choice(live), dice.randrange(VOCAB)) for _ in range(dice.randrange(1, 7))]
            live = list(dict.fromkeys(dice.sample(live + grown, k=dice.randrange(1, 5) if len(grown) > 3 else 1)))
            feed, answered = memo.feed(tree, live, live, 512)
            paths = [tree.path(node) for node in answered]
            expected = [logits(model, straight(model, path, rows=[len(path) - 1]))[0] for path in paths]
            assert difference(logits(model, feed), expected) < CLOSE


# --- the cache ------------------------------------------------------------------------------------------------


def numbered_cache(slots: int) -> KeysAndValues:
    """Every slot holds its own number, in each layer, key and value."""
    cache = KeysAndValues(CONFIG)
    cache.reserve(slots)
    for layer in range(CONFIG.layers):
        for part in cache.view_layer(layer, slots):
            part[:] = np.arange(slots)[:, None]
    return cache


def contents(cache: KeysAndValues, end: int) -> list[int]:
    """What each slot holds, the same in all layers, keys and values."""
    parts = np.stack([part for layer in range(CONFIG.layers) for part in cache.view_layer(layer, end)])
    assert (parts == parts[:1, :1, :, :1]).all()
    return parts[0, 0, :, 0].astype(int).tolist()


@pytest.mark.parametrize(
    ("sources", "targets", "after"),
    [
        ([3], [1], [0, 3, 2, 3, 4, 5]),
        ([1, 2], [2, 1], [0, 2, 1, 3, 4, 5]),
        ([1, 2, 3], [2, 3, 4], [0, 1, 1, 2, 3, 5]),
        ([2, 3, 4], [1, 2, 3], [0, 2, 3, 4, 4, 5]),
        ([5, 0, 2], [0, 2, 5], [5, 1, 0, 3, 4, 2]),
    ],
)
def test_moving_reads_all_slots_before_it_writes_any(sources, targets, after):
    cache = numbered_cache(6)
    cache.move(sources, targets)
    assert contents(cache, 6) == after


def test_moving_past_the_end_makes_room_and_keeps_the_rest():
    cache = numbered_cache(64)
    cache.move([7, 63], [64, 200])
    assert contents(cache, 65) == [*range(64), 7]
    assert contents(cache, 201)[200] == 63


# --- what cannot be read --------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [-1, VOCAB, 10**9])
def test_a_token_outside_the_vocabulary_is_refused_before_anything_is_read(token):
    cache = HALVES.open()
    with pytest.raises(ValueError, match=f"token id {token} is outside the vocabulary; ids go from 0 to 22"):
        HALVES.forward([straight(HALVES, [1, token], cache)])
    assert not cache._slots.any()


def test_the_last_place_of_the_context_can_be_read_and_the_next_one_not():
    model = model_of(arrays_of(1), context=20)
    assert np.isfinite(logits(model, straight(model, [1] * 20))).all()
    with pytest.raises(LimitError, match="context of 20 tokens"):
        model.forward([straight(model, [1] * 21)])


BROKEN = 5


def with_a_weight_of(value: float) -> LlamaNumpy:
    arrays = arrays_of(1)
    arrays["token_embd.weight"][BROKEN, 3] = value
    return model_of(arrays)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_request_whose_scores_are_no_numbers_fails_alone(value):
    model, engine = with_a_weight_of(value), Engine(with_a_weight_of(value))
    stop = frozenset({0, BROKEN})
    healthy = [asked([1, 2, seed + 6], seed=seed, stop_ids=stop) for seed in range(5)]
    failing = asked([1, BROKEN, 2])
    for request in (*healthy[:3], failing, *healthy[3:]):
        engine.submit(request, Sample(), lambda event: None)
    engine.run()
    assert failing.finish_reason == "error"
    assert isinstance(failing.error, LogitsError)
    for seed, request in enumerate(healthy):
        alone = asked([1, 2, seed + 6], seed=seed, stop_ids=stop)
        by_reference(Sample(), alone, model)
        assert outcome(request) == outcome(alone)
        assert request.tokens


def test_a_draft_model_of_no_numbers_changes_no_text():
    engine, fine, alone = Engine(HALVES), asked([1, 2]), asked([1, 2])
    other, other_alone = asked([1, BROKEN]), asked([1, BROKEN])
    engine.submit(other, Speculate(DraftModel(Lent(with_a_weight_of(np.nan)))), lambda event: None)
    engine.submit(fine, Speculate(DraftModel(Lent(NEIGHBOURS))), lambda event: None)
    engine.run()
    by_reference(Greedy(), alone, HALVES)
    by_reference(Greedy(), other_alone, HALVES)
    assert (outcome(fine), outcome(other)) == (outcome(alone), outcome(other_alone))


# --- the laws of decoding, on this model ----------------------------------------------------------------------


def nearly(seed: int, amount: float) -> LlamaNumpy:
    """A draft model that mostly agrees with HALVES."""
    other = arrays_of(seed)
    return model_of({name: array + amount * other[name] for name, array in arrays_of(1).items()})


SIMILAR = Lent(nearly(2, 0.1))
SAMPLINGS = {
    "greedy": Greedy(),
    "warm": Sample(temperature=0.7),
    "plain": Sample(),
    "filtered": Sample(temperature=1.3, top_k=9, top_p=0.9, min_p=0.05),
}
DRAFTS = {
    "lookup": PromptLookup(max_draft=4, shortest=1),
    "similar": DraftModel(SIMILAR, max_draft=4),
    "itself": DraftModel(Lent(HALVES), max_draft=3),
    "tree": TokenTree(SIMILAR, widths=(3, 2)),
    "random": RandomDraft(),
}
BEAMS = {
    "beam 1": Beam(1),
    "beam 3": Beam(3),
    "beam 4 early": Beam(4, early_stopping=True, length_penalty=0.6),
    "beam 2 never": Beam(2, early_stopping="never", length_penalty=1.4),
}
STRATEGIES = (
    SAMPLINGS
    | BEAMS
    | {f"{draft} {name}": Speculate(DRAFTS[draft], SAMPLINGS[name]) for draft in DRAFTS for name in SAMPLINGS}
)
SMALLEST_GAP = 1e-4


def test_negative_control_only_near_ties_are_excused(undecided):
    tied = arrays_of(1)
    tied["output.weight"][1:] = tied["output.weight"][1]
    assert undecided(Sample(), lambda: asked([1, 2, 3], stop_ids=frozenset()), model_of(tied), SMALLEST_GAP) is False
    assert undecided(Greedy(), lambda: asked([1, 2, 3], stop_ids=frozenset()), model_of(tied), SMALLEST_GAP) is True
    settled = [undecided(STRATEGIES[name], lambda: asked([1, 2, 3]), HALVES, SMALLEST_GAP) for name in STRATEGIES]
    assert not any(settled)


@EVERY_LAYOUT
@pytest.mark.parametrize("budget", [1, 5, 64, 512])
def test_a_batch_in_the_engine_equals_each_request_read_without_a_cache(model, budget, undecided):
    engine, names = Engine(model, budget=budget), [*SAMPLINGS, *BEAMS, "lookup plain", "tree warm", "similar greedy"]

    def request(index):
        return asked((TEXTS * 2)[index], seed=index, max_tokens=10)

    batch = [request(index) for index in range(len(names))]
    for name, each in zip(names, batch):
        engine.submit(each, STRATEGIES[name], lambda event: None)
    engine.run()
    for index, (name, each) in enumerate(zip(names, batch)):
        alone = request(index)
        by_reference(STRATEGIES[name], alone, model)
        assert outcome(each) == outcome(alone) or undecided(
            STRATEGIES[name], lambda index=index: request(index), model, SMALLEST_GAP
        )


REQUESTS = st.fixed_dictionaries(
    {
        "strategy": st.sampled_from(sorted(STRATEGIES)),
        "prompt": st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=8),
        "seed": st.integers(0, 3),
        "max_tokens": st.integers(1, 10),
        "shares_tree": st.booleans(),
        "arrives": st.integers(0, 5),  # steps that the engine makes before this request comes
    }
)


@settings(max_examples=100, deadline=None)  # up to six requests each
@given(st.lists(REQUESTS, min_size=1, max_size=6), st.sampled_from([1, 3, 17, 512]), st.sampled_from([1, 3, 32]))
def test_the_engine_equals_the_reference_in_any_mix(undecided, specs, budget, seats):
    engine, shared, running = Engine(HALVES, budget=budget, seats=seats), Tree(), []
    for spec in specs:
        for _ in range(spec["arrives"]):
            engine.step()
        limits = {"seed": spec["seed"], "max_tokens": spec["max_tokens"]}
        request = asked(spec["prompt"], tree=shared if spec["shares_tree"] else None, **limits)
        engine.submit(request, STRATEGIES[spec["strategy"]], lambda event: None)
        running.append((request, spec["prompt"], STRATEGIES[spec["strategy"]], limits))
    engine.run()
    for request, prompt, strategy, limits in running:
        alone = asked(prompt, **limits)
        by_reference(strategy, alone, HALVES)
        assert outcome(request) == outcome(alone) or undecided(
            strategy, lambda prompt=prompt, limits=limits: asked(prompt, **limits), HALVES, SMALLEST_GAP
        )


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("draft", DRAFTS)
def test_speculation_never_changes_the_text(draft, sampling, undecided):
    for seed in range(10):
        prompt = [(seed * k) % VOCAB for k in range(1, 6)]

        def request(prompt=prompt, seed=seed):
            return asked(prompt, seed=seed, max_tokens=20)

        plain, speculative = request(), request()
        by_engine(SAMPLINGS[sampling], plain, HALVES)
        by_engine(Speculate(DRAFTS[draft], SAMPLINGS[sampling]), speculative, HALVES)
        assert outcome(speculative) == outcome(plain) or undecided(SAMPLINGS[sampling], request, HALVES, SMALLEST_GAP)
