"""The laws of decoding on both torch backends: whatever the mix of requests, each text is what its model defines.

The models are in float64, so that no sum made in another order decides between two tokens. What they define is what
transformers computes for the whole text without a cache; of nextok's own module, which rounds its norms to float32
as its numpy twin does, what it computes for the whole text itself.
"""

import copy
from functools import cache, partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nextok.engine import prefix
from nextok.engine.engine import Engine
from nextok.models.torch.plan import Group
from nextok.strategies.beam.beam import Beam
from nextok.strategies.sample import Greedy
from nextok.strategies.speculate import Speculate
from test_cross_product import REQUESTS as ANYTHING
from test_cross_product import in_engine
from test_laws import REQUESTS, the_batch_equals_the_reference
from toys import BEAMS, DRAFTS, SAMPLINGS, STRATEGIES, VOCAB, asked, by_engine, by_reference, outcome
from transformers_models import BACKENDS, by_definition, exact, plain_logits, quiet, straight_logits

CASES = [("adapter", kind, "cpu") for kind in ("llama", "mistral, sliding", "gemma3", "gpt2")]
CASES += [("torch", kind, "cpu") for kind in ("llama", "qwen3")]
if torch.cuda.is_available():  # where passes of few tokens are graphs
    CASES += [(backend, "llama", "cuda") for backend in ("adapter", "torch")]
EVERY = pytest.mark.parametrize("case", CASES, ids=" ".join)


@pytest.fixture(scope="module", autouse=True)
def _quiet():
    with quiet():
        yield


@cache
def models(case):
    """The backend's model, and the same by definition."""
    backend, kind, device = case
    hf_model = copy.deepcopy(exact(kind, vocab=VOCAB)).to(device)
    model = BACKENDS[backend](hf_model)
    whole = partial(plain_logits, hf_model) if backend == "adapter" else partial(straight_logits, model)
    return model, by_definition(whole, VOCAB)


@EVERY
@settings(max_examples=20, deadline=None)
@given(
    specs=st.lists(REQUESTS, min_size=1, max_size=6),
    budget=st.sampled_from([1, 2, 5, 17, 512]),
    seats=st.sampled_from([1, 3, 32]),
    worthwhile=st.sampled_from([1, 2, 64]),
)
def test_the_engine_equals_the_reference_in_any_batch(case, specs, budget, seats, worthwhile):
    model, definition = models(case)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefix, "WORTHWHILE", worthwhile)  # so that short prompts share their beginnings too
        the_batch_equals_the_reference(specs, Engine(model, budget=budget, seats=seats), definition)


@EVERY
@settings(max_examples=10, deadline=None)
@given(st.lists(ANYTHING, min_size=5, max_size=5), st.sampled_from([3, 512]))
def test_any_five_requests_are_each_what_they_are_alone(case, specs, budget):
    model, definition = models(case)
    together = in_engine(specs, budget, target=model)
    for spec, found in zip(specs, together):
        [expected] = in_engine([spec | {"draft": None}], target=definition)
        if expected[1] == "error":  # how far its figures came before is not promised
            assert found[1:3] == expected[1:3]
        else:
            assert found[:3] == expected[:3]
            assert close(found[3], expected[3])


def close(found, expected):
    """Whether two records of log-probabilities say the same; of ties in float32 either order will do."""
    if isinstance(expected, float):
        return found == pytest.approx(expected, abs=1e-5)
    if isinstance(expected, tuple | list):
        return len(found) == len(expected) and all(map(close, found, expected))
    return found == expected


@EVERY
@pytest.mark.parametrize("draft", DRAFTS)
def test_speculation_never_changes_the_text(case, draft):
    model, definition = models(case)
    for seed, sampling in enumerate(SAMPLINGS.values()):
        prompt = [(seed * k + 1) % VOCAB for k in range(1, 5)]
        plain, speculative = asked(prompt, seed=seed), asked(prompt, seed=seed)
        by_reference(sampling, plain, definition)
        by_engine(Speculate(DRAFTS[draft], sampling), speculative, model)
        assert outcome(speculative) == outcome(plain)


@EVERY
@pytest.mark.parametrize(
    "name", ["beam 3", "beam 4 early", "diverse beam", "stochastic beam", "greedy", "filtered", "tree warm"]
)
def test_chunks_of_a_prompt_are_no_other_prompt(case, name):
    model, definition = models(case)
    prompt = [(3 * i * i + i) % VOCAB for i in range(30)]
    plain = asked(prompt, seed=5)
    by_reference(STRATEGIES[name], plain, definition)
    for budget in (3, 512):
        chunked = asked(prompt, seed=5)
        by_engine(STRATEGIES[name], chunked, model, budget=budget)
        assert outcome(chunked) == outcome(plain)


@EVERY
def test_a_beam_of_one_is_greedy(case):
    model, definition = models(case)
    for seed in range(8):
        beam, plain = asked([seed % VOCAB, 3], max_tokens=15), asked([seed % VOCAB, 3], max_tokens=15)
        by_engine(Beam(1), beam, model)
        by_reference(Greedy(), plain, definition)
        assert outcome(beam) == outcome(plain)


def blind_to_branches(group, window=None):
    return (torch.arange(group.slots.shape[1]) < group.seen[..., None])[:, None]


@EVERY
def test_negative_control_a_pass_that_forgets_its_branches_breaks_the_laws(case, monkeypatch):
    model, definition = models(case)
    monkeypatch.setattr(Group, "build_mask", blind_to_branches)
    differ = 0
    for name in BEAMS:
        plain, blind = asked([1, 4, 2], seed=5), asked([1, 4, 2], seed=5)
        by_reference(STRATEGIES[name], plain, definition)
        by_engine(STRATEGIES[name], blind, model)
        differ += outcome(blind) != outcome(plain)
    assert differ > 1
