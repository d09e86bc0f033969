"""What several test files share: one thread a worker, the real model, and a way to tell a near tie from a mistake."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import hypothesis
import numpy as np
import pytest

import nextok
from nextok.core.request import Request
from nextok.engine.timing import FreeTiming
from nextok.errors import DownloadError
from nextok.hub import resolve
from nextok.lm import LM
from nextok.models.llama_numpy import LlamaNumpy
from nextok.readout.readout import read
from toys import by_engine

PERTURBATIONS = 8
"""Number of runs, each with other rounding errors, that must agree before a text counts as decided."""

hypothesis.settings.register_profile("busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("busy")  # a busy machine fails no test


def pytest_configure(config):
    """Workers share the cores: each computes in one thread. numpy and torch read this where a worker imports them."""
    if config.getoption("numprocesses", None):
        os.environ |= dict.fromkeys(["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"], "1")


def pytest_collection_finish(session):
    """Fetch the default model first, so that no test's command is the one that tells of it on stderr.

    Each worker comes here; the lock of `resolve` lets one of them fetch while the others wait.
    """
    if any(item.get_closest_marker("model") for item in session.items):
        with suppress(DownloadError):  # then the tests say what is missing
            resolve("smollm2")


@pytest.fixture(scope="session", autouse=True)
def _one_processor() -> Iterator[None]:
    """In a worker a native model that is not told its number of threads starts one, as numpy and torch do."""
    with pytest.MonkeyPatch.context() as patch:
        if "PYTEST_XDIST_WORKER" in os.environ:
            patch.setattr("nextok.models.processors.list_processors", lambda: [0])
        yield


class Perturbed:
    """A model whose logits differ by up to `size`, as they would if its sums were made in another order."""

    def __init__(self, model: LlamaNumpy, size: float, seed: int) -> None:
        self.model, self.size, self.random = model, size, np.random.default_rng(seed)
        self.vocab_size, self.context, self.open = model.vocab_size, model.context, model.open
        self.backend, self.precision, self.rounds_by_shape = model.backend, model.precision, model.rounds_by_shape
        self.bytes_per_token = model.bytes_per_token

    def answer(self, feeds, rows):
        logits = self.model.logits(self.model.forward(feeds))
        errors = self.random.uniform(-self.size, self.size, logits.shape)
        return read((logits + errors).astype(np.float32), rows)


def _undecided(strategy: Any, request: Callable[[], Request], model: LlamaNumpy, size: float) -> bool:
    """Whether the text hangs on less than `size`: numpy's products round by shape, so runs may differ there."""
    texts = set()
    for seed in range(PERTURBATIONS):
        perturbed = request()
        by_engine(strategy, perturbed, Perturbed(model, size, seed))
        assert not isinstance(perturbed.error, AttributeError), perturbed.error  # or all runs would agree on it
        texts.add(tuple(perturbed.tokens))
    return len(texts) > 1


@pytest.fixture(scope="session")
def undecided() -> Callable[..., bool]:
    return _undecided


@pytest.fixture(scope="session")
def smollm2() -> LM:
    lm = nextok.load("smollm2", backend="numpy")
    lm.engine.timing = FreeTiming()  # so that what is drafted does not depend on a clock
    return lm
