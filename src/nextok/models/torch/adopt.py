"""From a PyTorch module in memory to a model that the engine can run, sharing its weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from nextok.formats.happy_llm import config_from_shapes, renamed
from nextok.models.base import Feed, Model
from nextok.models.torch.agreement import apart, rounding
from nextok.models.torch.llama import LlamaTorch
from nextok.models.torch.weights import borrowed

COMPARED = 8
"""Tokens of the text by which a module is compared with what is made of it."""


def adopted(module: object) -> Model:
    """A Happy-LLM style `Transformer`, or any causal LM of transformers, as a model of the engine.

    Nothing is copied, so the module may be trained on between two calls. ValueError if it is of another kind, or if
    its own forward pass says something else.
    """
    module = _unwrapped(module)
    if isinstance(module, nn.Module):
        if isinstance(getattr(module, "tok_embeddings", None), nn.Module):
            return _happy_llm(module)
        if hasattr(module, "config") and hasattr(module, "prepare_inputs_for_generation"):
            from nextok.models.torch.huggingface import HuggingFace

            return HuggingFace(module)
    raise ValueError(
        "model must be a nextok LM, a causal LM of transformers or a Happy-LLM style Transformer "
        f"(tok_embeddings, layers.N.attention.wq, ...), got {type(module).__name__}"
    )


def pad_token(module: object) -> int:
    """The id that a module's own configuration pads with; 0 if it does not say."""
    for name in ("args", "config", "generation_config"):
        token = _said(getattr(_unwrapped(module), name, None), "pad_token_id").get("pad_token_id")
        if type(token) is int and token >= 0:
            return token
    return 0


def _happy_llm(module: nn.Module) -> LlamaTorch:
    weights = module.state_dict()  # of which the values are the parameters' own memory
    kinds = {(weight.device, weight.dtype) for weight in weights.values() if weight.is_floating_point()}
    if len(kinds) > 1:
        raise ValueError("the model's weights must be of one type and on one device: model.to(device, dtype)")
    if any(device.type == "meta" for device, _ in kinds):
        raise ValueError("the model's weights are on meta, where they have no values; load its state dict")
    names = renamed(weights)
    config = config_from_shapes({name: tuple(weights[name].shape) for name in names}, _settings(module))
    tensors = {ours: weights[name].detach() for name, ours in names.items()}
    tensors.setdefault("token_embd.weight", tensors.get("output.weight"))
    made = LlamaTorch(config, borrowed(config, tensors))
    _check_agreement(module, made)
    return made


def _check_agreement(module: nn.Module, made: LlamaTorch) -> None:
    """ValueError if the module's own forward pass, where it can be asked, says something else of a short text.

    A hook, another rotation or a class of one's own shows in no weight.
    """
    ids = [(index * 7919 + 3) % made.vocab_size for index in range(min(COMPARED, made.context))]
    expected = _last_logits(module, torch.tensor([ids], device=made.device))
    if expected is None or expected.shape != (made.vocab_size,):
        return
    [found] = made.logits([Feed.straight(made.open(), ids, rows=[len(ids) - 1])])
    difference = apart(found, expected.float())
    most = max(map(rounding, (made.weights.embedding.dtype, torch.float32)))  # of which rotations always are
    if difference > most:  # NaN is for the readout to report
        raise ValueError(
            f"{type(module).__name__} computes something else than nextok with the same weights: logits differ by "
            f"{difference:.2g} of their spread, and {most:g} may be rounding; nextok runs the forward pass of "
            "Happy-LLM, without hooks"
        )


def _last_logits(module: nn.Module, tokens: Tensor) -> Tensor | None:
    """What the module says after the last of the tokens [1, length], [vocab]; None if it cannot be asked so."""
    with torch.no_grad(), torch.autocast(tokens.device.type, enabled=False), _evaluating(module):
        try:
            said = module(tokens)
        except Exception:  # of another signature, or out of order: then there is nothing to compare with
            return None
    said = getattr(said, "logits", said[0] if isinstance(said, tuple) and said else said)
    return said.detach().flatten(0, -2)[-1] if isinstance(said, Tensor) and said.dim() > 1 else None


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Without dropout; each part is then in its own mode again."""
    parts = [(part, part.training) for part in module.modules()]
    try:
        module.eval()
        yield
    finally:
        for part, training in parts:
            part.training = training


def _settings(module: nn.Module) -> dict[str, Any]:
    """What the module says of its shape: `args` in the book, `config` after it was exported."""
    names = ("dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "hidden_dim", "multiple_of", "norm_eps")
    for place in ("args", "config"):
        said = _said(getattr(module, place, None), *names, "max_seq_len")
        if "n_heads" in said:
            return said
    raise ValueError("how many heads the model has shows in no weight: model.args must say n_heads")


def _said(settings: object, *names: str) -> dict[str, Any]:
    """What a configuration, a mapping or an object, says under these names."""
    if isinstance(settings, Mapping):
        return {name: settings[name] for name in names if name in settings}
    return {name: getattr(settings, name) for name in names if hasattr(settings, name)}


def _unwrapped(module: object) -> object:
    """The module itself, out of what torch.compile and DataParallel put around it."""
    for name in ("_orig_mod", "module"):
        if isinstance(inner := getattr(module, name, None), nn.Module):
            return _unwrapped(inner)
    return module
