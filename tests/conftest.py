"""What several test files share: the real model, and a way to tell a near tie from a mistake."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

import nextok
from nextok.core.request import Request
from nextok.errors import DownloadError
from nextok.hub import resolve
from nextok.lm import LM
from nextok.models.llama_numpy import LlamaNumpy
from nextok.readout.readout import read
from toys import FreeTiming, by_engine

TREMORS = 8


def pytest_collection_finish(session):
    """Fetch the default model first, so that no test's command is the one that tells of it on stderr."""
    if any(item.get_closest_marker("model") for item in session.items):
        with suppress(DownloadError):  # then the tests say what is missing
            resolve("smollm2")


class Trembling:
    """A model whose logits tremble by up to `size`, as they would if its sums were made in another order."""

    def __init__(self, model: LlamaNumpy, size: float, seed: int) -> None:
        self.model, self.size, self.random = model, size, np.random.default_rng(seed)
        self.vocab_size, self.context, self.open = model.vocab_size, model.context, model.open

    def answer(self, feeds, rows):
        logits = self.model.logits(self.model.forward(feeds))
        tremor = self.random.uniform(-self.size, self.size, logits.shape)
        return read((logits + tremor).astype(np.float32), rows)


def _undecided(strategy: Any, request: Callable[[], Request], model: LlamaNumpy, size: float) -> bool:
    """Whether the text hangs on less than `size`: numpy's products round by shape, so runs may differ there."""
    texts = set()
    for seed in range(TREMORS):
        trembled = request()
        by_engine(strategy, trembled, Trembling(model, size, seed))
        texts.add(tuple(trembled.tokens))
    return len(texts) > 1


@pytest.fixture(scope="session")
def undecided() -> Callable[..., bool]:
    return _undecided


@pytest.fixture(scope="session")
def smollm2() -> LM:
    lm = nextok.load("smollm2", backend="numpy")
    lm.engine.timing = FreeTiming()  # so that what is drafted does not depend on a clock
    return lm
