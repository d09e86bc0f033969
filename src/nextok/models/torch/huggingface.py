"""Any causal language model of transformers as a Model: its own forward pass over nextok's caches.

transformers asks a cache for keys and values layer by layer. The one that it is given here writes the new ones into
the slots of a pool and shows each feed its own region, so that beams, drafts and batches are rows under one mask.

Shapes: in a group f feeds of at most r tokens, which look at s slots at most; h heads of keys or values, w wide.
"""

from collections.abc import Sequence
from inspect import signature
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from nextok.core.query import Row
from nextok.models.base import Feed
from nextok.models.torch import suitable
from nextok.models.torch.agreement import apart, rounding
from nextok.models.torch.passes import sent, undisturbed
from nextok.models.torch.plan import FEW_TOKENS, Group, Plan, check, planned, taken
from nextok.models.torch.readout import answered
from nextok.models.torch.slots import Pool, Region

CHECKED = 64
"""A window of at most so many tokens is shorter than the text by which a model is checked."""


class Sight(Cache):
    """What one group sees, for one pass; new keys and values go into the pool first."""

    def __init__(self, pool: Pool, plan: Plan, group: Group) -> None:
        layers: list[Any] = [DynamicLayer() for _ in pool.layers]  # type: ignore[no-untyped-call]
        super().__init__(layers=layers)  # which say that none of them forgets anything
        self._pool = pool
        self._group = group
        self._targets = plan.targets[group.members]

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Keep the [f, h, r, w] new keys and values of one layer; all that are in sight, [f, h, s, w]."""
        keys, values = self._pool.layers[layer_idx]
        for slots, states in ((keys, key_states), (values, value_states)):
            slots.index_copy_(0, self._targets, taken(states.transpose(1, 2).flatten(0, 1), self._group.places))
        return taken(keys, self._group.slots).transpose(1, 2), taken(values, self._group.slots).transpose(1, 2)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Slots in sight beside the new ones."""
        return self._group.slots.shape[1] - self._group.rows.shape[1]

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        """Slots in sight, and the first of them."""
        return self._group.slots.shape[1], 0


class HuggingFace:
    """A causal language model of transformers, used as it is: whatever it does in a forward pass is done here too.

    Raises ValueError for one that cannot be run exactly, by its class's name. Passes run under no_grad and not in
    inference mode, as what a model puts by in one must still serve its training.
    """

    backend = "transformers"
    rounds_by_shape = True

    def __init__(self, hf_model: Any) -> None:
        suitable.check(hf_model)
        self.precision = "exact" if hf_model.dtype == torch.float32 else "fast"
        self._model = hf_model
        self._windows = suitable.windows(hf_model)
        self._additive = suitable.text_config(hf_model)._attn_implementation == "eager"
        self._slices = "logits_to_keep" in signature(hf_model.forward).parameters
        self.context = suitable.context(hf_model)
        weight = next(hf_model.parameters())
        self.device, self._dtype = weight.device, weight.dtype
        name = type(hf_model).__name__
        try:
            with undisturbed(self.device):
                self.vocab_size, self.pool = self._probed()
                difference = self._difference()
        except Exception as error:
            said = str(error).partition("\n")[0]
            raise ValueError(f"{name} cannot be run over nextok's cache: {type(error).__name__}: {said}") from error
        if not difference <= (most := rounding(self._dtype)):
            fix = 'call model.set_attn_implementation("sdpa")' if self._additive else "use a model of plain attention"
            raise ValueError(
                f"{name} computes something else with nextok's cache than without: logits differ by {difference:.2g} "
                f"of their spread, and up to {most:g} may be rounding; {fix}"
            )

    @property
    def bytes_per_token(self) -> int:
        """What one token reads: every weight once; of an embedding that is not the head too, only its row."""
        weights = {id(each): each.nbytes for each in self._model.parameters()}
        if (embedding := self._model.get_input_embeddings().weight) is not self._model.get_output_embeddings().weight:
            weights.pop(id(embedding), None)
        return sum(weights.values())

    def open(self) -> Region:
        """An empty cache."""
        return Region(self.pool)

    def answer(self, feeds: Sequence[Feed], rows: Sequence[Row]) -> list[Any]:
        """A forward pass for each group of feeds, then the readout where the logits are."""
        with undisturbed(self.device):
            return answered(self.logits(feeds), rows)

    def logits(self, feeds: Sequence[Feed]) -> Tensor:
        """Read all tokens of a pass; the scores, [rows, vocab] float32, of those whose logits are wanted."""
        self._check_unchanged()
        check(feeds, self.vocab_size, self.context)
        few = [index for index, feed in enumerate(feeds) if len(feed.tokens) <= FEW_TOKENS]
        many = [[index] for index, feed in enumerate(feeds) if len(feed.tokens) > FEW_TOKENS]
        parts = ([few] if few else []) + many
        with undisturbed(self.device):
            scores = [self._scores([feeds[index] for index in part]) for part in parts]
        if len(scores) == 1:
            return scores[0]
        of_feed = dict[int, Tensor]()
        for part, found in zip(parts, scores):
            sizes = [len(feeds[index].rows) for index in part]
            of_feed |= zip(part, torch.split_with_sizes(found, sizes))
        return torch.cat([of_feed[index] for index in range(len(feeds))])

    def _check_unchanged(self) -> None:
        """ValueError if the model is no longer what it was when it was checked."""
        name, weight = type(self._model).__name__, next(self._model.parameters())
        if self._model.training:
            raise ValueError(f"{name} is in training mode; call model.eval()")
        if (weight.device, weight.dtype) != (self.device, self._dtype):
            raise ValueError(
                f"{name} was {self._dtype} on {self.device} when it was taken in, and is now {weight.dtype} on "
                f"{weight.device}; wrap it again"
            )

    def _scores(self, feeds: Sequence[Feed]) -> Tensor:
        """Logits of the wanted rows of feeds that form a single group."""
        plan = planned(feeds, self.device)
        (group,) = plan.groups
        r = group.rows.shape[1]
        kept, settings = list(range(r)), {}
        if self._slices and (some := sorted({row for feed in feeds for row in feed.rows}) or [0]) != kept:
            kept, settings = some, {"logits_to_keep": sent(np.array(some), self.device)}
        logits = self._model(
            input_ids=taken(plan.tokens, group.rows),
            position_ids=group.positions,
            attention_mask=self._mask(group),
            past_key_values=Sight(self.pool, plan, group),
            use_cache=True,
            return_dict=True,
            **settings,
        ).logits
        wanted = [index * len(kept) + kept.index(row) for index, feed in enumerate(feeds) for row in feed.rows]
        scores: Tensor = logits.flatten(0, 1).index_select(0, sent(np.array(wanted, np.int64), self.device)).float()
        return scores

    def _mask(self, group: Group) -> Tensor | dict[str, Tensor]:
        """One mask, [f, 1, r, s], if all layers see alike, else one for each kind of layer."""
        masks = {window: self._made(group.mask(window)) for window in set(self._windows.values())}
        if len(masks) == 1:
            return next(iter(masks.values()))
        return {kind: masks[window] for kind, window in self._windows.items()}

    def _made(self, mask: Tensor) -> Tensor:
        if not self._additive:
            return mask
        zeros = torch.zeros(mask.shape, dtype=self._dtype, device=self.device)
        return zeros.masked_fill_(~mask, torch.finfo(self._dtype).min)

    def _probed(self) -> tuple[int, Pool]:
        """How many scores a token has, and a pool for what the model keeps of one."""
        cache, ids = DynamicCache(), torch.zeros((1, 1), dtype=torch.long, device=self.device)
        width = self._model(input_ids=ids, past_key_values=cache, use_cache=True, return_dict=True).logits.shape[-1]
        layers: list[Any] = cache.layers
        if not any(layer.is_initialized for layer in layers):
            raise ValueError("it keeps no keys and values")
        if (rows := self._model.get_input_embeddings().weight.shape[0]) < width:
            raise ValueError(
                f"it scores {width} tokens but can read only {rows}; call model.resize_token_embeddings()"
            )
        [dtype] = {layer.keys.dtype for layer in layers if layer.is_initialized}
        shapes = [_shapes(layer.keys, layer.values) if layer.is_initialized else ((0,), (0,)) for layer in layers]
        return width, Pool(shapes, dtype, self.device)

    def _difference(self) -> float:
        """How far a small tree, read in two passes beside a longer text, lies from the same texts read whole.

        In standard deviations of the logits. Behind the tree's prompt stand two branches of two tokens each.
        """
        window = max((each for each in self._windows.values() if each and each <= CHECKED), default=4)
        n = max(1, min(window + 2, self.context - 2))
        ids = [(index * 7919 + 3) % self.vocab_size for index in range(2 * n + 9)]
        prompt, one, two, other = ids[:n], ids[n : n + 2], ids[n + 2 : n + 4], ids[n + 4 :][: self.context]
        tree, beside, last = self.open(), self.open(), len(other) - 1
        found = [self.logits([Feed.straight(tree, prompt), Feed.straight(beside, other[:last])])]
        branches = Feed(
            cache=tree,
            tokens=[*one, *two],
            slots=[n, n + 1, n + 2, n + 3],
            seen=[n + 1, n + 2, n, n],
            tails=[(), (), (n + 2,), (n + 2, n + 3)],
            rows=[0, 1, 2, 3],
        )
        found.append(self.logits([branches, Feed.straight(beside, other[last:], last)]))
        first, second, aside = (self._whole(text) for text in (prompt + one, prompt + two, other))
        expected = torch.cat([first[:n], aside[:last], first[n:], second[n:], aside[last:]])
        return apart(torch.cat(found), expected)

    def _whole(self, ids: list[int]) -> Tensor:
        """Logits of every token of a text, as the model computes them without nextok."""
        text = torch.tensor([ids], device=self.device)
        logits: Tensor = self._model(
            input_ids=text, attention_mask=torch.ones_like(text), use_cache=False, return_dict=True
        ).logits
        return logits[0].float()


def _shapes(keys: Tensor, values: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(h, w) of both."""
    return (keys.shape[1], keys.shape[3]), (values.shape[1], values.shape[3])
