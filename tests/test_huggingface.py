"""The adapter over models of transformers: right for each kind that it takes, a clear no for every other."""

import copy
import random

import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    LlamaForCausalLM,
)

from nextok.core.tree import ROOT, Tree
from nextok.engine.memo import Memo
from nextok.errors import LimitError
from nextok.models.base import Feed
from nextok.models.torch import agreement, plan
from nextok.models.torch.huggingface import GroupCache, HuggingFace
from nextok.models.torch.plan import FEW_TOKENS, Group
from transformers_models import EAGER_ONLY, KINDS, OTHERS, SHAPE, SLIDING, WINDOW, made, plain_logits, quiet, tiny

NEAR = 1e-4
WAYS = [(kind, way) for kind in KINDS for way in ("sdpa", "eager") if way == "eager" or kind not in EAGER_ONLY]


@pytest.fixture(scope="module", autouse=True)
def _quiet():
    with quiet():
        yield


def grown(dice, size):
    """A random tree of so many nodes, some long and narrow and some bushy."""
    tree, nodes, reach = Tree(), [], dice.choice([1, 3, 40])
    while len(nodes) < size:
        parent = dice.choice([ROOT, *nodes][-reach:]) if nodes else ROOT
        node = tree.add(parent, dice.randrange(SHAPE["vocab_size"]))
        if node not in nodes:
            nodes.append(node)
    return tree, nodes


def difference(hf_model, model, dice, trees=3, size=45):
    """The largest, over random trees read together in random shares, from the texts of their paths read whole."""
    worlds = [(*grown(dice, size), Memo(model.open())) for _ in range(trees)]
    worst = 0.0
    for _ in range(4):
        feeds, paths = [], []
        for tree, nodes, memo in worlds:
            wanted = dice.sample(nodes, dice.choice([1, 3, 8]))
            feed, answered = memo.feed(tree, sorted(wanted), wanted, dice.choice([2, 9, 512]))
            feeds.append(feed)
            paths += [tree.path(node) for node in answered]
        found = model.logits(feeds)
        for row, path in zip(found, paths, strict=True):
            worst = max(worst, float((row - plain_logits(hf_model, path)[-1]).abs().max()))
    return worst


@pytest.mark.parametrize(("kind", "way"), WAYS)
def test_trees_read_together_equal_texts_read_whole(kind, way):
    hf_model = tiny(kind, way)
    model = HuggingFace(hf_model)
    for seed in range(3):
        assert difference(hf_model, model, random.Random(seed)) < NEAR


@pytest.mark.parametrize("kind", SLIDING)
@pytest.mark.parametrize("length", [WINDOW - 1, WINDOW, WINDOW + 1, WINDOW + 2, 40])
def test_a_window_ends_where_transformers_ends_it(kind, length):
    hf_model, path = tiny(kind), [(7 * i + 3) % SHAPE["vocab_size"] for i in range(length)]
    model = HuggingFace(hf_model)
    cache, found = model.open(), []
    for start, token in enumerate(path):
        found.append(model.logits([Feed.from_run(cache, [token], start)]))
    assert (torch.cat(found) - plain_logits(hf_model, path)).abs().max() < NEAR


@pytest.mark.parametrize("slip", [-1, 1])
@pytest.mark.parametrize("kind", SLIDING)
def test_negative_control_a_window_that_is_one_off_is_refused(kind, slip, monkeypatch):
    right = Group.build_mask
    monkeypatch.setattr(Group, "build_mask", lambda group, window=None: right(group, window and window + slip))
    with pytest.raises(ValueError, match=f"{type(tiny(kind)).__name__} computes something else with nextok's cache"):
        HuggingFace(tiny(kind))


def test_a_group_of_one_shape_is_one_forward_pass_and_a_long_prompt_another():
    hf_model, calls = made(KINDS["llama"]), []
    model = HuggingFace(hf_model)
    hf_model.register_forward_pre_hook(
        lambda module, args, given: calls.append([*given["input_ids"].shape]), with_kwargs=True
    )
    lengths = [1, FEW_TOKENS + 1, 3, FEW_TOKENS, FEW_TOKENS + 20]
    paths = [[(5 * i + n) % SHAPE["vocab_size"] for i in range(n)] for n in lengths]
    found = model.logits([Feed.from_run(model.open(), path) for path in paths])
    assert calls == [[3, FEW_TOKENS], [1, FEW_TOKENS + 1], [1, FEW_TOKENS + 20]]
    expected = torch.cat([plain_logits(hf_model, path) for path in paths])
    assert (found - expected).abs().max() < NEAR


def test_only_rows_that_are_wanted_go_through_the_head():
    hf_model, heads = made(KINDS["llama"]), []
    model = HuggingFace(hf_model)
    hf_model.lm_head.register_forward_pre_hook(lambda module, args: heads.append([*args[0].shape[:2]]))
    path = list(range(30))
    assert model.logits([Feed.from_run(model.open(), path, rows=[29])]).shape == (1, 40)
    assert model.logits([Feed.from_run(model.open(), path, rows=[])]).shape == (0, 40)
    two = [Feed.from_run(model.open(), path[:n], rows=rows) for n, rows in ((9, [2, 8]), (4, [3]))]
    found = model.logits(two)
    assert heads == [[1, 1], [1, 1], [2, 3]]
    expected = plain_logits(hf_model, path)
    assert (found - expected[[2, 8, 3]]).abs().max() < NEAR


def test_caches_that_grow_move_and_fork_keep_what_was_read():
    hf_model = tiny("mistral, sliding")
    model, path = HuggingFace(hf_model), [(11 * i + 1) % 40 for i in range(100)]
    caches = [model.open() for _ in range(30)]  # more than the pool begins with
    for cache in caches:
        model.logits([Feed.from_run(cache, path)])
    assert model.pool.growths > 0
    forked = caches[7].fork(60)
    forked.move([58, 59], [59, 58])
    forked.move([58, 59], [59, 58])
    found = model.logits([Feed.from_run(each, path[60:64], 60) for each in (forked, caches[3])])
    expected = plain_logits(hf_model, path[:64])[60:]
    assert (found.view(2, 4, -1) - expected).abs().max() < NEAR


def test_what_a_wrong_question_raises():
    model = HuggingFace(tiny("llama"))
    assert (model.vocab_size, model.context, model.device.type) == (40, 128, "cpu")
    with pytest.raises(ValueError, match="token id 40 is outside the vocabulary"):
        model.logits([Feed.from_run(model.open(), [1, 40])])
    with pytest.raises(LimitError, match="context of 128"):
        model.logits([Feed.from_run(model.open(), [1] * 129)])


ROTATION = {"rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 32}


LONGROPE = {"rope_type": "longrope", **ROTATION, "short_factor": [1.0] * 4, "long_factor": [3.0] * 4}
LONGROPE = {"model_type": "phi3", "original_max_position_embeddings": 32, "rope_parameters": LONGROPE}


@pytest.mark.parametrize(
    ("changes", "context"),
    [
        ({"rope_parameters": {"rope_type": "yarn", **ROTATION}}, 128),
        ({"rope_parameters": {"rope_type": "dynamic", **ROTATION}}, 32),
        (LONGROPE, 32),
        ({"model_type": "doge", "keep_window_size": 24}, 24),
    ],
    ids=["yarn", "dynamic", "longrope", "the best few"],
)
def test_what_depends_on_the_batch_or_on_its_order_ends_the_context(changes, context):
    assert HuggingFace(made(KINDS["llama"] | changes)).context == context


def trained(settings):
    return made(settings).train()


def half_trained(settings):
    model = made(settings)
    model.model.layers[1].train()
    return model


def quantized_cache(settings):
    model = made(settings)
    model.generation_config.cache_implementation = "quantized"
    return model


def flash(settings):
    model = made(settings)
    model.config._attn_implementation = "flash_attention_2"
    return model


def without(name):
    def make(settings):
        model = made(settings)
        object.__setattr__(model.config, name, None)  # past its own checks, as code of one's own may be
        return model

    return make


def scattered(settings):
    model = made(settings)
    model.lm_head.to("meta")
    return model


def of_class(auto):
    def make(settings):
        from transformers import AutoConfig

        return auto.from_config(AutoConfig.for_model(**(SHAPE | settings))).eval()

    return make


LLAMA = KINDS["llama"]
RECURRENT = {"num_hidden_layers": 2, "layer_types": ["linear_attention", "full_attention"]}
JAMBA = {"attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False}
REFUSED = {
    "mamba": (of_class(AutoModelForCausalLM), {"model_type": "mamba"}, "Mamba.* recurrent state"),
    "jamba": (of_class(AutoModelForCausalLM), {"model_type": "jamba", **JAMBA}, "Jamba.* recurrent state"),
    "recurrent gemma": (
        of_class(AutoModelForCausalLM),
        {"model_type": "recurrent_gemma", "lru_width": 32},
        "RecurrentGemma.* recurrent state",
    ),
    "qwen3 next": (made, {"model_type": "qwen3_next", "head_dim": 8, **RECURRENT}, "Qwen3Next.* recurrent state"),
    "minimax": (made, {"model_type": "minimax", **RECURRENT}, "MiniMax.* layers of the type linear_attention"),
    "lfm2": (
        made,
        {"model_type": "lfm2", "layer_types": ["conv", "full_attention"]},
        "Lfm2.* layers of the type conv",
    ),
    "llama 4": (made, {"model_type": "llama4_text"}, "Llama4.* layers of the type chunked_attention"),
    "bloom": (of_class(AutoModelForCausalLM), {"model_type": "bloom"}, "Bloom.*ALiBi"),
    "mpt": (of_class(AutoModelForCausalLM), {"model_type": "mpt"}, "Mpt.*ALiBi"),
    "falcon": (made, {"model_type": "falcon", "alibi": True}, "Falcon.*ALiBi"),
    "t5": (of_class(AutoModelForSeq2SeqLM), {"model_type": "t5"}, "T5.* encoder"),
    "bert": (made, {"model_type": "bert", "is_decoder": False}, "BertLMHeadModel computes something else"),
    "cross attention": (made, {"model_type": "gpt2", "add_cross_attention": True}, "GPT2.* encoder"),
    "no cache": (of_class(AutoModelForCausalLM), {"model_type": "openai-gpt"}, "OpenAIGPT.*keeps no keys and values"),
    "local attention": (
        of_class(AutoModelForCausalLM),
        {"model_type": "gpt_neo", "attention_types": [[["global", "local"], 1]]},
        "GPTNeoForCausalLM computes something else",
    ),
    "both ways": (
        made,
        {"model_type": "gemma3_text", "head_dim": 8, "use_bidirectional_attention": True},
        "Gemma3ForCausalLM computes something else",
    ),
    "no head": (of_class(AutoModel), LLAMA, "LlamaModel is no causal language model.*AutoModelForCausalLM"),
    "classifier": (of_class(AutoModelForSequenceClassification), LLAMA, "is no causal language model"),
    "module": (lambda settings: torch.nn.Linear(2, 2), LLAMA, "Linear is no model of transformers"),
    "training": (trained, LLAMA, r"training mode.*model\.eval\(\)"),
    "training in part": (half_trained, LLAMA, r"training mode.*model\.eval\(\)"),
    "flash": (flash, LLAMA, 'flash_attention_2.*set_attn_implementation\\("sdpa"\\)'),
    "quantized cache": (quantized_cache, LLAMA, "quantized cache.*cache_implementation = None"),
    "vocabulary": (without("vocab_size"), LLAMA, r"no vocab_size.*set model\.config\.vocab_size"),
    "length": (without("max_position_embeddings"), LLAMA, r"how long a text.*set model\.config\.max_position"),
    "devices": (scattered, LLAMA, "lies on cpu and meta; load it on one device"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_right_is_refused_by_name(name):
    make, settings, said = REFUSED[name]
    model = make(settings)
    with pytest.raises(ValueError, match=said) as refusal:
        HuggingFace(model)
    assert str(refusal.value).startswith(type(model).__name__)
    assert "\n" not in str(refusal.value)


class CountsOnOrder(LlamaForCausalLM):
    """Moves its scores by how much has been read before: right in a chain, wrong in a tree."""

    def forward(self, input_ids, attention_mask=None, position_ids=None, past_key_values=None, **settings):
        before = 0 if past_key_values is None else past_key_values.get_seq_length()
        found = super().forward(input_ids, attention_mask, position_ids, past_key_values, **settings)
        found.logits = found.logits + 0.1 * (before + torch.arange(input_ids.shape[1])[:, None])
        return found


class Chatterbox(LlamaForCausalLM):
    """Answers in several lines when asked for only some rows."""

    def forward(self, input_ids, logits_to_keep=0, position_ids=None, **settings):
        raise RuntimeError("first line\nsecond line")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [(CountsOnOrder, "CountsOnOrder computes something else"), (Chatterbox, "Chatterbox cannot be")],
)
def test_a_model_with_a_pass_of_its_own_is_found_out(wrong, said):
    config = copy.deepcopy(tiny("llama").config)
    with pytest.raises(ValueError, match=said) as refusal:
        HuggingFace(wrong(config).eval())
    assert "\n" not in str(refusal.value)


def forgetful(self, key_states, value_states, layer_idx, *args, **kwargs):
    keys, values = self._pool.layers[layer_idx]
    return keys[self._group.slots].transpose(1, 2), values[self._group.slots].transpose(1, 2)


def blind_to_branches(self, window=None):
    mask = torch.arange(self.slots.shape[1]) < self.seen[..., None]
    return mask[:, None]


def sees_everything(self, window=None):
    return torch.ones(self.rows.shape, dtype=torch.bool)[:, None, :, None].expand(-1, -1, -1, self.slots.shape[1])


@pytest.mark.parametrize(
    ("place", "name", "wrong"),
    [
        (GroupCache, "update", forgetful),
        (Group, "build_mask", blind_to_branches),
        (Group, "build_mask", sees_everything),
        (Feed, "find_position", lambda feed, index: feed.slots[index]),
    ],
)
def test_negative_control_a_broken_cache_fails_the_check(place, name, wrong, monkeypatch):
    monkeypatch.setattr(place, name, wrong)
    with pytest.raises(ValueError, match="computes something else"):
        HuggingFace(tiny("llama"))


def state(model):
    """All of a model that a use of it could change."""
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]
    tensors = {name: each.clone() for name, each in [*model.named_parameters(), *model.named_buffers()]}
    flags = [module.training for module in model.modules()], [each.requires_grad for each in model.parameters()]
    names = [sorted(vars(module)) for module in model.modules()]
    return tensors, (
        model.config.to_dict(),
        model.generation_config.to_dict(),
        hooks,
        flags,
        names,
        vars(model).keys(),
    )


@pytest.mark.parametrize("kind", ["llama", "gemma3", "gpt2", "opt"])
def test_the_model_stays_as_it_was(kind):
    model = made(KINDS[kind])
    tensors, rest = state(model)
    torch.manual_seed(8)
    before = torch.get_rng_state()
    adapter = HuggingFace(model)
    adapter.logits([Feed.from_run(adapter.open(), list(range(40)))])
    assert torch.equal(torch.get_rng_state(), before)
    after, rest_after = state(model)
    assert rest_after == rest
    assert after.keys() == tensors.keys()
    assert all(torch.equal(after[name], tensors[name]) for name in tensors)
    assert torch.is_grad_enabled()
    model(torch.tensor([[1, 2]])).logits.sum().backward()  # and it can still be trained


def test_what_a_model_puts_by_in_a_pass_still_serves_its_training():
    model = made(LONGROPE)
    HuggingFace(model)
    put_by = [each for module in model.modules() for each in vars(module).values() if isinstance(each, torch.Tensor)]
    assert put_by
    assert not any(each.is_inference() for each in put_by)


def test_a_model_put_to_training_later_says_so():
    hf_model = made(KINDS["llama"])
    model = HuggingFace(hf_model)
    hf_model.train()
    with pytest.raises(ValueError, match=r"LlamaForCausalLM is in training mode; call model\.eval\(\)"):
        model.logits([Feed.from_run(model.open(), [1])])


@pytest.mark.parametrize("changed", [torch.nn.Module.double, lambda model: model.to("meta")])
def test_a_model_moved_later_says_so(changed):
    hf_model = made(KINDS["llama"])
    model = HuggingFace(hf_model)
    changed(hf_model)
    said = "LlamaForCausalLM was torch.float32 on cpu when it was wrapped, and is now .*; wrap it again"
    with pytest.raises(ValueError, match=said):
        model.logits([Feed.from_run(model.open(), [1])])


def test_autocast_around_a_call_changes_no_score():
    hf_model, path = made(KINDS["llama"]), [(7 * i + 3) % 40 for i in range(20)]
    before = HuggingFace(hf_model)
    with torch.autocast("cpu", torch.bfloat16):
        inside = HuggingFace(hf_model)
        found = [model.logits([Feed.from_run(model.open(), path)]) for model in (before, inside)]
    for each in found:
        assert (each - plain_logits(hf_model, path)).abs().max() < NEAR


def test_scores_without_any_spread_and_scores_ruled_out_are_no_difference():
    """A head that is still zero, and one token that the model never says, however it says so."""
    flat = made(KINDS["llama"])
    with torch.no_grad():
        flat.lm_head.weight.zero_()
    assert HuggingFace(flat).vocab_size == 40
    for never in (-torch.inf, torch.finfo(torch.float32).min):
        hf_model = made(KINDS["llama"])
        hf_model.lm_head.register_forward_hook(
            lambda module, given, found, never=never: found.index_fill(-1, RULED_OUT, never)
        )
        path = list(range(20))
        model = HuggingFace(hf_model)
        found = model.logits([Feed.from_run(model.open(), path)])
        assert (found[:, RULED_OUT] == never).all()


RULED_OUT = torch.tensor([5])


@pytest.mark.parametrize("never", [-torch.inf, torch.finfo(torch.float32).min])
def test_negative_control_a_token_ruled_out_hides_no_difference(never):
    hf_model = CountsOnOrder(copy.deepcopy(tiny("llama").config)).eval()
    hf_model.lm_head.register_forward_hook(lambda module, given, found: found.index_fill(-1, RULED_OUT, never))
    with pytest.raises(ValueError, match="CountsOnOrder computes something else"):
        HuggingFace(hf_model)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_of_numbers(dtype):
    hf_model = made(KINDS["llama"]).to(dtype)
    model = HuggingFace(hf_model)
    path = [(7 * i + 3) % 40 for i in range(20)]
    found, expected = model.logits([Feed.from_run(model.open(), path)]), plain_logits(hf_model, path).float()
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() < expected.std() * agreement.find_tolerance(dtype)
    assert model.pool.layers[0][0].dtype == dtype


def test_the_kinds_differ_in_what_they_are_here_for():
    """Each window matters, the branches matter, and keys may be wider than values."""
    for kind in SLIDING:
        wide = made(SLIDING[kind] | {"sliding_window": 100}, "eager")
        path = list(range(30))
        assert (plain_logits(wide, path)[-1] - plain_logits(tiny(kind), path)[-1]).abs().max() > 100 * NEAR
    keys, values = HuggingFace(tiny("deepseek")).pool.layers[0]
    assert keys.shape[-1] > values.shape[-1]
    assert {"gpt2", "gpt-neox", "opt", "olmo2"} <= OTHERS.keys()
    assert plan.FEW_TOKENS < 30
