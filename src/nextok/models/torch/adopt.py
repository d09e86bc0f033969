"""From a PyTorch module in memory to a model that the engine can run, sharing its weights."""

from typing import Any

from torch import nn

from nextok.formats.happy_llm import config_from_shapes, renamed
from nextok.models.base import Model
from nextok.models.torch.llama import LlamaTorch
from nextok.models.torch.weights import borrowed


def adopted(module: object) -> Model:
    """A Happy-LLM style `Transformer`, or any causal LM of transformers, as a model of the engine.

    Nothing is copied, so the module may be trained on between two calls. ValueError if it is of another kind.
    """
    module = _unwrapped(module)
    if isinstance(module, nn.Module):
        if any(name.endswith("tok_embeddings.weight") for name, _ in module.named_parameters()):
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
        token = getattr(getattr(_unwrapped(module), name, None), "pad_token_id", None)
        if type(token) is int and token >= 0:
            return token
    return 0


def _happy_llm(module: nn.Module) -> LlamaTorch:
    weights = module.state_dict()  # of which the values are the parameters' own memory
    if len({(weight.device, weight.dtype) for weight in weights.values() if weight.is_floating_point()}) > 1:
        raise ValueError("the model's weights must be of one type and on one device: model.to(device, dtype)")
    names = renamed(weights)
    config = config_from_shapes({name: tuple(weights[name].shape) for name in names}, _settings(module))
    tensors = {ours: weights[name].detach() for name, ours in names.items()}
    tensors.setdefault("token_embd.weight", tensors.get("output.weight"))
    return LlamaTorch(config, borrowed(config, tensors))


def _settings(module: nn.Module) -> dict[str, Any]:
    """What the module says of its shape: `args` in the book, `config` after it was exported."""
    fields = ("dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "hidden_dim", "multiple_of", "norm_eps")
    for says in (getattr(module, "args", None), getattr(module, "config", None)):
        if hasattr(says, "n_heads"):
            return {name: getattr(says, name) for name in (*fields, "max_seq_len") if hasattr(says, name)}
    raise ValueError("how many heads the model has shows in no weight: model.args must say n_heads")


def _unwrapped(module: object) -> object:
    """The module itself, out of what torch.compile and DataParallel put around it."""
    for name in ("_orig_mod", "module"):
        if isinstance(inner := getattr(module, name, None), nn.Module):
            return _unwrapped(inner)
    return module
