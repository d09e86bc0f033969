"""The Llama family in plain PyTorch: one pass over a flat batch of tokens, on a processor or a GPU.

The same arithmetic as models/llama_numpy.py, whose names are used here too: n tokens in the pass, d the width of the
stream, h heads in g groups that share keys and values, w the width of a head.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from nextok.formats.tensor import ModelConfig
from nextok.models.base import Feed
from nextok.models.frequencies import compute_frequencies
from nextok.models.torch.base import TorchModel
from nextok.models.torch.graphs import Graphs
from nextok.models.torch.passes import isolate_pass
from nextok.models.torch.plan import Group, Plan, build_plan, check_feeds, gather_rows
from nextok.models.torch.slots import Pool
from nextok.models.torch.weights import Layer, SideBySide, Weights


class LlamaTorch(TorchModel):
    """A Llama, Mistral, Qwen 2 or Qwen 3 model whose weights are tensors of one type on one device.

    On a GPU, passes of a few tokens run as graphs.
    """

    backend = "torch"

    def __init__(self, config: ModelConfig, weights: Weights) -> None:
        self.precision = "exact" if weights.embedding.dtype == torch.float32 else "fast"
        self.config = config
        self.weights = weights
        self.vocab_size = config.vocab_size
        self.context = config.context
        self.device = weights.embedding.device
        self._frequencies = torch.from_numpy(compute_frequencies(config)).to(self.device)
        shape = (config.kv_heads, config.head_width)
        self.pool = Pool([(shape, shape)] * config.layers, weights.embedding.dtype, self.device)
        self._graphs = Graphs(self.pool) if self.device.type == "cuda" else None

    @property
    def bytes_per_token(self) -> int:
        """Bytes of all matrices and the head; an embedding that is not the head too is not counted."""
        return self.weights.bytes_per_token

    def logits(self, feeds: Sequence[Feed]) -> Tensor:
        """Read all tokens of a pass; the scores, [rows, vocab] float32, of those whose logits are wanted.

        Raises ValueError for a token outside the vocabulary, LimitError for one beyond the context.
        """
        check_feeds(feeds, self.vocab_size, self.context)
        with isolate_pass(self.device):
            recorded = self._graphs.run(feeds, self.forward) if self._graphs else None
            return self.forward(build_plan(feeds, self.device)) if recorded is None else recorded

    def forward(self, plan: Plan) -> Tensor:
        """Logits of the wanted tokens, [rows, vocab] float32, by operations on tensors only: a graph can hold it."""
        angles = plan.flat.positions.unsqueeze(1) * self._frequencies  # [n, rope_width / 2], float64
        turn = torch.polar(torch.ones_like(angles), angles).to(torch.complex64).unsqueeze(1)
        masks = [self._build_mask(group) for group in plan.groups]
        x = gather_rows(self.weights.embedding, plan.flat.tokens)  # [n, d]
        for layer, cache in zip(self.weights.layers, self.pool.layers):
            x = x + self._compute_attention(layer, cache, x, plan, masks, turn)
            x = x + self._compute_feed_forward(layer, x)
        return F.linear(
            self._normalize(gather_rows(x, plan.flat.wanted), self.weights.norm), self.weights.head
        ).float()

    def _build_mask(self, group: Group) -> Tensor:
        """[f, 1, (h/g) r, s], 0 where a row may look and -inf elsewhere, for all heads that share a group."""
        seen = group.build_mask()
        mask = torch.full_like(seen, -torch.inf, dtype=self.weights.embedding.dtype).masked_fill_(seen, 0)
        return mask.repeat(1, 1, self.config.heads // self.config.kv_heads, 1)

    def _compute_attention(
        self, layer: Layer, cache: tuple[Tensor, ...], x: Tensor, plan: Plan, masks: Sequence[Tensor], turn: Tensor
    ) -> Tensor:
        """Grouped-query attention: all keys and values are written before any token looks."""
        config, (keys, values) = self.config, cache
        heads = _multiply(self._normalize(x, layer.attention_norm), layer.q_k_v).view(len(x), -1, config.head_width)
        q_k, v = torch.split_with_sizes(heads, [config.heads + config.kv_heads, config.kv_heads], dim=1)
        q, k = torch.split_with_sizes(self._rotate(layer, q_k, turn), [config.heads, config.kv_heads], dim=1)
        keys.index_copy_(0, plan.flat.targets, k)
        values.index_copy_(0, plan.flat.targets, v)
        mixed = torch.empty_like(q)
        for group, mask in zip(plan.groups, masks):
            rows = q.reshape(*group.rows.shape, *q.shape[1:]) if plan.is_square else gather_rows(q, group.rows)
            found = _attend(rows, gather_rows(keys, group.slots), gather_rows(values, group.slots), mask).flatten(
                0, 1
            )
            if plan.is_square:
                mixed = found
            else:
                mixed.index_copy_(0, group.members, gather_rows(found, group.places))
        return _multiply(mixed.flatten(1), layer.output)

    def _compute_feed_forward(self, layer: Layer, x: Tensor) -> Tensor:
        """SwiGLU: silu(gate) * up, then down."""
        gate, up = _multiply(self._normalize(x, layer.feed_forward_norm), layer.gate_up).chunk(2, dim=-1)
        return _multiply(F.silu(gate) * up, layer.down)

    def _normalize(self, x: Tensor, weight: Tensor) -> Tensor:
        """RMSNorm over the last axis."""
        return F.rms_norm(x, weight.shape, weight, self.config.norm_epsilon)

    def _rotate(self, layer: Layer, q_k: Tensor, turn: Tensor) -> Tensor:
        """Rotary position embedding of q and k [n, h + g, w]: a pair of dimensions is a complex number that turns.

        Queries and keys have norms of their own before that in Qwen 3.
        """
        if layer.q_norm is not None and layer.k_norm is not None:
            q, k = torch.split_with_sizes(q_k, [self.config.heads, self.config.kv_heads], dim=1)
            q_k = torch.cat([self._normalize(q, layer.q_norm), self._normalize(k, layer.k_norm)], dim=1)
        width = self.config.rope_width
        turning = q_k.narrow(-1, 0, width).float()
        if self.config.rope_interleaved:
            pairs = torch.view_as_complex(turning.view(*turning.shape[:-1], -1, 2))
            turned = torch.view_as_real(pairs * turn).flatten(-2)
        else:
            pairs = torch.complex(*turning.chunk(2, dim=-1))
            turned = torch.view_as_real(pairs * turn).transpose(-1, -2).flatten(-2)
        turned = turned.to(q_k.dtype)
        return (
            turned
            if width == self.config.head_width
            else torch.cat([turned, q_k.narrow(-1, width, self.config.head_width - width)], -1)
        )


def _attend(q: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Softmax(q k / sqrt(w)) v for q [f, r, h, w] over keys and values [f, s, g, w]; again [f, r, h, w]."""
    f, r, heads, width = q.shape
    shared = heads // keys.shape[2]  # heads of one group are so many times the rows
    q = q.reshape(f, r, -1, shared, width).permute(0, 2, 3, 1, 4).reshape(f, -1, shared * r, width)
    mixed = F.scaled_dot_product_attention(q, keys.transpose(1, 2), values.transpose(1, 2), mask)
    return mixed.reshape(f, -1, shared, r, width).permute(0, 3, 1, 2, 4).reshape(f, r, heads, width)


def _multiply(x: Tensor, products: SideBySide) -> Tensor:
    """x [n, inputs] times each matrix, side by side."""
    results = [F.linear(x, matrix, bias) for matrix, bias in products]
    return results[0] if len(results) == 1 else torch.cat(results, dim=-1)
