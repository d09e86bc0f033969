"""Which models of transformers can be run here, and how far back and how far on their layers look.

Whatever cannot be right is refused with the reason and, where there is one, the fix.
"""

from collections.abc import Iterator, Mapping
from inspect import signature
from typing import Any

from transformers import PreTrainedModel

ATTENTION = {"full_attention", "sliding_attention"}
WITHOUT_ATTENTION = {"mlp", "moe"}
IMPLEMENTATIONS = ("sdpa", "eager")
LENGTHS = ("max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length", "max_seq_len", "seq_length")


def check(model: Any) -> None:
    """ValueError for anything but a causal language model, in evaluation mode, whose attention takes any mask."""
    for fault in _faults(model):
        raise ValueError(f"{type(model).__name__} {fault}")


def text_config(model: Any) -> Any:
    """The configuration of the language model, which may be a part of the whole."""
    return model.config.get_text_config(decoder=True)


def windows(model: Any) -> dict[str, int | None]:
    """How many tokens each kind of attention layer sees, by its name in the configuration; None: the whole path."""
    config, name = text_config(model), type(model).__name__
    found = {getattr(each, "sliding_window", None) for each in (config, *getattr(config, "per_layer_config", ()))}
    if len(found) > 1:
        raise ValueError(f"{name} has layers with windows of {' and '.join(map(str, found))}; nextok runs one size")
    [window] = found
    chunked = "chunked_attention" if getattr(config, "attention_chunk_size", None) else "full_attention"
    kinds = {*(getattr(config, "layer_types", None) or ["sliding_attention" if window else chunked])}
    if strange := sorted(kinds - ATTENTION - WITHOUT_ATTENTION):
        raise ValueError(
            f"{name} has layers of the type {strange[0]}, whose memory cannot go back to an earlier token; "
            "nextok runs full_attention and sliding_attention"
        )
    return {kind: window if kind == "sliding_attention" else None for kind in sorted(kinds & ATTENTION)}


def context(model: Any) -> int:
    """The most tokens that a text may have, by the configuration."""
    config = text_config(model)
    lengths = [length for name in LENGTHS if type(length := getattr(config, name, None)) is int and length > 0]
    if not lengths:
        raise ValueError(
            f"{type(model).__name__} does not say how long a text may be; set model.config.max_position_embeddings"
        )
    # Beyond its original length such a rotation depends on the longest text of the batch: it has no right answer.
    rotations = [each for each in _rotations(config) if each.get("rope_type") in ("dynamic", "longrope")]
    # Of more tokens than this Doge sees the best few, and of equal ones, as of equal tokens, whichever come first.
    kept = getattr(config, "keep_window_size", None) or lengths[0]
    return min(
        [lengths[0], kept, *(each.get("original_max_position_embeddings") or lengths[0] for each in rotations)]
    )


def _faults(model: Any) -> Iterator[str]:
    """What is wrong with a model, the plainest first; a later one may be asked only if the earlier are absent."""
    if not isinstance(model, PreTrainedModel):
        yield "is no model of transformers; load one with AutoModelForCausalLM.from_pretrained(...)"
    if model.config.is_encoder_decoder or getattr(text_config(model), "add_cross_attention", False):
        yield "reads with an encoder; nextok runs models that only decode"
    if model.get_output_embeddings() is None or not model.can_generate():
        yield "is no causal language model; load it with AutoModelForCausalLM.from_pretrained(...)"
    if type(getattr(text_config(model), "vocab_size", None)) is not int:
        yield "has no vocab_size in its configuration, so nobody knows its tokens; set model.config.vocab_size"
    if model._is_stateful:
        yield "carries a recurrent state, which cannot go back to an earlier token; nextok runs attention only"
    if getattr(model.config, "alibi", False) or model.config.model_type in ("bloom", "mpt"):
        yield "weighs attention by places in the cache (ALiBi), where branches are out of order; use another model"
    if "position_ids" not in signature(model.forward).parameters:
        yield "takes no position_ids, so that it cannot read several texts of different lengths at once"
    if (used := text_config(model)._attn_implementation) not in IMPLEMENTATIONS:
        yield f'attends by {used}, which takes no mask of one\'s own; call model.set_attn_implementation("sdpa")'
    if getattr(model.generation_config, "cache_implementation", None) == "quantized":
        yield "asks for a quantized cache, but nextok's is exact; set generation_config.cache_implementation = None"
    if len(devices := {str(each.device) for each in model.parameters()}) != 1 or "meta" in devices:
        yield f"lies on {' and '.join(sorted(devices))}; load it on one device, without device_map"
    if any(module.training for module in model.modules()):
        yield "is in training mode, where dropout changes what it says; call model.eval()"


def _rotations(config: Any) -> list[Mapping[str, Any]]:
    """The settings of rotary embeddings: one for all layers, or one for each kind of layer."""
    settings = getattr(config, "rope_parameters", None) or {}
    nested: list[Mapping[str, Any]] = [each for each in settings.values() if isinstance(each, dict)]
    return nested or [settings]
