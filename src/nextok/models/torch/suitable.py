"""Which models of transformers can be run here, how many tokens their layers see, and how long a text may be.

A model that would give wrong results is refused, with the reason and, where there is one, the fix.
"""

from collections.abc import Iterator, Mapping
from inspect import signature
from typing import Any

from transformers import PreTrainedModel

# Names of transformers: of layer types, of attention implementations, and of the settings that hold a context.
ATTENTION = {"full_attention", "sliding_attention"}
WITHOUT_ATTENTION = {"mlp", "moe"}
IMPLEMENTATIONS = ("sdpa", "eager")
LENGTHS = ("max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length", "max_seq_len", "seq_length")


def check_model(model: Any) -> None:
    """ValueError for anything but a causal language model, in evaluation mode, whose attention takes any mask."""
    for fault in _find_faults(model):
        raise ValueError(f"{type(model).__name__} {fault}")


def get_text_config(model: Any) -> Any:
    """The configuration of the language model, which may be one part of a larger model."""
    return model.config.get_text_config(decoder=True)


def read_windows(model: Any) -> dict[str, int | None]:
    """How many tokens each kind of attention layer sees, by its name in the configuration; None means the whole path.

    ValueError for windows of several sizes and for layers that keep a state.
    """
    config, name = get_text_config(model), type(model).__name__
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


def read_context(model: Any) -> int:
    """Largest number of tokens of a text, by the configuration; ValueError if it names none."""
    config = get_text_config(model)
    lengths = [length for name in LENGTHS if type(length := getattr(config, name, None)) is int and length > 0]
    if not lengths:
        raise ValueError(
            f"{type(model).__name__} does not state how long a text may be; set model.config.max_position_embeddings"
        )
    # Beyond its original length such a rotation depends on the longest text of the batch, so a result is undefined.
    rotations = [each for each in _read_rotations(config) if each.get("rope_type") in ("dynamic", "longrope")]
    # Of more tokens than this, Doge sees the best few only; which of equal ones it takes is undefined.
    kept = getattr(config, "keep_window_size", None) or lengths[0]
    return min(
        [lengths[0], kept, *(each.get("original_max_position_embeddings") or lengths[0] for each in rotations)]
    )


def _find_faults(model: Any) -> Iterator[str]:
    """What is wrong with a model; a later check may rely on the earlier ones having found nothing."""
    if not isinstance(model, PreTrainedModel):
        yield "is no model of transformers; load one with AutoModelForCausalLM.from_pretrained(...)"
    if model.config.is_encoder_decoder or getattr(get_text_config(model), "add_cross_attention", False):
        yield "reads with an encoder; nextok runs models that only decode"
    if model.get_output_embeddings() is None or not model.can_generate():
        yield "is no causal language model; load it with AutoModelForCausalLM.from_pretrained(...)"
    if type(getattr(get_text_config(model), "vocab_size", None)) is not int:
        yield "has no vocab_size in its configuration, so its tokens are not known; set model.config.vocab_size"
    if model._is_stateful:
        yield "has a recurrent state, which cannot go back to an earlier token; nextok runs attention only"
    if getattr(model.config, "alibi", False) or model.config.model_type in ("bloom", "mpt"):
        yield "weighs attention by places in the cache (ALiBi), where branches are out of order; use another model"
    if "position_ids" not in signature(model.forward).parameters:
        yield "takes no position_ids, so that it cannot read several texts of different lengths at once"
    if (used := get_text_config(model)._attn_implementation) not in IMPLEMENTATIONS:
        yield f'attends by {used}, which takes no mask from its caller; call model.set_attn_implementation("sdpa")'
    if getattr(model.generation_config, "cache_implementation", None) == "quantized":
        yield "asks for a quantized cache, but nextok's is exact; set generation_config.cache_implementation = None"
    if len(devices := {str(each.device) for each in model.parameters()}) != 1 or "meta" in devices:
        yield f"lies on {' and '.join(sorted(devices))}; load it on one device, without device_map"
    if any(module.training for module in model.modules()):
        yield "is in training mode, where dropout changes its logits; call model.eval()"


def _read_rotations(config: Any) -> list[Mapping[str, Any]]:
    """The settings of rotary embeddings: one for all layers, or one for each kind of layer."""
    settings = getattr(config, "rope_parameters", None) or {}
    nested: list[Mapping[str, Any]] = [each for each in settings.values() if isinstance(each, dict)]
    return nested or [settings]
