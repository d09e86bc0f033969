"""A Llama-style model of the book Happy-LLM (chapter 5): a training checkpoint, or the folder that it exports.

The names and the arithmetic are those of llama2.c: rotary pairs (0, 1), (2, 3), ... over the whole head, base 10,000.
"""

import os
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nextok.errors import ModelFileError
from nextok.formats import llama
from nextok.formats.fields import Fields
from nextok.formats.files import AGAIN, locate_file, name_in_errors, quote, read_json
from nextok.formats.tensor import Checkpoint, ModelConfig, Tensor
from nextok.formats.torch_file import read_state_dict
from nextok.formats.weights import read_weights

MODEL_TYPE = "Tiny-K"
CONFIG = "config.json"
MOST_CONFIG_BYTES = 1 << 20
"""Largest size of config.json, in bytes."""
# The defaults of Happy-LLM's ModelConfig, for settings that no file states.
HEADS = 16
EPSILON = 1e-5
CONTEXT = 512

OUTER_NAMES = {
    "tok_embeddings.weight": "token_embd.weight",
    "norm.weight": "output_norm.weight",
    "output.weight": "output.weight",
}
LAYER_NAMES = {
    "attention.wq": "attn_q",
    "attention.wk": "attn_k",
    "attention.wv": "attn_v",
    "attention.wo": "attn_output",
    "feed_forward.w1": "ffn_gate",
    "feed_forward.w2": "ffn_down",
    "feed_forward.w3": "ffn_up",
    "attention_norm": "attn_norm",
    "ffn_norm": "ffn_norm",
}
LAYER_NAME = re.compile(r"layers\.(0|[1-9][0-9]{0,3})\.(.+)\.weight")
WRAPPED = re.compile(r"(_orig_mod\.|module\.)*")
"""Prefixes that torch.compile and DataParallel put before names."""
BUFFER = re.compile(r"(.+\.)?(freqs_cos|freqs_sin|attention\.mask)")
"""Names of tables that nextok computes from the configuration."""
INSIDE = ("model_args", "args", "config")
"""Keys under which a training checkpoint may keep the configuration."""
SETTINGS = (
    *("dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "hidden_dim", "multiple_of"),
    *("norm_eps", "max_seq_len", "rope_theta"),
)
THETA = 10_000.0


def open_happy_llm(path: str | os.PathLike[str], heads: int | None = None) -> Checkpoint:
    """The checkpoint in a torch file; its shape is that of its tensors and of its configuration, if it has one: in
    a config.json beside it, or in the training checkpoint itself.

    The number of heads shows in no weight: `heads` says it, where no configuration does. Where neither does, it is
    the book's 16, and a warning says so. ModelFileError if two of these contradict each other, or if it is no such
    model.
    """
    path = Path(path)
    state = read_state_dict(path)
    with name_in_errors(path.name):
        settings = _merge_settings(_read_settings_beside(path), state.beside)
        if heads is not None:
            settings = _say_heads(settings, heads)
        return _build_checkpoint(state.tensors, settings, path.name)


def open_exported(folder: Path, settings: Mapping[str, Any]) -> Checkpoint:
    """The checkpoint in a folder whose config.json, of model_type Tiny-K, has these settings."""
    return _build_checkpoint(read_weights(folder), settings, folder.name)


def map_names(names: Iterable[str]) -> dict[str, str]:
    """For each name of a Happy-LLM state dict the name of a Checkpoint's tensor; buffers are left out."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        bare = name[WRAPPED.match(name).end() :]  # type: ignore[union-attr]  # it matches nothing, too
        layer = LAYER_NAME.fullmatch(bare)
        if layer and layer[2] in LAYER_NAMES:
            ours = f"blk.{layer[1]}.{LAYER_NAMES[layer[2]]}.weight"
        elif bare in OUTER_NAMES:
            ours = OUTER_NAMES[bare]
        elif BUFFER.fullmatch(bare):
            continue
        else:
            raise ModelFileError(
                f"tensor {quote(name)} is no part of a Happy-LLM model; of a Hugging Face model, give the folder"
            )
        if ours in taken:
            raise ModelFileError(f"tensor {quote(name)} comes twice, with and without a prefix: {AGAIN}")
        found[name] = ours
        taken.add(ours)
    return found


def infer_config(shapes: Mapping[str, tuple[int, ...]], settings: Mapping[str, Any]) -> ModelConfig:
    """The shape of the model whose state dict has tensors of these names and shapes.

    `settings` are the fields of Happy-LLM's ModelConfig: dim, n_layers, n_heads, n_kv_heads, vocab_size, hidden_dim,
    multiple_of, norm_eps, max_seq_len, rope_theta; any may be absent. ModelFileError, with both names, where one
    contradicts a shape.
    """
    names = map_names(shapes)
    theirs = {ours: name for name, ours in names.items()}
    theirs.setdefault("token_embd.weight", theirs.get("output.weight", "tok_embeddings.weight"))
    layers = 1 + max((int(ours.split(".")[1]) for ours in theirs if ours.startswith("blk.")), default=-1)

    def get_size(ours: str, axis: int) -> int:
        shape = shapes.get(theirs.get(ours, ""), ())
        if len(shape) != 2:
            raise ModelFileError(f"there is no matrix {ours} ({theirs.get(ours, 'absent')}): {AGAIN}")
        return shape[axis]

    fields = Fields(settings)
    width, vocab_size = get_size("token_embd.weight", 1), get_size("token_embd.weight", 0)
    shared, hidden = get_size("blk.0.attn_k.weight", 0), get_size("blk.0.ffn_gate.weight", 0)
    _check_setting(fields, "n_layers", layers, llama.MOST_LAYERS, "the number of layers in the file")
    _check_setting(fields, "dim", width, llama.MOST_WIDTH, "the width of tok_embeddings.weight")
    _check_setting(fields, "vocab_size", vocab_size, llama.MOST_VOCAB, "the rows of tok_embeddings.weight")
    _check_hidden(fields, width, hidden)
    fields.allow_only("rope_theta", THETA)
    heads = _infer_heads(fields, width, shapes)
    kv_heads = _infer_kv_heads(fields, shared, width, heads)
    return ModelConfig(
        architecture="llama",
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        head_width=width // heads,
        hidden=hidden,
        vocab_size=vocab_size,
        context=fields.read_integer("max_seq_len", llama.MOST_CONTEXT, absent=CONTEXT),
        norm_epsilon=fields.read_number("norm_eps", *llama.EPSILONS, absent=EPSILON),
        rope_theta=THETA,
        rope_width=width // heads,
        rope_interleaved=True,
    )


def _check_setting(fields: Fields, name: str, found: int, most: int, what: str) -> None:
    if not 1 <= found <= most:
        raise ModelFileError(f"{found} is {what}, but it must be from 1 to {most}: {AGAIN}")
    said = fields.read_integer(name, most, absent=found)
    if said != found:
        raise ModelFileError(f"{name} is {said} in its configuration, but {found} is {what}: they are of two models")


def _check_hidden(fields: Fields, width: int, hidden: int) -> None:
    """ModelFileError unless `hidden` is `hidden_dim`, or 8/3 of the width rounded up to `multiple_of`."""
    what = "the rows of layers.0.feed_forward.w1.weight"
    if fields.values.get("hidden_dim") is None and fields.values.get("multiple_of") is not None:
        multiple = fields.read_integer("multiple_of", llama.MOST_HIDDEN)
        computed = multiple * -(-(2 * 4 * width // 3) // multiple)
        if computed != hidden:
            raise ModelFileError(
                f"multiple_of {multiple} in its configuration makes hidden_dim {computed}, but {hidden} is {what}: "
                "set hidden_dim"
            )
    _check_setting(fields, "hidden_dim", hidden, llama.MOST_HIDDEN, what)


def _infer_heads(fields: Fields, width: int, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """How many heads: as a configuration states, else by the width of old buffers of the rotation, else 16."""
    turned = {name: shape for name, shape in shapes.items() if name.endswith(("freqs_cos", "freqs_sin"))}
    if bad := next((name for name, shape in turned.items() if len(shape) != 2), None):
        raise ModelFileError(f"{quote(bad)} has shape {turned[bad]}, not a row for each position: {AGAIN}")
    widths = {name: 2 * shape[1] for name, shape in turned.items()}
    likely = next((width // each for each in widths.values() if width % each == 0), HEADS)
    heads = fields.read_integer("n_heads", llama.MOST_HEADS, absent=likely)
    for name, found in widths.items():
        if found * heads != width:
            raise ModelFileError(
                f"{quote(name)} is for heads {found} wide, but {heads} heads of a width of {width} are "
                f"{width // heads} wide: they are of two models"
            )
    if width % (2 * heads) == 0:
        return heads
    if fields.values.get("n_heads") is None:
        raise _make_heads_error(f"{HEADS}, the book's, do not fit its width of {width}")
    raise ModelFileError(f"n_heads is {heads}, which does not divide the width {width} into even heads")


def _infer_kv_heads(fields: Fields, shared: int, width: int, heads: int) -> int:
    """How many heads have keys and values; absent from a configuration, as many as its tensors have room for."""
    head_width = width // heads
    found = shared // head_width
    unnamed = fields.values.get("n_heads") is None
    if "n_kv_heads" in fields.values and not (unnamed and fields.values["n_kv_heads"] is None):
        said = fields.read_integer("n_kv_heads", llama.MOST_HEADS, absent=heads)
        if said * head_width != shared and unnamed:
            raise _make_heads_error(f"{heads}, the book's, do not fit n_kv_heads {said} in its configuration")
        if said * head_width != shared:
            raise ModelFileError(
                f"n_heads {heads} and n_kv_heads {said} in its configuration need {said * head_width} rows in "
                f"layers.0.attention.wk.weight, which has {shared}: they are of two models"
            )
        return said
    if found * head_width != shared or found == 0 or heads % found:
        raise _make_heads_error(f"{heads} heads do not fit its {shared} rows of keys")
    return found


def _make_heads_error(why: str) -> ModelFileError:
    return ModelFileError(
        f"how many heads it has shows in no tensor, and {why}: put a {CONFIG} beside the file, with n_heads "
        "and n_kv_heads, or give a .pth file with heads= (--heads)"
    )


def _say_heads(settings: Mapping[str, Any], heads: int) -> dict[str, Any]:
    """The settings with this number of heads; ModelFileError if they have another one."""
    said = settings.get("n_heads")
    if said not in (None, heads):
        raise ModelFileError(
            f"n_heads is {quote(said)} in its configuration, but heads={heads} was given: leave that out"
        )
    return {**settings, "n_heads": int(heads)}


def _warn_of_heads(config: ModelConfig, settings: Mapping[str, Any], names: Iterable[str], place: str) -> None:
    if settings.get("n_heads") is None and not any(name.endswith(("freqs_cos", "freqs_sin")) for name in names):
        warnings.warn(
            f"{quote(place)} does not say how many heads the model has, so {config.heads}, the book's number, are "
            f"assumed; a wrong number gives other text. Say it as n_heads in a {CONFIG} beside the weights, or of a "
            ".pth file with heads= (--heads)",
            stacklevel=2,
        )


def _read_settings_beside(path: Path) -> dict[str, Any]:
    """What a config.json in the same folder says; nothing if there is none."""
    if not os.path.exists(path.parent / CONFIG):
        return {}
    with name_in_errors(CONFIG):
        settings = read_json(locate_file(path.parent, CONFIG), MOST_CONFIG_BYTES)
        Fields(settings).allow_only("model_type", MODEL_TYPE)
        return settings


def _merge_settings(beside: Mapping[str, Any], checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings of config.json and of a training checkpoint; ModelFileError where they contradict each other."""
    place = next((key for key in INSIDE if isinstance(checkpoint.get(key), dict)), "")
    inside = {name: value for name, value in checkpoint.get(place, {}).items() if name in SETTINGS}
    for name in inside:
        said = beside.get(name)
        if said is not None and inside[name] is not None and said != inside[name]:
            raise ModelFileError(
                f"{name} is {quote(said)} in {CONFIG}, but {quote(inside[name])} in its {place}: "
                "they are of two models"
            )
    return inside | {name: value for name, value in beside.items() if value is not None or name not in inside}


def _build_checkpoint(tensors: Mapping[str, Tensor], settings: Mapping[str, Any], place: str) -> Checkpoint:
    config = infer_config({name: tensor.shape for name, tensor in tensors.items()}, settings)
    _warn_of_heads(config, settings, tensors, place)
    found = {ours: tensors[name] for name, ours in map_names(tensors).items()}
    head = found.get("output.weight")
    embedding = found.setdefault("token_embd.weight", head) if head else found["token_embd.weight"]
    if head and head.kind == embedding.kind and np.array_equal(head.data, embedding.data):
        del found["output.weight"]  # the head is the embedding, as in the book
    return llama.check_tensors(config, found, {})
