"""The torch backend: the numbers of numpy and transformers, the memory that all caches share, and padded passes."""

import gc
import random
import weakref
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import nextok as nt
from happy_folder import write_checkpoint
from happy_llm import random_transformer
from nextok.core.ending import Limits
from nextok.core.request import Request
from nextok.core.tree import ROOT, Tree
from nextok.engine.engine import Engine
from nextok.errors import LimitError
from nextok.formats import open_model
from nextok.formats.quantize import quantize_checkpoint
from nextok.models.base import Feed
from nextok.models.llama_numpy import LlamaNumpy
from nextok.models.torch import graphs as graphs_module
from nextok.models.torch.devices import choose_device, load_torch
from nextok.models.torch.graphs import Graphs, RecordedGraph
from nextok.models.torch.llama import LlamaTorch
from nextok.models.torch.plan import build_plan, choose_shape, pad_plan
from nextok.models.torch.slots import Pool, Region
from nextok.models.torch.weights import borrow_weights, load_weights
from test_numpy_model import CLOSE, FAR, FIXTURE, TOKENS, write_folder
from test_torch_readout import Watched

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
CPU = torch.device("cpu")


@pytest.fixture(params=FIXTURE, scope="module")
def checkpoint(request, tmp_path_factory):
    return open_model(write_folder(tmp_path_factory.mktemp("tiny"), request.param))


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return open_model(write_folder(tmp_path_factory.mktemp("tiny"), "llama"))


def exact(checkpoint, device="cpu"):
    return load_torch(checkpoint, device, exact=True, threads=None)


def scores(model, *feeds):
    """The logits of one pass, on the host."""
    if isinstance(model, LlamaNumpy):
        return model.logits(model.forward(feeds))
    return model.logits(feeds).cpu().numpy()


def difference(one, other):
    return float(np.abs(np.asarray(one) - np.asarray(other)).max())


# --- the same numbers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", FIXTURE)
def test_logits_equal_those_of_transformers(name, device, tmp_path):
    model = exact(open_model(write_folder(tmp_path, name)), device)
    assert difference(scores(model, Feed.from_run(model.open(), TOKENS)), FIXTURE[name]["logits"]) < CLOSE


def test_negative_control_another_rope_is_noticed(llama):
    wrong = replace(llama, config=replace(llama.config, rope_interleaved=not llama.config.rope_interleaved))
    model = exact(wrong)
    assert difference(scores(model, Feed.from_run(model.open(), TOKENS)), FIXTURE["llama"]["logits"]) > FAR


class Session:
    """Random passes over several trees, each with a trunk and branches, as the engine may ask for them."""

    def __init__(self, models, vocab, seed):
        self.models = models
        self.dice = random.Random(seed)
        self.vocab = vocab
        self.trees = [self.planted() for _ in range(4)]

    def planted(self):
        """The caches of a new tree, and the slots of its trunk."""
        return [[model.open() for model in self.models], 0]

    def passes(self, count):
        """The feeds of each pass, once for every model."""
        for _ in range(count):
            self.trees = [tree if tree[1] < 30 else self.planted() for tree in self.trees]
            grown = self.dice.sample(self.trees, self.dice.randint(1, len(self.trees)))
            yield list(zip(*(self.feeds(tree) for tree in grown)))

    def feeds(self, tree):
        caches, start = tree
        if start and self.dice.random() < 0.4:
            arrays = self.branches(start)
        else:
            count = self.dice.choice([1, 1, 2, 5, 16, 17, 24])
            tokens = [self.dice.randrange(self.vocab) for _ in range(count)]
            rows = sorted(self.dice.sample(range(count), self.dice.randint(1, count)))
            slots = list(range(start, start + count))
            arrays = (tokens, slots, [slot + 1 for slot in slots], [()] * count, rows)
            tree[1] += count
        for cache in caches:
            yield Feed(cache, *(list(array) for array in arrays))

    def branches(self, start):
        """A random tree below the trunk, whose slots are spread out."""
        count = self.dice.randint(1, 6)
        slots = self.dice.sample(range(start, start + 3 * count), count)
        tails = []
        for slot in slots:
            tails.append((*self.dice.choice([(), *tails]), slot))
        seen = [start] * count
        return [self.dice.randrange(self.vocab) for _ in slots], slots, seen, tails, range(count)


@pytest.mark.parametrize("device", DEVICES)
def test_random_passes_equal_those_of_numpy(checkpoint, device):
    models = [LlamaNumpy(checkpoint), exact(checkpoint, device)]
    for feeds in Session(models, checkpoint.config.vocab_size, seed=1).passes(40):
        assert difference(*(scores(model, *each) for model, each in zip(models, feeds))) < CLOSE


def test_negative_control_a_tail_in_another_slot_is_noticed(llama):
    model = exact(llama)
    cache = model.open()
    scores(model, Feed.from_run(cache, TOKENS[:6]))
    right = scores(model, Feed(cache, [1, 2, 3], [6, 7, 8], [6, 6, 6], [(6,), (7,), (6, 8)], [0, 1, 2]))
    wrong = scores(model, Feed(cache, [1, 2, 3], [6, 7, 8], [6, 6, 6], [(6,), (7,), (7, 8)], [0, 1, 2]))
    assert difference(right[:2], wrong[:2]) < CLOSE
    assert difference(right[2], wrong[2]) > FAR


def test_caches_move_and_fork_as_those_of_numpy(llama):
    models = [LlamaNumpy(llama), exact(llama)]
    after = []
    for model in models:
        cache = model.open()
        scores(model, Feed.from_run(cache, TOKENS[:9]))
        scores(model, Feed(cache, [1, 2], [9, 12], [9, 9], [(9,), (12,)], [0]))
        forked = cache.fork(9)
        cache.move([12], [9])  # the second branch becomes the trunk
        both = scores(model, Feed.from_run(cache, [3], 10), Feed.from_run(forked, [1, 5], 9))
        swapped = model.open()
        scores(model, Feed.from_run(swapped, [4, 4, 7, 8]))
        swapped.move([2, 3], [3, 2])  # all are read before any is written
        after.append(np.concatenate([both, scores(model, Feed.from_run(swapped, [5], 4))]))
    assert difference(*after) < CLOSE


def test_borrowed_and_loaded_weights_give_the_same_numbers(checkpoint):
    tensors = {name: torch.from_numpy(tensor.to_float32()) for name, tensor in checkpoint.tensors.items()}
    model = LlamaTorch(checkpoint.config, borrow_weights(checkpoint.config, tensors))
    assert model.weights.norm.data_ptr() == tensors["output_norm.weight"].data_ptr()
    other = exact(checkpoint)
    one, two = (scores(each, Feed.from_run(each.open(), TOKENS)) for each in (model, other))
    assert difference(one, two) < CLOSE
    assert model.bytes_per_token == other.bytes_per_token == LlamaNumpy(checkpoint).bytes_per_token


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_weights_compute_nearly_the_same(llama, dtype):
    model = LlamaTorch(llama.config, load_weights(llama, dtype, CPU))
    found = scores(model, Feed.from_run(model.open(), TOKENS))
    expected = np.asarray(FIXTURE["llama"]["logits"])
    assert found.dtype == np.float32
    assert CLOSE < difference(found, expected) < 0.1 * np.abs(expected).max()


@pytest.mark.parametrize("kind", ["q8_0", "q4_1"])
def test_quantised_weights_are_what_they_stand_for(kind, tmp_path):
    whole = random_transformer()
    packed = quantize_checkpoint(
        open_model(write_checkpoint(tmp_path / "model.pth", whole, whole.args.config())), kind
    )
    models = [LlamaNumpy(packed), exact(packed)]
    found = [scores(model, Feed.from_run(model.open(), TOKENS)) for model in models]
    assert difference(*found) < CLOSE


def test_what_does_not_fit_is_refused(llama):
    model = exact(llama)
    with pytest.raises(ValueError, match=f"token id 999999 is outside.* 0 to {llama.config.vocab_size - 1}"):
        model.logits([Feed.from_run(model.open(), [1, 999999])])
    with pytest.raises(LimitError, match=f"context of {llama.config.context} tokens"):
        model.logits([Feed.from_run(model.open(), [1], llama.config.context)])


# --- the pool ---------------------------------------------------------------------------------------------------


@torch.inference_mode()
def test_regions_never_overlap_and_keep_what_is_theirs():
    dice = random.Random(3)
    pool = Pool([((1,), (2,))], torch.float32, CPU, slots=8)
    held = []
    for step in range(400):
        if held and dice.random() < 0.3:
            held.pop(dice.randrange(len(held)))  # its slots go back with the last reference
        elif held and dice.random() < 0.5:
            region, marks = dice.choice(held)
            region.reserve(dice.randrange(1, 2 * region.size))
            assert [pool.layers[0][1][region.start + slot, 1].item() for slot in marks] == list(marks.values())
        else:
            region = Region(pool)
            region.reserve(dice.randrange(1, 90))
            marks = {slot: float(step + slot / 128) for slot in dice.sample(range(region.size), 5)}
            for slot, mark in marks.items():
                pool.layers[0][1][region.start + slot] = mark
            held.append((region, marks))
        runs = sorted((region.start, region.start + region.size) for region, _ in held)
        assert all(end <= start for (_, end), (start, _) in pairwise(runs))
        assert all(start > 0 for start, _ in runs)  # slot 0 belongs to no run
    assert pool.growths
    held.clear()
    del region
    gc.collect()
    size = len(pool.layers[0][0])
    assert pool.take(size - 1) == 1  # every slot has come back
    assert len(pool.layers[0][0]) == size


@torch.inference_mode()
def test_a_fork_is_independent():
    pool = Pool([((1,), (1,))], torch.float32, CPU)
    one = Region(pool)
    one.reserve(3)
    pool.layers[0][0][one.start : one.start + 3, 0] = torch.tensor([1.0, 2.0, 3.0])
    two = one.fork(2)
    pool.layers[0][0][one.start] = 9.0
    assert pool.layers[0][0][two.start : two.start + 2, 0].tolist() == [1.0, 2.0]
    assert one.fork(0).size == 0


def test_many_texts_one_after_the_other_need_no_more_memory(llama):
    model = exact(llama)
    engine = Engine(model)
    sizes = set()
    gc.freeze()  # so that a collection looks at what this test makes, not at all of transformers
    for index in range(40):
        tree = Tree()
        request = Request(tree, tree.extend(ROOT, [1 + index % 9] * 40), Limits(max_tokens=30))
        engine.submit(request, nt.Beam(3), lambda event: None)
        engine.run()
        del tree, request
        gc.collect()
        sizes.add(len(model.pool.layers[0][0]))
    gc.unfreeze()
    assert len(sizes) == 1


# --- padded passes, and graphs ----------------------------------------------------------------------------------


def test_a_padded_pass_is_the_same_pass(checkpoint):
    model = exact(checkpoint)
    session = Session([model], checkpoint.config.vocab_size, seed=2)
    with torch.inference_mode():
        for [feeds] in session.passes(60):
            expected = model.forward(build_plan(feeds, CPU))
            numbers, wanted = pad_plan(feeds, choose_shape(feeds))
            found = model.forward(choose_shape(feeds).build_plan(numbers))
            assert len(found) >= len(wanted) == len(expected)
            assert difference(found[wanted], expected) < CLOSE


class Played:
    """Stands for a CUDA graph where there is no GPU: computes the same plan again, into the same place."""

    def __init__(self, forward, plan, logits):
        self.forward, self.plan, self.logits = forward, plan, logits

    def replay(self):
        self.logits.copy_(self.forward(self.plan))


class Rehearsed(Graphs):
    """Graphs without a GPU; counts what is recorded."""

    recordings = 0

    def _record(self, shape, numbers, forward):
        if self._pool.device.type == "cuda":
            return super()._record(shape, numbers, forward)
        self.recordings += 1
        held = numbers.clone()
        logits = forward(shape.build_plan(held))
        return RecordedGraph(Played(forward, shape.build_plan(held), logits), held, logits)


@pytest.mark.parametrize("device", DEVICES)
def test_graphs_change_no_text(llama, device):
    def texts(model):
        engine = Engine(model, budget=24)
        requests = []
        for index in range(14):
            tree = Tree()
            prompt = tree.extend(ROOT, [1 + (index * 7 + j * 3) % 40 for j in range(3 + index)])
            requests.append(Request(tree, prompt, Limits(max_tokens=25), seed=index))
            strategy = [nt.Greedy(), nt.Sample(0.8), nt.Beam(3), nt.Speculate(nt.PromptLookup(), nt.Sample())]
            engine.submit(requests[-1], strategy[index % 4], lambda event: None)
            engine.step()
        engine.run()
        return [request.tokens for request in requests]

    plain, graphed = exact(llama), exact(llama, device)
    plain._graphs = None
    graphed._graphs = Rehearsed(graphed.pool)
    expected = texts(plain)
    assert texts(graphed) == expected
    assert graphed.pool.growths  # so the memory has moved in between
    if device == "cpu":
        assert graphed._graphs.recordings > 5
    assert texts(graphed) == expected


def test_graphs_do_not_keep_their_model(llama):
    """Else a GPU's memory would wait for the garbage collector, which does not see how full it is."""
    model = exact(llama)
    model._graphs = Graphs(model.pool)
    seen = weakref.ref(model)
    scores(model, Feed.from_run(model.open(), TOKENS[:3]))
    gc.disable()
    del model
    try:
        assert seen() is None
    finally:
        gc.enable()


def test_a_shape_too_large_to_record_runs_without_a_graph(llama):
    class Full(Rehearsed):
        def _record(self, shape, numbers, forward):
            if shape.rows > 1:
                self.recordings += 1
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super()._record(shape, numbers, forward)

    model = exact(llama)
    feeds = [[Feed.from_run(model.open(), TOKENS[:n])] for n in (1, 3)]
    expected = [scores(model, *feed) for feed in feeds]
    model._graphs = Full(model.pool)
    for _ in range(5):
        for feed, right in zip(feeds, expected):
            assert difference(scores(model, *feed), right) < CLOSE
    assert model._graphs.recordings == 3  # of which one failed, and one was given up for its memory


class Noted:
    """Stands for all of torch.cuda that a recording uses; says what was done, on which device and stream."""

    def __init__(self):
        self.device_now, self.stream_now, self.done, self.streams = "cuda:0", None, [], 0

    def __getattr__(self, name):
        raise AssertionError(f"torch.cuda.{name} is not pretended")

    def Stream(self, device=None):
        self.streams += 1
        return SimpleNamespace(wait_stream=lambda other: self.done.append("wait"))

    def current_stream(self):
        return SimpleNamespace(wait_stream=lambda other: self.done.append("wait"))

    @contextmanager
    def device(self, device):
        before, self.device_now = self.device_now, device
        yield
        self.device_now = before

    @contextmanager
    def stream(self, stream):
        before, self.stream_now = self.stream_now, stream
        try:
            yield
        finally:
            self.stream_now = before

    def CUDAGraph(self):
        return SimpleNamespace(pool=lambda: "shared", replay=lambda: None)

    @contextmanager
    def graph(self, graph, pool=None, stream=None, capture_error_mode="global"):
        self.done.append((self.device_now, pool, stream is self.stream_now, capture_error_mode))
        self.stream_now = stream  # where it is left if the end of the recording fails
        yield


def test_graphs_are_recorded_on_the_device_of_their_model_in_memory_that_they_share(llama, monkeypatch):
    model, cuda = exact(llama), Noted()
    monkeypatch.setattr(torch, "cuda", cuda)
    graphs, passes = Graphs(model.pool), []
    with torch.inference_mode():
        for count in (2, 3):
            feeds = [Feed.from_run(model.open(), TOKENS[:count])]
            numbers, shape = pad_plan(feeds, choose_shape(feeds))[0], choose_shape(feeds)
            graphs._recorded[shape] = graphs._record(
                shape, numbers, lambda plan: passes.append(cuda.device_now) or model.forward(plan)
            )
        with pytest.raises(RuntimeError, match="capture failed"):
            graphs._record(shape, numbers, capture_fails)
    recorded = ["wait", (CPU, None, True, "thread_local"), "wait"]
    assert cuda.done == [*recorded, "wait", (CPU, "shared", True, "thread_local"), "wait", "wait"]
    assert passes == [CPU] * 4  # each once before it is recorded
    assert (cuda.streams, cuda.stream_now) == (1, None)
    assert not graphs_module.RECORDING.locked()


def capture_fails(plan):
    raise RuntimeError("capture failed")


def test_a_long_prompt_is_no_graph(llama):
    model = exact(llama)
    graphs = Rehearsed(model.pool)
    feeds = [Feed.from_run(model.open(), TOKENS[:3] * 6)]
    assert [graphs.run(feeds, model.forward) for _ in range(3)] == [None, None, None]
    few = [Feed.from_run(model.open(), TOKENS[:3])]
    with torch.inference_mode():
        assert graphs.run(few, model.forward) is None  # a shape that comes once is not worth one
        assert graphs.run(few, model.forward).shape == (3, llama.config.vocab_size)


# --- loading ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "", "meta", 0, "cpu:1"])
def test_a_device_that_does_not_exist_is_an_error(device):
    with pytest.raises(ValueError, match=r"device must be one of cpu.* on this machine, got"):
        choose_device(device)


def test_a_device_is_for_torch_alone():
    with pytest.raises(ValueError, match=r"device is for backend='torch', got device='cpu' with backend='native'"):
        nt.load("smollm2", backend="native", device="cpu")
    with pytest.raises(ValueError, match="backend must be one of auto, native, numpy, torch, got 'tensorflow'"):
        nt.load("smollm2", backend="tensorflow")


def test_without_torch_the_way_out_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [name for name in sys.modules if name.startswith("nextok.models.torch")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(nt.NextokError, match=r"backend='torch' needs torch.*: pip install 'nextok\[torch\]'"):
        nt.load("smollm2", backend="torch")


@pytest.mark.model
def test_the_default_model_writes_what_numpy_writes(smollm2):
    lm = nt.load("smollm2", backend="torch", device="cpu")
    prompt = "The three primary colours are"
    assert lm.generate(prompt, max_tokens=24).tokens == smollm2.generate(prompt, max_tokens=24).tokens
    drawn = [each.generate(prompt, nt.Sample(0.8, top_p=0.9), max_tokens=16, seed=5) for each in (lm, smollm2)]
    assert drawn[0].tokens == drawn[1].tokens


# --- a GPU that is only pretended: its tensors have shapes and no values -----------------------------------------


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3", "mistral"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_pass_on_a_gpu_sends_its_plan_in_one_copy_and_waits_for_nothing(name, dtype, tmp_path):
    checkpoint = open_model(write_folder(tmp_path, name))
    cuda = torch.device("cuda")
    with FakeTensorMode(allow_non_fake_inputs=True):
        tensors = {
            name: torch.empty(tensor.shape, dtype=dtype, device=cuda) for name, tensor in checkpoint.tensors.items()
        }
        model = LlamaTorch(checkpoint.config, borrow_weights(checkpoint.config, tensors))
        model.pool.layers[:] = [tuple(each.new_empty(each.shape) for each in both) for both in model.pool.layers]
        feeds = [
            Feed.from_run(model.open(), TOKENS[:3] * 8),
            Feed.from_run(model.open(), TOKENS[:2]),
            Feed(model.open(), [1, 2, 3], [6, 7, 8], [6, 6, 6], [(6,), (7,), (6, 8)], [0, 1, 2]),
        ]
        with Watched() as device, torch.no_grad():
            logits = model.forward(build_plan(feeds, model.device))
        assert (logits.shape, logits.dtype, logits.device.type) == ((29, model.vocab_size), torch.float32, "cuda")
        assert (sum(device.copies.values()), device.waits, device.hasty) == (1, [], 0)
        shape = choose_shape(feeds[1:])
        numbers = pad_plan(feeds[1:], shape)[0].to(model.device)
        with Watched() as device, torch.no_grad():
            logits = model.forward(shape.build_plan(numbers))  # what a graph records: it may not copy or wait at all
        assert (len(logits), sum(device.copies.values()), device.waits) == (shape.feeds * shape.rows, 0, [])
