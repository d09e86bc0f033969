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

from nextok.models.base import Feed
from nextok.models.torch import suitable
from nextok.models.torch.agreement import find_tolerance, measure_difference
from nextok.models.torch.base import TorchModel
from nextok.models.torch.passes import copy_to_device, isolate_pass
from nextok.models.torch.plan import Group, Plan, build_plan, check_feeds, gather_rows, split_feeds
from nextok.models.torch.slots import Pool

SHORT_WINDOW = 64
"""Largest window, in tokens, for which the text that a model is checked by is made longer than the window."""


class GroupCache(Cache):
    """The cache that transformers is given for one group of one pass; new keys and values go into the pool first."""

    def __init__(self, pool: Pool, plan: Plan, group: Group) -> None:
        layers: list[Any] = [DynamicLayer() for _ in pool.layers]  # type: ignore[no-untyped-call]
        super().__init__(layers=layers)  # plain layers, so that transformers takes no layer for a sliding one
        self._pool = pool
        self._group = group
        self._targets = plan.flat.targets[group.members]

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write the new keys and values of one layer, [f, h, r, w]; returns all that are in sight, [f, h, s, w]."""
        keys, values = self._pool.layers[layer_idx]
        for slots, states in ((keys, key_states), (values, value_states)):
            slots.index_copy_(0, self._targets, gather_rows(states.transpose(1, 2).flatten(0, 1), self._group.places))
        return gather_rows(keys, self._group.slots).transpose(1, 2), gather_rows(values, self._group.slots).transpose(
            1, 2
        )

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Slots in sight beside the new ones."""
        return self._group.slots.shape[1] - self._group.rows.shape[1]

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        """Slots in sight, and the first of them."""
        return self._group.slots.shape[1], 0


class HuggingFace(TorchModel):
    """A causal language model of transformers: a pass is the forward pass of the module itself.

    Raises ValueError, with the name of its class, for one that cannot be run exactly. Passes run under no_grad and
    not in inference mode, as tensors that a module keeps from a pass must still be usable in its training.
    """

    backend = "transformers"

    def __init__(self, hf_model: Any) -> None:
        suitable.check_model(hf_model)
        self.precision = "exact" if hf_model.dtype == torch.float32 else "fast"
        self._model = hf_model
        self._windows = suitable.read_windows(hf_model)
        self._additive = suitable.get_text_config(hf_model)._attn_implementation == "eager"
        self._slices = "logits_to_keep" in signature(hf_model.forward).parameters
        self.context = suitable.read_context(hf_model)
        weight = next(hf_model.parameters())
        self.device, self._dtype = weight.device, weight.dtype
        name = type(hf_model).__name__
        try:
            with isolate_pass(self.device):
                self.vocab_size, self.pool = self._probe()
                difference = self._compare_with_model()
        except Exception as error:
            reason = str(error).partition("\n")[0]
            raise ValueError(f"{name} cannot be run over nextok's cache: {type(error).__name__}: {reason}") from error
        if not difference <= (most := find_tolerance(self._dtype)):
            fix = 'call model.set_attn_implementation("sdpa")' if self._additive else "use a model of plain attention"
            raise ValueError(
                f"{name} computes something else with nextok's cache than without: logits differ by {difference:.2g} "
                f"of their spread, and up to {most:g} may be rounding; {fix}"
            )

    @property
    def bytes_per_token(self) -> int:
        """Bytes of all weights; an embedding that is not the head too is not counted."""
        weights = {id(each): each.nbytes for each in self._model.parameters()}
        if (embedding := self._model.get_input_embeddings().weight) is not self._model.get_output_embeddings().weight:
            weights.pop(id(embedding), None)
        return sum(weights.values())

    def logits(self, feeds: Sequence[Feed]) -> Tensor:
        """Read all tokens of a pass; the scores, [rows, vocab] float32, of those whose logits are wanted.

        Raises ValueError for a token outside the vocabulary or a model that has changed, LimitError past the context.
        """
        self._check_unchanged()
        check_feeds(feeds, self.vocab_size, self.context)
        parts = split_feeds(feeds)
        with isolate_pass(self.device):
            scores = [self._score([feeds[index] for index in part]) for part in parts]
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
                f"{name} was {self._dtype} on {self.device} when it was wrapped, and is now {weight.dtype} on "
                f"{weight.device}; wrap it again"
            )

    def _score(self, feeds: Sequence[Feed]) -> Tensor:
        """Logits of the wanted rows of feeds that form a single group."""
        plan = build_plan(feeds, self.device)
        (group,) = plan.groups
        r = group.rows.shape[1]
        kept, settings = list(range(r)), {}
        if self._slices and (some := sorted({row for feed in feeds for row in feed.rows}) or [0]) != kept:
            kept, settings = some, {"logits_to_keep": copy_to_device(np.array(some), self.device)}
        logits = self._model(
            input_ids=gather_rows(plan.flat.tokens, group.rows),
            position_ids=group.positions,
            attention_mask=self._build_masks(group),
            past_key_values=GroupCache(self.pool, plan, group),
            use_cache=True,
            return_dict=True,
            **settings,
        ).logits
        wanted = [index * len(kept) + kept.index(row) for index, feed in enumerate(feeds) for row in feed.rows]
        scores: Tensor = (
            logits.flatten(0, 1).index_select(0, copy_to_device(np.array(wanted, np.int64), self.device)).float()
        )
        return scores

    def _build_masks(self, group: Group) -> Tensor | dict[str, Tensor]:
        """One mask, [f, 1, r, s], if all layers see the same slots, else one for each kind of layer."""
        masks = {window: self._convert_mask(group.build_mask(window)) for window in set(self._windows.values())}
        if len(masks) == 1:
            return next(iter(masks.values()))
        return {kind: masks[window] for kind, window in self._windows.items()}

    def _convert_mask(self, mask: Tensor) -> Tensor:
        if not self._additive:
            return mask
        zeros = torch.zeros(mask.shape, dtype=self._dtype, device=self.device)
        return zeros.masked_fill_(~mask, torch.finfo(self._dtype).min)

    def _probe(self) -> tuple[int, Pool]:
        """How many scores the model gives after a token, and a pool for the keys and values it keeps of one."""
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
        shapes = [_get_shapes(layer.keys, layer.values) if layer.is_initialized else ((0,), (0,)) for layer in layers]
        return width, Pool(shapes, dtype, self.device)

    def _compare_with_model(self) -> float:
        """How far a small tree, read in two passes beside a longer text, lies from the same texts read whole.

        In standard deviations of the logits. Behind the tree's prompt stand two branches of two tokens each.
        """
        window = max((each for each in self._windows.values() if each and each <= SHORT_WINDOW), default=4)
        n = max(1, min(window + 2, self.context - 2))
        ids = [(index * 7919 + 3) % self.vocab_size for index in range(2 * n + 9)]
        prompt, one, two, other = ids[:n], ids[n : n + 2], ids[n + 2 : n + 4], ids[n + 4 :][: self.context]
        tree, beside, last = self.open(), self.open(), len(other) - 1
        found = [self.logits([Feed.from_run(tree, prompt), Feed.from_run(beside, other[:last])])]
        branches = Feed(
            cache=tree,
            tokens=[*one, *two],
            slots=[n, n + 1, n + 2, n + 3],
            seen=[n + 1, n + 2, n, n],
            tails=[(), (), (n + 2,), (n + 2, n + 3)],
            rows=[0, 1, 2, 3],
        )
        found.append(self.logits([branches, Feed.from_run(beside, other[last:], last)]))
        first, second, aside = (self._score_whole(text) for text in (prompt + one, prompt + two, other))
        expected = torch.cat([first[:n], aside[:last], first[n:], second[n:], aside[last:]])
        return measure_difference(torch.cat(found), expected)

    def _score_whole(self, ids: list[int]) -> Tensor:
        """Logits of every token of a text, as the model computes them without nextok."""
        text = torch.tensor([ids], device=self.device)
        logits: Tensor = self._model(
            input_ids=text, attention_mask=torch.ones_like(text), use_cache=False, return_dict=True
        ).logits
        return logits[0].float()


def _get_shapes(keys: Tensor, values: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(h, w) of both."""
    return (keys.shape[1], keys.shape[3]), (values.shape[1], values.shape[3])
