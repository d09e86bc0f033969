"""A Llama-2-style `Transformer` as chapter 5 of Happy-LLM publishes it: written anew, with its names and its quirks.

Its forward pass takes a batch of token ids and, unless it has targets, computes the logits of the last position only;
there is no cache. That makes it the oracle of everything that nextok does with such a model.
"""

import math
from dataclasses import asdict, dataclass
from types import SimpleNamespace

import torch
from torch import nn
from torch.nn import functional as F


@dataclass
class ModelArgs:
    """The published configuration, with its defaults but for the sizes."""

    dim: int = 64
    n_layers: int = 2
    n_heads: int = 4
    n_kv_heads: int | None = 2
    vocab_size: int = 97
    hidden_dim: int | None = None
    multiple_of: int = 64
    norm_eps: float = 1e-5
    max_seq_len: int = 512
    dropout: float = 0.0
    pad_token_id: int | None = None

    def config(self):
        """What an exported folder's config.json says."""
        return {"model_type": "Tiny-K", "architectures": ["Transformer"], "flash_attn": True, **asdict(self)}


class RMSNorm(nn.Module):
    def __init__(self, dim, eps):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        wide = x.float()
        return (wide * (wide.pow(2).mean(-1, keepdim=True) + self.eps).rsqrt()).type_as(x) * self.weight


def rotated(x, cos, sin):
    """Pairs (0, 1), (2, 3), ... of the last axis turn by their angles; x is [batch, length, heads, width]."""
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = cos[:, None], sin[:, None]
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2).type_as(x)


class Attention(nn.Module):
    def __init__(self, args):
        super().__init__()
        self.head_dim = args.dim // args.n_heads
        self.groups = args.n_heads if args.n_kv_heads is None else args.n_kv_heads
        self.repeats = args.n_heads // self.groups
        self.wq = nn.Linear(args.dim, args.n_heads * self.head_dim, bias=False)
        self.wk = nn.Linear(args.dim, self.groups * self.head_dim, bias=False)
        self.wv = nn.Linear(args.dim, self.groups * self.head_dim, bias=False)
        self.wo = nn.Linear(args.n_heads * self.head_dim, args.dim, bias=False)
        self.dropout = nn.Dropout(args.dropout)

    def forward(self, x, cos, sin, visible):
        q, k, v = (product(x).unflatten(-1, (-1, self.head_dim)) for product in (self.wq, self.wk, self.wv))
        q, k = rotated(q, cos, sin), rotated(k, cos, sin)
        k, v = k.repeat_interleave(self.repeats, 2), v.repeat_interleave(self.repeats, 2)
        scores = torch.einsum("bihw,bjhw->bhij", q, k) / math.sqrt(self.head_dim)
        weights = scores.float().masked_fill(~visible, -math.inf).softmax(-1).type_as(q)
        return self.dropout(self.wo(torch.einsum("bhij,bjhw->bihw", weights, v).flatten(2)))


class MLP(nn.Module):
    def __init__(self, args):
        super().__init__()
        hidden = args.hidden_dim
        if hidden is None:
            hidden = args.multiple_of * -(-(2 * 4 * args.dim // 3) // args.multiple_of)
        self.w1 = nn.Linear(args.dim, hidden, bias=False)
        self.w2 = nn.Linear(hidden, args.dim, bias=False)
        self.w3 = nn.Linear(args.dim, hidden, bias=False)
        self.dropout = nn.Dropout(args.dropout)

    def forward(self, x):
        return self.dropout(self.w2(F.silu(self.w1(x)) * self.w3(x)))


class DecoderLayer(nn.Module):
    def __init__(self, args):
        super().__init__()
        self.attention = Attention(args)
        self.feed_forward = MLP(args)
        self.attention_norm = RMSNorm(args.dim, args.norm_eps)
        self.ffn_norm = RMSNorm(args.dim, args.norm_eps)

    def forward(self, x, cos, sin, visible):
        x = x + self.attention(self.attention_norm(x), cos, sin, visible)
        return x + self.feed_forward(self.ffn_norm(x))


class Transformer(nn.Module):
    """`model(tokens)` gives an object whose `logits` are [batch, 1, vocab]; with targets, [batch, length, vocab]."""

    def __init__(self, args):
        super().__init__()
        self.args = args
        self.tok_embeddings = nn.Embedding(args.vocab_size, args.dim)
        self.dropout = nn.Dropout(args.dropout)
        self.layers = nn.ModuleList(DecoderLayer(args) for _ in range(args.n_layers))
        self.norm = RMSNorm(args.dim, args.norm_eps)
        self.output = nn.Linear(args.dim, args.vocab_size, bias=False)
        self.tok_embeddings.weight = self.output.weight
        width = args.dim // args.n_heads
        turns = 10_000.0 ** -(torch.arange(0, width, 2).float() / width)
        angles = torch.outer(torch.arange(args.max_seq_len).float(), turns)
        self.register_buffer("freqs_cos", angles.cos(), persistent=False)
        self.register_buffer("freqs_sin", angles.sin(), persistent=False)

    def forward(self, tokens, targets=None):
        length = tokens.shape[1]
        visible = torch.ones(length, length, dtype=torch.bool, device=tokens.device).tril()
        x = self.dropout(self.tok_embeddings(tokens))
        for layer in self.layers:
            x = layer(x, self.freqs_cos[:length], self.freqs_sin[:length], visible)
        x = self.norm(x)
        if targets is None:
            return SimpleNamespace(logits=self.output(x[:, [-1]]), last_loss=None)
        logits = self.output(x)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=0, reduction="none")
        return SimpleNamespace(logits=logits, last_loss=loss)

    def every_logit(self, tokens):
        """The logits of all positions, [batch, length, vocab], without gradients."""
        with torch.inference_mode():
            return self(tokens, tokens).logits


def random_transformer(seed=0, **sizes):
    """A model with random weights, ready for inference, whose distributions are neither flat nor certain."""
    generator = torch.Generator().manual_seed(seed)
    model = Transformer(ModelArgs(**sizes)).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1:
                weight.normal_(0, 0.6 if name == "output.weight" else weight.shape[1] ** -0.5, generator=generator)
            else:
                weight.uniform_(0.5, 1.5, generator=generator)
    return model


def trained_transformer(texts, steps=60, seed=0, **sizes):
    """The same after a few steps of AdamW on lists of token ids of equal length."""
    torch.manual_seed(seed)
    model = Transformer(ModelArgs(**sizes))
    for weight in model.parameters():
        if weight.dim() > 1:
            nn.init.normal_(weight, 0, 0.05)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    tokens = torch.tensor(texts)
    for _ in range(steps):
        loss = model(tokens[:, :-1], tokens[:, 1:]).last_loss.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()
