"""The Llama family: which tensors a model of a given shape must have, and which it must not have.

Unknown tensors are refused, since they mean a variant that nextok would compute wrongly.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nextok.errors import ModelFileError
from nextok.formats.fields import Fields
from nextok.formats.files import AGAIN, quote
from nextok.formats.tensor import Checkpoint, ModelConfig, Tensor

# Each architecture, and the tensors that its layers have beyond those of Llama.
ARCHITECTURES: dict[str, tuple[str, ...]] = {
    "llama": (),
    "mistral": (),
    "qwen2": ("attn_q.bias", "attn_k.bias", "attn_v.bias"),
    "qwen3": ("attn_q_norm.weight", "attn_k_norm.weight"),
}
# The largest sizes that a file may state: numbers of layers, heads, dimensions and tokens.
MOST_LAYERS = 1024
MOST_WIDTH = 1 << 17
MOST_HEADS = 1024
MOST_HEAD_WIDTH = 1024
MOST_HIDDEN = 1 << 20
MOST_CONTEXT = 1 << 27
MOST_VOCAB = 1 << 22
EPSILONS = (1e-12, 1.0)
"""Smallest and largest epsilon of a norm."""
THETAS = (1.0, 1e12)
"""Smallest and largest base of the rotary frequencies."""
DIVISORS = (1e-3, 1e6)
"""Smallest and largest divisor of a rotary frequency."""
THETA = 10_000.0
"""Base of the rotary frequencies where a file states none."""


@dataclass(frozen=True, slots=True)
class SettingNames:
    """The names that a kind of file gives to the settings of a model's sizes."""

    layers: str
    width: str
    heads: str
    kv_heads: str
    head_width: str
    hidden: str
    context: str
    norm_epsilon: str


def read_config(
    fields: Fields, names: SettingNames, *, architecture: str, vocab_size: int, window: int
) -> ModelConfig:
    """The model's sizes, each checked; heads are width / heads wide where no setting says otherwise.

    `window` is the number of tokens that attention looks back, 0 for all: the context ends there, since the model is
    exact up to that many. The rotation is over whole heads in halves, unscaled; the caller replaces what differs.
    """
    width = fields.read_integer(names.width, MOST_WIDTH)
    heads = fields.read_integer(names.heads, MOST_HEADS)
    even_share = None if width % heads else width // heads
    head_width = fields.read_integer(names.head_width, MOST_HEAD_WIDTH, absent=even_share)
    context = fields.read_integer(names.context, MOST_CONTEXT)
    return ModelConfig(
        architecture=architecture,
        layers=fields.read_integer(names.layers, MOST_LAYERS),
        width=width,
        heads=heads,
        kv_heads=fields.read_integer(names.kv_heads, MOST_HEADS, absent=heads),
        head_width=head_width,
        hidden=fields.read_integer(names.hidden, MOST_HIDDEN),
        vocab_size=vocab_size,
        context=min(context, window or context),
        norm_epsilon=fields.read_number(names.norm_epsilon, *EPSILONS),
        rope_theta=THETA,
        rope_width=head_width,
        rope_interleaved=False,
    )


def check_architecture(name: str) -> None:
    """ModelFileError, with the names there are, unless nextok computes this architecture."""
    if name not in ARCHITECTURES:
        raise ModelFileError(
            f"architecture {quote(name)} is not supported: choose a model of {', '.join(ARCHITECTURES)}"
        )


def check_tensors(config: ModelConfig, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> Checkpoint:
    """The checkpoint, if configuration and tensors fit together; ModelFileError, with what does not fit, if not."""
    if config.heads % config.kv_heads:
        raise ModelFileError(f"{config.heads} heads cannot share {config.kv_heads} key-value heads: {AGAIN}")
    if config.rope_width % 2 or config.rope_width > config.head_width:
        raise ModelFileError(
            f"rotary width {config.rope_width} must be even and at most the head width {config.head_width}: {AGAIN}"
        )
    unknown = set(tensors)
    for name, shape, required in _list_tensors(config):
        unknown.discard(name)
        if name in tensors:
            if tensors[name].shape != shape:
                raise ModelFileError(f"tensor {name} has shape {tensors[name].shape}, not {shape}: {AGAIN}")
        elif required:
            raise ModelFileError(f"tensor {name} is missing: {AGAIN}")
    if unknown:
        raise ModelFileError(
            f"tensor {quote(min(unknown))} is no part of a {config.architecture} model: "
            "nextok would compute this variant wrongly, choose another model"
        )
    return Checkpoint(config, tensors, metadata)


def _list_tensors(config: ModelConfig) -> Iterator[tuple[str, tuple[int, ...], bool]]:
    """Every tensor that may be there: name, shape, whether it must be there."""
    width, hidden, head = config.width, config.hidden, config.head_width
    yield "token_embd.weight", (config.vocab_size, width), True
    yield "output.weight", (config.vocab_size, width), False
    yield "output_norm.weight", (width,), True
    products = {
        "attn_q": (config.heads * head, width),
        "attn_k": (config.kv_heads * head, width),
        "attn_v": (config.kv_heads * head, width),
        "attn_output": (width, config.heads * head),
        "ffn_gate": (hidden, width),
        "ffn_up": (hidden, width),
        "ffn_down": (width, hidden),
    }
    extra = ARCHITECTURES[config.architecture]
    for layer in range(config.layers):
        prefix = f"blk.{layer}."
        yield f"{prefix}attn_norm.weight", (width,), True
        yield f"{prefix}ffn_norm.weight", (width,), True
        for name, shape in products.items():
            yield f"{prefix}{name}.weight", shape, True
            yield f"{prefix}{name}.bias", shape[:1], f"{name}.bias" in extra
        for name in ("attn_q_norm.weight", "attn_k_norm.weight"):
            if name in extra:
                yield prefix + name, (head,), True
