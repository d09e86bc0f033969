"""From a PyTorch module in memory to a model that the engine can run, sharing its weights."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from nextok.models.base import Model
from nextok.models.torch.llama import LlamaTorch


def adopted(module: object) -> Model:
    """A Happy-LLM style `Transformer`, or any causal LM of transformers, as a model of the engine.

    Nothing is copied, so the module may be trained on between two calls. ValueError if it is of another kind.
    """
    if isinstance(module, nn.Module):
        if any(name.endswith("tok_embeddings.weight") for name, _ in module.named_parameters()):
            return _happy_llm(module)
        if hasattr(module, "config") and hasattr(module, "prepare_inputs_for_generation"):
            from nextok.models.torch.huggingface import HuggingFace  # type: ignore

            return HuggingFace(module)  # type: ignore
    raise ValueError(
        "model must be a nextok LM, a causal LM of transformers or a Happy-LLM style Transformer "
        f"(tok_embeddings, layers.N.attention.wq, ...), got {type(module).__name__}"
    )


def pad_token(module: object) -> int:
    """The id that a module's own configuration pads with; 0 if it does not say."""
    for name in ("args", "config", "generation_config"):
        token = getattr(getattr(module, name, None), "pad_token_id", None)
        if type(token) is int and token >= 0:
            return token
    return 0


def _happy_llm(module: nn.Module) -> LlamaTorch:
    from nextok.formats.happy_llm import config_from_shapes, renamed  # type: ignore

    weights = module.state_dict()  # of which the values are the parameters' own memory
    if len({(weight.device, weight.dtype) for weight in weights.values() if weight.is_floating_point()}) > 1:
        raise ValueError("the model's weights must be of one type and on one device: model.to(device, dtype)")
    names = renamed(weights)
    config = config_from_shapes({name: tuple(weights[name].shape) for name in names}, _settings(module))
    return LlamaTorch(config, _named(weights, names))


def _named(weights: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    return {ours: weights[name].detach() for name, ours in names.items()}


def _settings(module: nn.Module) -> dict[str, Any]:
    """What the module says of its shape: `args` in the book, `config` after it was exported."""
    args = getattr(module, "args", None) or getattr(module, "config", None) or object()
    fields = ("dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "hidden_dim", "multiple_of", "norm_eps")
    return {name: getattr(args, name) for name in (*fields, "max_seq_len") if hasattr(args, name)}
