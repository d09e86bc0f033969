"""From a PyTorch module in memory to a model that the engine can run, sharing its weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from nextok.formats.happy_llm import infer_config, map_names
from nextok.models.base import Feed, Model
from nextok.models.torch.agreement import find_tolerance, measure_difference
from nextok.models.torch.llama import LlamaTorch
from nextok.models.torch.weights import borrow_weights

COMPARED = 8
"""Number of tokens of the text by which a module is compared with the model that shares its weights."""


def adopt(module: object) -> Model:
    """A Happy-LLM style `Transformer`, or any causal LM of transformers, as a model of the engine.

    Nothing is copied, so the module may be trained on between two calls. ValueError if it is of another kind, or if
    its own forward pass gives other logits.
    """
    module = _unwrap(module)
    if isinstance(module, nn.Module):
        if isinstance(getattr(module, "tok_embeddings", None), nn.Module):
            return _adopt_happy_llm(module)
        if hasattr(module, "config") and hasattr(module, "prepare_inputs_for_generation"):
            from nextok.models.torch.huggingface import HuggingFace

            return HuggingFace(module)
    raise ValueError(
        "model must be a nextok LM, a causal LM of transformers or a Happy-LLM style Transformer "
        f"(tok_embeddings, layers.N.attention.wq, ...), got {type(module).__name__}"
    )


def find_pad_token(module: object) -> int:
    """The id that a module's own configuration names as padding; 0 if it names none."""
    for name in ("args", "config", "generation_config"):
        token = _read_names(getattr(_unwrap(module), name, None), "pad_token_id").get("pad_token_id")
        if type(token) is int and token >= 0:
            return token
    return 0


def _adopt_happy_llm(module: nn.Module) -> LlamaTorch:
    weights = module.state_dict()  # of which the values are the parameters' own memory
    kinds = {(weight.device, weight.dtype) for weight in weights.values() if weight.is_floating_point()}
    if len(kinds) > 1:
        raise ValueError("the model's weights must be of one type and on one device: model.to(device, dtype)")
    if any(device.type == "meta" for device, _ in kinds):
        raise ValueError("the model's weights are on meta, where they have no values; load its state dict")
    names = map_names(weights)
    config = infer_config({name: tuple(weights[name].shape) for name in names}, _read_settings(module))
    tensors = {ours: weights[name].detach() for name, ours in names.items()}
    tensors.setdefault("token_embd.weight", tensors.get("output.weight"))
    model = LlamaTorch(config, borrow_weights(config, tensors))
    _check_agreement(module, model)
    return model


def _check_agreement(module: nn.Module, model: LlamaTorch) -> None:
    """ValueError if the module's own forward pass, where it can be called, gives other logits for a short text.

    Hooks, another rotation or a changed class do not show in the weights.
    """
    ids = [(index * 7919 + 3) % model.vocab_size for index in range(min(COMPARED, model.context))]
    expected = _compute_last_logits(module, torch.tensor([ids], device=model.device))
    if expected is None or expected.shape != (model.vocab_size,):
        return
    [found] = model.logits([Feed.from_run(model.open(), ids, rows=[len(ids) - 1])])
    difference = measure_difference(found, expected.float())
    most = max(map(find_tolerance, (model.weights.embedding.dtype, torch.float32)))  # of which rotations always are
    if difference > most:  # NaN is for the readout to report
        raise ValueError(
            f"{type(module).__name__} computes something else than nextok with the same weights: logits differ by "
            f"{difference:.2g} of their spread, and {most:g} may be rounding; nextok runs the forward pass of "
            "Happy-LLM, without hooks"
        )


def _compute_last_logits(module: nn.Module, tokens: Tensor) -> Tensor | None:
    """The module's logits after the last of the tokens [1, length], [vocab]; None if it cannot be called so."""
    with torch.no_grad(), torch.autocast(tokens.device.type, enabled=False), _evaluate(module):
        try:
            found = module(tokens)
        except Exception:  # another signature, or a broken module: there is nothing to compare with
            return None
    found = getattr(found, "logits", found[0] if isinstance(found, tuple) and found else found)
    return found.detach().flatten(0, -2)[-1] if isinstance(found, Tensor) and found.dim() > 1 else None


@contextmanager
def _evaluate(module: nn.Module) -> Iterator[None]:
    """Put all parts into evaluation mode, without dropout; afterwards each is in its own mode again."""
    parts = [(part, part.training) for part in module.modules()]
    try:
        module.eval()
        yield
    finally:
        for part, training in parts:
            part.training = training


def _read_settings(module: nn.Module) -> dict[str, Any]:
    """The module's settings of its shape: `args` in Happy-LLM's own code, `config` after it was exported."""
    names = ("dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "hidden_dim", "multiple_of", "norm_eps")
    for place in ("args", "config"):
        settings = _read_names(getattr(module, place, None), *names, "max_seq_len")
        if "n_heads" in settings:
            return settings
    raise ValueError("the number of heads shows in no weight of the model: model.args must have n_heads")


def _read_names(settings: object, *names: str) -> dict[str, Any]:
    """The settings of these names in a configuration, which is a mapping or an object."""
    if isinstance(settings, Mapping):
        return {name: settings[name] for name in names if name in settings}
    return {name: getattr(settings, name) for name in names if hasattr(settings, name)}


def _unwrap(module: object) -> object:
    """The module inside the wrappers of torch.compile and DataParallel."""
    for name in ("_orig_mod", "module"):
        if isinstance(inner := getattr(module, name, None), nn.Module):
            return _unwrap(inner)
    return module
