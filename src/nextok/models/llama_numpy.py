"""The Llama family in plain numpy, float32: the model as its papers write it, and the reference of faster backends.

One pass reads a flat batch of tokens of any requests, prompts, beams or drafts. Every product is over the whole
batch; only attention depends on which token sees which.

Shapes: n tokens in the pass, d the width of the stream, h heads in g groups that share keys and values, w the
width of a head, s slots in use.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nextok.core.query import Row
from nextok.errors import LimitError
from nextok.formats.tensor import Checkpoint, ModelConfig, Tensor
from nextok.models.base import Feed
from nextok.models.frequencies import compute_frequencies
from nextok.readout.readout import read

Array = npt.NDArray[np.float32]

ROWS_AT_ONCE = 64
"""Largest number of rows of logits that are in memory together: 64 x 49,152 float32 are 12 MB."""
FEW_ROWS = 8
"""Smallest number of rows that are multiplied as a matrix; fewer are multiplied row by row."""
BLOCK = 1 << 19
"""Number of weights in a block that few rows are multiplied with: 2 MB, about a core's second-level cache."""
FIRST_SLOTS = 64
"""Number of slots of a new cache."""


class KeysAndValues:
    """The attention cache of one tree: for each layer the rotated keys and the values, in numbered slots."""

    def __init__(self, config: ModelConfig) -> None:
        self._shape = (config.layers, 2, config.kv_heads)
        self._width = config.head_width
        self._slots = np.zeros((*self._shape, FIRST_SLOTS, self._width), np.float32)

    def fork(self, end: int) -> "KeysAndValues":
        """A new cache that begins with this one's slots below `end`."""
        forked = copy(self)
        forked._slots = self._slots[:, :, :, :end].copy()
        return forked

    def pages(self) -> dict[int, int]:
        """All slots are one piece, those that were not written yet included."""
        return {id(self): self._slots.nbytes}

    def view_layer(self, index: int, end: int) -> tuple[Array, Array]:
        """Keys and values of one layer up to slot `end`, each [g, end, w]; writable views."""
        both = self._slots[index, :, :, :end]
        return both[0], both[1]

    def reserve(self, end: int) -> None:
        """Make room for the slots below `end`."""
        capacity = self._slots.shape[3]
        if end > capacity:
            grown = np.zeros((*self._shape, max(end, 2 * capacity), self._width), np.float32)
            grown[:, :, :, :capacity] = self._slots
            self._slots = grown

    def move(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Copy slots; all are read before any is written."""
        self.reserve(max(*sources, *targets) + 1)
        self._slots[:, :, :, list(targets)] = self._slots[:, :, :, list(sources)]


@dataclass(frozen=True, slots=True)
class Layer:
    """The weights of one block; a matrix is [outputs, inputs]."""

    attention_norm: Array  # [d]
    qkv: Array  # [(h + 2g) w, d]
    qkv_bias: Array | None
    q_norm: Array | None  # [w], Qwen 3
    k_norm: Array | None
    output: Array  # [d, h w]
    output_bias: Array | None
    feed_forward_norm: Array  # [d]
    gate_up: Array  # [2 hidden, d]
    gate_up_bias: Array | None
    down: Array  # [d, hidden]
    down_bias: Array | None


class LlamaNumpy:
    """A Llama, Mistral, Qwen 2 or Qwen 3 model with all weights in float32."""

    backend, precision = "numpy", "exact"
    rounds_by_shape = True  # BLAS adds in another order for another number of rows

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.config = checkpoint.config
        self.vocab_size = self.config.vocab_size
        self.context = self.config.context
        tensors = checkpoint.tensors
        self._embedding = tensors["token_embd.weight"].to_float32()  # [vocab, d]
        tied = "output.weight" not in tensors
        self._head = self._embedding if tied else tensors["output.weight"].to_float32()
        self._norm = tensors["output_norm.weight"].to_float32()
        self._layers = [_build_layer(tensors, f"blk.{index}.") for index in range(self.config.layers)]
        self._frequencies = compute_frequencies(self.config)

    @property
    def bytes_per_token(self) -> int:
        """Bytes of all matrices and the head; of an embedding that is not the head too, only its row is read."""
        matrices = [each for layer in self._layers for each in (layer.qkv, layer.output, layer.gate_up, layer.down)]
        return sum(matrix.nbytes for matrix in (*matrices, self._head))

    def open(self) -> KeysAndValues:
        """An empty cache."""
        return KeysAndValues(self.config)

    @np.errstate(over="ignore", invalid="ignore")  # of damaged weights: the readout reports each bad row
    def answer(self, feeds: Sequence[Feed], rows: Sequence[Row]) -> list[Any]:
        """One forward pass, then the readout, a block of rows at a time; raises what `forward` raises."""
        wanted = self.forward(feeds)
        replies: list[Any] = [None] * len(rows)
        for start in range(0, len(wanted), ROWS_AT_ONCE):
            logits = self.logits(wanted[start : start + ROWS_AT_ONCE])
            inside = [i for i, row in enumerate(rows) if start <= row.index < start + len(logits)]
            for i, reply in zip(inside, read(logits, [rows[i] for i in inside], start)):
                replies[i] = reply
        return replies

    def logits(self, states: Array) -> Array:
        """Scores of the whole vocabulary, [rows, vocab], from final states [rows, d]."""
        return _multiply(states, self._head, None)

    def forward(self, feeds: Sequence[Feed]) -> Array:
        """Read all tokens of a pass; the final states, [rows, d], of those whose logits are wanted.

        Raises ValueError for a token outside the vocabulary, LimitError for one beyond the context.
        """
        tokens = np.array([token for feed in feeds for token in feed.tokens])
        positions = np.array([feed.find_position(i) for feed in feeds for i in range(len(feed.tokens))])
        self._check(tokens, positions)
        views, start = [], 0
        for feed in feeds:
            views.append(_build_view(feed, start))
            start += len(feed.tokens)
        angles = positions[:, None] * self._frequencies  # [n, rope_width / 2]
        turn = np.stack([np.cos(angles), np.sin(angles)]).astype(np.float32)
        x = self._embedding[tokens]  # [n, d]
        for index, layer in enumerate(self._layers):
            x = x + self._compute_attention(index, layer, x, views, turn)
            x = x + self._compute_feed_forward(layer, x)
        wanted = [view.share.start + row for feed, view in zip(feeds, views) for row in feed.rows]
        return self._normalize(x[wanted], self._norm)

    def _check(self, tokens: npt.NDArray[np.int64], positions: npt.NDArray[np.int64]) -> None:
        wrong = tokens[(tokens < 0) | (tokens >= self.vocab_size)]
        if len(wrong):
            raise ValueError(f"token id {wrong[0]} is outside the vocabulary; ids go from 0 to {self.vocab_size - 1}")
        if positions.max(initial=0) >= self.context:
            raise LimitError(f"the text does not fit in the model's context of {self.context} tokens; shorten it")

    def _compute_attention(
        self, index: int, layer: Layer, x: Array, views: Sequence["FeedView"], turn: Array
    ) -> Array:
        """Grouped-query attention; each feed writes its keys and values to its own cache, then reads that."""
        config = self.config
        qkv = _multiply(self._normalize(x, layer.attention_norm), layer.qkv, layer.qkv_bias)
        heads = qkv.reshape(len(x), -1, config.head_width)
        q, k, v = np.split(heads, [config.heads, config.heads + config.kv_heads], axis=1)  # [n, h or g, w]
        if layer.q_norm is not None and layer.k_norm is not None:
            q, k = self._normalize(q, layer.q_norm), self._normalize(k, layer.k_norm)
        q, k = self._rotate(q, turn), self._rotate(k, turn)
        mixed = np.empty((len(x), config.heads * config.head_width), np.float32)
        for view in views:
            keys, values = view.cache.view_layer(index, view.end)
            keys[:, view.slots] = k[view.share].swapaxes(0, 1)
            values[:, view.slots] = v[view.share].swapaxes(0, 1)
            mixed[view.share] = _attend(q[view.share], keys, values, view.mask)
        return _multiply(mixed, layer.output, layer.output_bias)

    def _compute_feed_forward(self, layer: Layer, x: Array) -> Array:
        """SwiGLU: silu(gate) * up, then down."""
        both = _multiply(self._normalize(x, layer.feed_forward_norm), layer.gate_up, layer.gate_up_bias)
        gate, up = np.split(both, 2, axis=1)
        with np.errstate(over="ignore"):  # exp(-gate) may be inf, and 1 / inf is the 0 that is meant
            inner = gate / (1 + np.exp(-gate)) * up
        return _multiply(inner, layer.down, layer.down_bias)

    def _normalize(self, x: Array, weight: Array) -> Array:
        """RMSNorm over the last axis."""
        mean_square = np.mean(x * x, axis=-1, keepdims=True)
        return np.asarray(x / np.sqrt(mean_square + np.float32(self.config.norm_epsilon)) * weight)

    def _rotate(self, x: Array, turn: Array) -> Array:
        """Rotary position embedding of x [n, heads, w]: pairs of dimensions turn by position * frequency."""
        width = self.config.rope_width
        if self.config.rope_interleaved:
            one, two = slice(0, width, 2), slice(1, width, 2)
        else:
            one, two = slice(0, width // 2), slice(width // 2, width)
        cos, sin = turn[:, :, None]
        turned = x.copy()
        turned[..., one] = x[..., one] * cos - x[..., two] * sin
        turned[..., two] = x[..., two] * cos + x[..., one] * sin
        return turned


@dataclass(frozen=True, slots=True)
class FeedView:
    """One feed during a pass: where its tokens are, and which slots each of them sees."""

    share: slice  # the feed's tokens among those of the pass
    cache: KeysAndValues
    slots: list[int]
    end: int  # one above the highest slot that is seen
    mask: Array | None  # [n, end], -inf where a token may not look; None if each token sees all slots


Views = Sequence[FeedView]


def _build_view(feed: Feed, start: int) -> FeedView:
    end = feed.end
    feed.cache.reserve(end)
    mask = np.where(np.arange(end) < np.array(feed.seen)[:, None], np.float32(0), np.float32(-np.inf))
    for index, tail in enumerate(feed.tails):
        mask[index, list(tail)] = 0
    share = slice(start, start + len(feed.tokens))
    return FeedView(share, feed.cache, feed.slots, end, mask if mask.any() else None)


def _attend(q: Array, keys: Array, values: Array, mask: Array | None) -> Array:
    """Softmax(q k / sqrt(w)) v for q [n, h, w] over keys and values [g, s, w]; returns [n, h w]."""
    n, heads, width = q.shape
    groups = len(keys)
    grouped = q.reshape(n, groups, -1, width).transpose(1, 2, 0, 3).reshape(groups, -1, width)  # [g, (h/g) n, w]
    scores = (grouped @ keys.swapaxes(1, 2)).reshape(groups, -1, n, keys.shape[1])
    scores *= np.float32(width**-0.5)
    if mask is not None:
        scores += mask
    scores -= scores.max(axis=-1, keepdims=True)
    weights = np.exp(scores, out=scores).reshape(groups, -1, keys.shape[1])
    mixed: Array = weights @ values / weights.sum(axis=-1, keepdims=True)
    return mixed.reshape(groups, -1, n, width).transpose(2, 0, 1, 3).reshape(n, heads * width)


def _multiply(x: Array, matrix: Array, bias: Array | None) -> Array:
    """x [n, inputs] times matrix [outputs, inputs], plus the bias; [n, outputs]."""
    if len(x) < FEW_ROWS:
        # BLAS would copy the whole matrix for a product. Matrix times vector does not, and while a block of the
        # matrix is in the processor's cache, further rows cost less than the first.
        y = np.empty((len(x), len(matrix)), np.float32)
        block = len(matrix) if len(x) == 1 else BLOCK // matrix.shape[1]
        for start in range(0, len(matrix), block):
            for row, out in zip(x, y):
                np.dot(matrix[start : start + block], row, out=out[start : start + block])
    else:
        y = (matrix @ x.T).T
    return np.asarray(y if bias is None else y + bias)


def _build_layer(tensors: Mapping[str, Tensor], prefix: str) -> Layer:
    def get_weight(*names: str) -> Array:
        parts = [tensors[f"{prefix}{name}.weight"].to_float32() for name in names]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def get_bias(*names: str) -> Array | None:
        parts = [tensors.get(f"{prefix}{name}.bias") for name in names]
        if not any(parts):
            return None
        sizes = [tensors[f"{prefix}{name}.weight"].shape[0] for name in names]
        return np.concatenate(
            [part.to_float32() if part else np.zeros(size, np.float32) for part, size in zip(parts, sizes)]
        )

    def get_optional(name: str) -> Array | None:
        return get_weight(name) if f"{prefix}{name}.weight" in tensors else None

    return Layer(
        attention_norm=get_weight("attn_norm"),
        qkv=get_weight("attn_q", "attn_k", "attn_v"),
        qkv_bias=get_bias("attn_q", "attn_k", "attn_v"),
        q_norm=get_optional("attn_q_norm"),
        k_norm=get_optional("attn_k_norm"),
        output=get_weight("attn_output"),
        output_bias=get_bias("attn_output"),
        feed_forward_norm=get_weight("ffn_norm"),
        gate_up=get_weight("ffn_gate", "ffn_up"),
        gate_up_bias=get_bias("ffn_gate", "ffn_up"),
        down=get_weight("ffn_down"),
        down_bias=get_bias("ffn_down"),
    )
