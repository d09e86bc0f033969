"""The Llama family in plain PyTorch: one pass over a flat batch of tokens, on a processor or a GPU.

The same arithmetic as models/llama_numpy.py, whose names are used here too: n tokens in the pass, d the width of the
stream, h heads in g groups that share keys and values, w the width of a head.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from nextok.formats.tensor import ModelConfig
from nextok.models.base import Feed
from nextok.models.frequencies import frequencies
from nextok.models.torch.plan import Group, Plan, planned
from nextok.models.torch.readout import read
from nextok.models.torch.slots import Pool, Region
from nextok.query import Row

Product = tuple[Tensor, Tensor | None]
"""A matrix [outputs, inputs] and its bias."""


@dataclass(frozen=True, slots=True)
class Layer:
    """The weights of one block; products that are side by side share their input."""

    attention_norm: Tensor  # [d]
    q_k_v: tuple[Product, ...]
    q_norm: Tensor | None  # [w], Qwen 3
    k_norm: Tensor | None
    output: tuple[Product, ...]
    feed_forward_norm: Tensor  # [d]
    gate_up: tuple[Product, ...]
    down: tuple[Product, ...]


class LlamaTorch:
    """A Llama, Mistral, Qwen 2 or Qwen 3 model whose weights are tensors of one type on one device."""

    def __init__(self, config: ModelConfig, weights: Mapping[str, Tensor]) -> None:
        """`weights`: by the names of a Checkpoint. They are used as they are, not copied."""
        self.config = config
        self.vocab_size = config.vocab_size
        self.context = config.context
        self._embedding = weights["token_embd.weight"]  # [vocab, d]
        self._head = weights.get("output.weight", self._embedding)
        self._norm = weights["output_norm.weight"]
        self._layers = [_layer(weights, f"blk.{index}.") for index in range(config.layers)]
        self.device = self._embedding.device
        self._frequencies = torch.from_numpy(frequencies(config)).to(self.device)
        shape = (config.kv_heads, config.head_width)
        self.pool = Pool([(shape, shape)] * config.layers, self._embedding.dtype, self.device)

    @property
    def bytes_per_token(self) -> int:
        """What one token reads: every matrix once; of an embedding that is not the head too, only its row."""
        products = (p for layer in self._layers for p in (*layer.q_k_v, *layer.output, *layer.gate_up, *layer.down))
        return sum(matrix.nbytes for matrix in (*(matrix for matrix, _ in products), self._head))

    def open(self) -> Region:
        """An empty cache."""
        return Region(self.pool)

    @torch.inference_mode()
    def answer(self, feeds: Sequence[Feed], rows: Sequence[Row]) -> list[Any]:
        """One forward pass, then the readout on the device."""
        return read(self.logits(feeds), rows)

    @torch.inference_mode()
    def logits(self, feeds: Sequence[Feed]) -> Tensor:
        """Read all tokens of a pass; the scores, [rows, vocab] float32, of those whose logits are wanted."""
        return self.forward(planned(feeds, self.vocab_size, self.context, self.device))

    def forward(self, plan: Plan) -> Tensor:
        """The pass itself: only tensors, so that a graph can hold it."""
        angles = plan.positions[:, None] * self._frequencies  # [n, rope_width / 2], float64
        turn = torch.stack([angles.cos(), angles.sin()]).float()[:, :, None]
        masks = [group.mask() for group in plan.groups]
        x = self._embedding[plan.tokens]  # [n, d]
        for layer, cache in zip(self._layers, self.pool.layers):
            x = x + self._attention(layer, cache, x, plan, masks, turn)
            x = x + self._feed_forward(layer, x)
        return F.linear(self._normed(x[plan.wanted], self._norm), self._head).float()

    def _attention(
        self, layer: Layer, cache: tuple[Tensor, ...], x: Tensor, plan: Plan, masks: Sequence[Tensor], turn: Tensor
    ) -> Tensor:
        """Grouped-query attention: all keys and values are written before any token looks."""
        config, (keys, values) = self.config, cache
        heads = _products(self._normed(x, layer.attention_norm), layer.q_k_v).view(len(x), -1, config.head_width)
        q, k, v = torch.split_with_sizes(
            heads, [config.heads, config.kv_heads, config.kv_heads], dim=1
        )  # [n, h or g, w]
        if layer.q_norm is not None and layer.k_norm is not None:
            q, k = self._normed(q, layer.q_norm), self._normed(k, layer.k_norm)
        q, k = self._rotated(q, turn), self._rotated(k, turn)
        keys[plan.targets] = k
        values[plan.targets] = v
        mixed = torch.empty_like(q)
        for group, mask in zip(plan.groups, masks):
            mixed[group.members] = _attend(q[group.rows], keys[group.slots], values[group.slots], group, mask)
        return _products(mixed.flatten(1), layer.output)

    def _feed_forward(self, layer: Layer, x: Tensor) -> Tensor:
        """SwiGLU: silu(gate) * up, then down."""
        gate, up = _products(self._normed(x, layer.feed_forward_norm), layer.gate_up).chunk(2, dim=-1)
        return _products(F.silu(gate) * up, layer.down)

    def _normed(self, x: Tensor, weight: Tensor) -> Tensor:
        """RMSNorm over the last axis, in float32 whatever the weights are."""
        return F.rms_norm(x.float(), weight.shape, eps=self.config.norm_epsilon).to(x.dtype) * weight

    def _rotated(self, x: Tensor, turn: Tensor) -> Tensor:
        """Rotary position embedding of x [n, heads, w]: pairs of dimensions turn by position * frequency."""
        width, (cos, sin) = self.config.rope_width, turn
        turning = x[..., :width].float()
        if self.config.rope_interleaved:
            one, two = turning[..., ::2], turning[..., 1::2]
            turned = torch.stack([one * cos - two * sin, two * cos + one * sin], -1).flatten(-2)
        else:
            one, two = turning.chunk(2, dim=-1)
            turned = torch.cat([one * cos - two * sin, two * cos + one * sin], -1)
        return torch.cat([turned.to(x.dtype), x[..., width:]], -1)


def _attend(q: Tensor, keys: Tensor, values: Tensor, group: Group, mask: Tensor) -> Tensor:
    """Softmax(q k / sqrt(w)) v for q [f, r, h, w] over keys and values [f, s, g, w]; [m, h, w] of the members."""
    f, r, heads, width = q.shape
    shared = heads // keys.shape[2]
    q = q.view(f, r, -1, shared, width).permute(0, 2, 3, 1, 4).reshape(f, -1, shared * r, width)  # [f, g, (h/g) r, w]
    mask = mask.expand(-1, shared, -1, -1).reshape(f, 1, shared * r, -1)
    mixed = F.scaled_dot_product_attention(q, keys.transpose(1, 2), values.transpose(1, 2), mask)
    mixed = mixed.view(f, -1, shared, r, width).permute(0, 3, 1, 2, 4).reshape(f * r, heads, width)
    return mixed[group.places]


def _products(x: Tensor, products: Sequence[Product]) -> Tensor:
    """x [n, inputs] times each matrix, side by side."""
    results = [F.linear(x, matrix, bias) for matrix, bias in products]
    return results[0] if len(results) == 1 else torch.cat(results, dim=-1)


def _layer(weights: Mapping[str, Tensor], prefix: str) -> Layer:
    def products(*names: str) -> tuple[Product, ...]:
        return tuple((weights[f"{prefix}{n}.weight"], weights.get(f"{prefix}{n}.bias")) for n in names)

    return Layer(
        attention_norm=weights[f"{prefix}attn_norm.weight"],
        q_k_v=products("attn_q", "attn_k", "attn_v"),
        q_norm=weights.get(f"{prefix}attn_q_norm.weight"),
        k_norm=weights.get(f"{prefix}attn_k_norm.weight"),
        output=products("attn_output"),
        feed_forward_norm=weights[f"{prefix}ffn_norm.weight"],
        gate_up=products("ffn_gate", "ffn_up"),
        down=products("ffn_down"),
    )
