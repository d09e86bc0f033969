"""Every backend states the facts of the protocol, and torch's lock covers passes and caches."""

import threading

import pytest

from nextok.formats import open_model
from nextok.models.base import Feed, Model
from nextok.models.llama_numpy import LlamaNumpy
from nextok.models.native import NativeModel
from nextok.models.torch.devices import load_torch
from nextok.models.torch.huggingface import HuggingFace
from nextok.models.toy import ToyModel, make_scores
from transformers_models import SHAPE, tiny

VOCAB, CONTEXT = SHAPE["vocab_size"], SHAPE["max_position_embeddings"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """One model for each backend; all but the toy have the same weights."""
    folder = tmp_path_factory.mktemp("llama")
    tiny("llama").save_pretrained(folder)
    checkpoint = open_model(folder)
    return {
        "toy": ToyModel(VOCAB, make_scores(VOCAB), CONTEXT),
        "numpy": LlamaNumpy(checkpoint),
        "native": NativeModel(checkpoint, threads=1),
        "torch": load_torch(checkpoint, "cpu", exact=True, threads=None),
        "transformers": HuggingFace(tiny("llama")),
    }


@pytest.mark.parametrize("backend", ["toy", "numpy", "native", "torch", "transformers"])
def test_every_backend_states_the_facts_of_the_protocol(models, backend):
    model = models[backend]
    facts = {
        "vocab_size": VOCAB,
        "context": CONTEXT,
        "backend": backend,
        "precision": "fast" if backend == "native" else "exact",
        "rounds_by_shape": backend not in ("toy", "native"),
    }
    assert facts.keys() == Model.__annotations__.keys()
    assert {name: getattr(model, name) for name in facts} == facts
    assert type(model.bytes_per_token) is int
    assert model.bytes_per_token > 0


@pytest.mark.parametrize("backend", ["torch", "transformers"])
@pytest.mark.parametrize("use", ["answer", "open", "fork", "move"])
def test_one_thread_at_a_time_uses_a_torch_model_or_its_caches(models, backend, use):
    model = models[backend]
    cache = model.open()
    model.answer([Feed.from_run(cache, [1, 2, 3])], [])
    uses = {
        "answer": lambda: model.answer([Feed.from_run(model.open(), [4, 5])], []),
        "open": model.open,
        "fork": lambda: cache.fork(2),
        "move": lambda: cache.move([0, 1], [3, 4]),
    }
    thread = threading.Thread(target=uses[use], daemon=True)
    with model.pool.lock:
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
    thread.join(30)
    assert not thread.is_alive()
