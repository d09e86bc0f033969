"""Tiny random models of transformers, what transformers itself says of a text, and nextok's two ways to run them."""

import copy
import logging
import zlib
from collections.abc import Callable
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from nextok.engine.engine import Engine
from nextok.formats import open_model
from nextok.formats.tensor import Checkpoint
from nextok.models.base import Feed, Model
from nextok.models.torch.huggingface import HuggingFace
from nextok.models.torch.llama import LlamaTorch
from nextok.models.torch.weights import load_weights
from nextok.models.toy import ToyModel
from toys import asked

CPU = torch.device("cpu")
SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
SHAPE |= {"num_key_value_heads": 2, "max_position_embeddings": 128, "vocab_size": 40, "initializer_range": 0.6}
SHAPE |= {"bos_token_id": 2, "eos_token_id": 0, "pad_token_id": 0}

LLAMAS: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama"},
    "qwen2": {"model_type": "qwen2"},
    "qwen3": {"model_type": "qwen3", "head_dim": 12},
    "mistral": {"model_type": "mistral", "sliding_window": 64},
}
"""Those that nextok has a module of its own for."""

WINDOW = 5
SLIDING: dict[str, dict[str, Any]] = {
    "mistral, sliding": {"model_type": "mistral", "sliding_window": WINDOW},
    "qwen2, mixed": {
        "model_type": "qwen2",
        "use_sliding_window": True,
        "sliding_window": WINDOW,
        "max_window_layers": 1,
    },
    "gemma2": {"model_type": "gemma2", "sliding_window": WINDOW, "head_dim": 8, "query_pre_attn_scalar": 8},
    "gemma3": {
        "model_type": "gemma3_text",
        "sliding_window": WINDOW,
        "head_dim": 8,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "phi3": {"model_type": "phi3", "sliding_window": WINDOW},
    "gpt-oss": {
        "model_type": "gpt_oss",
        "sliding_window": WINDOW,
        "head_dim": 8,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
    },
}
"""Those of whose layers some or all see only the last few tokens."""

OTHERS: dict[str, dict[str, Any]] = {
    "gpt2": {"model_type": "gpt2"},
    "gpt-neox": {"model_type": "gpt_neox"},
    "opt": {"model_type": "opt", "ffn_dim": 48, "word_embed_proj_dim": 32},
    "olmo2": {"model_type": "olmo2"},
    "modernbert": {"model_type": "modernbert-decoder"},  # whose embedding is called as that of Happy-LLM
    "doge": {"model_type": "doge"},
    "falcon": {"model_type": "falcon", "alibi": False},
    "mixtral": {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
    "deepseek": {  # whose keys are wider than its values
        "model_type": "deepseek_v3",
        "num_key_value_heads": 4,
        "first_k_dense_replace": 2,
        "kv_lora_rank": 16,
        "q_lora_rank": 16,
        "qk_rope_head_dim": 4,
        "qk_nope_head_dim": 8,
        "v_head_dim": 6,
    },
}
KINDS = LLAMAS | SLIDING | OTHERS
EAGER_ONLY = ("gemma2", "gpt-oss")


@contextmanager
def quiet():
    """Torch on one thread, transformers without its advice."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)
    torch.set_num_threads(threads)


def made(settings: dict[str, Any], attention: str = "sdpa", seed: int = 0) -> PreTrainedModel:
    """A random model; the caller may do with it what it likes."""
    torch.manual_seed(seed + zlib.crc32(settings["model_type"].encode()))
    config = AutoConfig.for_model(**(SHAPE | settings))
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation=attention)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 1:  # biases begin at 0 and norms at 1, where a missing one would not show
                weight += 0.3 * torch.randn_like(weight)
        if "gemma" in settings["model_type"]:  # which scale embeddings up until nothing else is heard
            model.get_input_embeddings().weight *= 0.1
    return model.eval()


@cache
def tiny(kind: str, attention: str = "sdpa", seed: int = 0, vocab: int = 40) -> PreTrainedModel:
    """A random model of a kind."""
    return made(KINDS[kind] | {"vocab_size": vocab}, "eager" if kind in EAGER_ONLY else attention, seed)


@cache
def exact(kind: str, seed: int = 0, vocab: int = 7) -> PreTrainedModel:
    """The same in float64, so that no sum made in another order decides between two tokens."""
    return made(KINDS[kind] | {"vocab_size": vocab}, "eager" if kind in EAGER_ONLY else "sdpa", seed).double()


def llama_torch(model: PreTrainedModel) -> LlamaTorch:
    """nextok's own module with the weights of a model, which go through files."""
    with TemporaryDirectory() as folder:
        copy.deepcopy(model).float().save_pretrained(folder)
        return from_checkpoint(open_model(Path(folder)), model.dtype, model.device)


def from_checkpoint(
    checkpoint: Checkpoint, dtype: torch.dtype = torch.float32, device: torch.device = CPU
) -> LlamaTorch:
    """nextok's own module of a checkpoint."""
    return LlamaTorch(checkpoint.config, load_weights(checkpoint, dtype, device))


def of_transformers(checkpoint: Checkpoint) -> LlamaForCausalLM:
    """A Llama out of a GGUF file as transformers computes it, in float32."""
    config = checkpoint.config
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.width,
            intermediate_size=config.hidden,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.kv_heads,
            max_position_embeddings=config.context,
            rms_norm_eps=config.norm_epsilon,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
            tie_word_embeddings=True,
            eos_token_id=None,
        )
    )
    state = {}
    for name, tensor in checkpoint.tensors.items():
        for theirs, ours in NAMES.items():
            name = name.replace(theirs, ours)
        weight = torch.from_numpy(tensor.to_float32())
        if "q_proj" in name or "k_proj" in name:  # whose rows lie in pairs in this file, and in halves there
            weight = weight.view(-1, config.head_width // 2, 2, config.width).transpose(1, 2).reshape(weight.shape)
        state[name] = weight
    unused = model.load_state_dict(state, strict=False)
    assert unused.missing_keys == ["lm_head.weight"]
    assert not unused.unexpected_keys
    return model.eval()


NAMES = {"blk.": "model.layers.", "token_embd": "model.embed_tokens", "output_norm": "model.norm"}
NAMES |= {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_output": "self_attn.o_proj"}
NAMES |= {f"attn_{letter}.": f"self_attn.{letter}_proj." for letter in "qkv"}
NAMES |= {f"ffn_{name}": f"mlp.{name}_proj" for name in ("gate", "up", "down")}

BACKENDS = {"adapter": HuggingFace, "torch": llama_torch}


def plain_logits(model: PreTrainedModel, path: list[int] | tuple[int, ...]) -> torch.Tensor:
    """What the model itself says after each token of a text read whole, [tokens, vocab]."""
    ids = torch.tensor([list(path)], device=model.device)
    with torch.inference_mode():
        return model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0]


def by_definition(logits: Callable[[list[int]], torch.Tensor], vocab: int) -> ToyModel:
    """A model as a plain function of the tokens so far, given what it says after each token of a text."""

    @cache
    def scores(path: tuple[int, ...]) -> tuple[float, ...]:
        return tuple(logits(list(path))[-1].tolist())

    return ToyModel(vocab, scores)


def padded(prompts: list[list[int]]) -> dict[str, torch.Tensor]:
    """Prompts of any lengths as transformers wants them, on the left."""
    longest = max(map(len, prompts))
    ids = [[0] * (longest - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


def generated(
    model: PreTrainedModel, prompts: list[list[int]], ends: list[int], at_most: int, **settings: Any
) -> Any:
    """What transformers writes after the prompts: [(tokens, score of a beam or None)] for each."""
    wishes = {"do_sample": False, "return_dict_in_generate": True, "max_new_tokens": at_most, "pad_token_id": 0}
    found = model.generate(**padded(prompts), eos_token_id=ends, **(wishes | settings))
    texts = [cut(row[max(map(len, prompts)) :].tolist(), ends) for row in found.sequences]
    scores = getattr(found, "sequences_scores", None)
    pairs = list(zip(texts, [None] * len(texts) if scores is None else scores.tolist()))
    n = settings.get("num_return_sequences", 1)
    return [pairs[i : i + n] for i in range(0, len(pairs), n)]


def greedy(model: PreTrainedModel, prompts: list[list[int]], ends: list[int], at_most: int, **settings: Any) -> Any:
    """The same, for one text each and without scores."""
    return [found[0][0] for found in generated(model, prompts, ends, at_most, **settings)]


def cut(tokens: list[int], ends: list[int]) -> list[int]:
    """Without what follows the first end: padding."""
    return next((tokens[: i + 1] for i, token in enumerate(tokens) if token in ends), tokens)


def written(
    model: Model, strategy: Any, prompts: list[list[int]], ends: list[int], at_most: int, seed: int = 0
) -> Any:
    """What nextok writes after all prompts in one engine."""
    engine, requests = Engine(model), []
    for index, prompt in enumerate(prompts):
        requests.append(request := asked(prompt, seed=index, max_tokens=at_most, stop_ids=frozenset(ends)))
        engine.submit(request, strategy, lambda event: None)
    engine.run()
    for request in requests:
        if request.error:
            raise request.error
    return [request.tokens for request in requests]


def straight_logits(model: Any, path: list[int]) -> torch.Tensor:
    """What a backend says after each token of a text, in one pass."""
    return model.logits([Feed.from_run(model.open(), path)])
