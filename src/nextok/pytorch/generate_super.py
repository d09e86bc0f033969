"""`generate_super`, the call of the tutorial that nextok began with: tensors in, tensors out, every strategy.

Each row of the batch becomes a request of its own, and one engine runs them all.
"""

import secrets
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch

from nextok.checks import check_flag, check_ids, check_whole
from nextok.core.ending import Limits
from nextok.core.events import Event
from nextok.core.request import Request
from nextok.core.tree import ROOT, Tree
from nextok.drafts.draft_model import DraftModel
from nextok.engine.engine import Engine
from nextok.engine.runner import Runner
from nextok.engine.waiter import Waiter
from nextok.lm import LM
from nextok.models.base import Model
from nextok.models.torch.adopt import adopt, find_pad_token
from nextok.sampling.transforms import Temperature, TopK
from nextok.strategies.base import Strategy
from nextok.strategies.beam.beam import Beam
from nextok.strategies.sample import Chain, Greedy, Sample
from nextok.strategies.speculate import Speculate
from nextok.text.tokenizer import Tokenizer


def generate_super(
    model: object,
    input_ids: torch.Tensor,
    stop_id: int | Sequence[int] | None = None,
    max_new_tokens: int = 256,
    temperature: float = 1.0,
    top_k: int | None = None,
    do_sample: bool = False,
    num_beams: int = 1,
    attention_mask: torch.Tensor | None = None,
    pad_token_id: int | None = None,
    *,
    assistant_model: object = None,
    num_assistant_tokens: int = 5,
    seed: int | Sequence[int] | None = None,
) -> torch.Tensor:
    """The tokens that a model writes after each row of `input_ids` [batch, length]: [batch, generated] long, same
    device.

    `model`: a nextok LM, a causal LM of transformers or a Happy-LLM style Transformer. Greedy unless `do_sample`;
    with `num_beams` above 1 beam search, whose scores `temperature` and `top_k` shape (with `do_sample`, beam
    sampling); with an `assistant_model` of the same vocabulary assisted decoding, which changes no token.
    A row ends with a stop token, which is kept, and is filled up with `pad_token_id` (by default the model's own, or
    0). `attention_mask` [batch, length] marks padding, left or right, with 0. Temperature 0 is greedy. Each row draws
    with `seed`, or with its own of several; None draws seeds. Where the model's context ends, so does a row, with a
    warning. Raises ValueError for wrong arguments, LimitError for a prompt that fills the context.
    """
    strategy: Strategy = _choose_strategy(temperature, top_k, do_sample, num_beams)
    target = _make_participant(model)
    if assistant_model is not None:
        strategy = _add_draft(strategy, target, _make_participant(assistant_model), num_assistant_tokens)
    prompts = _read_prompts(input_ids, attention_mask, target.model.vocab_size)
    limits = Limits(
        max_tokens=_check_number("max_new_tokens", max_new_tokens, 1),
        context=target.model.context,
        stop_ids=frozenset(_read_stops(stop_id, target.model.vocab_size)),
        vocab_size=target.vocab_size,
    )
    pad = find_pad_token(model) if pad_token_id is None else _check_number("pad_token_id", pad_token_id, 0)
    requests = [_make_request(prompt, limits, own) for prompt, own in zip(prompts, _make_seeds(seed, len(prompts)))]
    _run(target.runner, strategy, requests)
    longest = max(len(request.tokens) for request in requests)
    rows = [request.tokens + [pad] * (longest - len(request.tokens)) for request in requests]
    return torch.tensor(rows, dtype=torch.long, device=input_ids.device)


Module = TypeVar("Module")


def attach(model: Module) -> Module:
    """Give a model the method `generate_super`, so that the tutorial's own calls run on it; returns the model."""
    _make_participant(model)
    model.generate_super = partial(generate_super, model)  # type: ignore[attr-defined]  # a bound method cannot be saved
    return model


@dataclass(frozen=True)
class Participant:
    """A model that takes part in a generation: the one that writes, or the assistant."""

    model: Model
    runner: Runner
    vocab_size: int  # number of ids that the tokenizer has
    tokenizer: Tokenizer | None = None


def _make_participant(model: object) -> Participant:
    if isinstance(model, LM):
        return Participant(model.model, model.runner, model.tokenizer.vocab_size, model.tokenizer)
    adopted = adopt(model)
    return Participant(adopted, Runner(Engine(adopted)), adopted.vocab_size)


def _choose_strategy(
    temperature: float, top_k: int | None, do_sample: bool, num_beams: int
) -> Greedy | Sample | Beam:
    check_flag("do_sample", do_sample)
    drawn = Sample(temperature, top_k)  # checks both values
    if _check_number("num_beams", num_beams, 1) == 1:
        return drawn if do_sample else Greedy()
    if temperature == 0:
        raise ValueError(
            f"temperature must be above 0 with num_beams={num_beams}, got 0: it would leave one candidate; "
            "beam search draws nothing, so the default of 1.0 gives the same result every time"
        )
    shape = (Temperature(temperature), *(() if top_k is None else (TopK(top_k),)))
    return Beam(num_beams, sampling=drawn if do_sample else Chain(shape, draw=False))


def _add_draft(sampling: Strategy, target: Participant, assistant: Participant, most: int) -> Speculate:
    if not isinstance(sampling, Greedy | Sample):
        raise ValueError(f"an assistant_model cannot draft for {sampling!r}: leave it out, or num_beams")
    known, guessed = target.tokenizer, assistant.tokenizer
    if assistant.vocab_size != target.vocab_size or (known and guessed and not known.same_vocabulary(guessed)):
        raise ValueError(
            f"the assistant_model has another vocabulary ({assistant.vocab_size} tokens) than the model "
            f"({target.vocab_size} tokens): a draft needs a model of the same family"
        )
    return Speculate(DraftModel(assistant, max_draft=_check_number("num_assistant_tokens", most, 1)), sampling)


def _read_prompts(input_ids: torch.Tensor, attention_mask: torch.Tensor | None, vocab_size: int) -> list[list[int]]:
    """Each row's tokens without its padding."""
    _check_tensor("input_ids", input_ids)
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    _check_tensor("attention_mask", mask)
    if mask.shape != input_ids.shape:
        raise ValueError(
            f"attention_mask must have the shape of input_ids, {[*input_ids.shape]}, got {[*mask.shape]}"
        )
    rows = enumerate(zip(input_ids.tolist(), mask.tolist()))
    return [
        check_ids(_remove_padding(*row, index), vocab_size, f" in row {index} of input_ids") for index, row in rows
    ]


def _check_tensor(name: str, tensor: object) -> None:
    if not isinstance(tensor, torch.Tensor):
        raise ValueError(f"{name} must be a torch tensor [batch, length], got {type(tensor).__name__}")
    if tensor.is_meta or tensor.is_nested or tensor.layout != torch.strided:
        found = "one on meta" if tensor.is_meta else "a nested one" if tensor.is_nested else tensor.layout
        raise ValueError(f"{name} must be an ordinary tensor with values, got {found}")
    wanted = "0 and 1" if name == "attention_mask" else "token ids"
    if tensor.is_floating_point() or tensor.is_complex() or (tensor.dtype == torch.bool and name == "input_ids"):
        raise ValueError(f"{name} must hold {wanted}, such as torch.long, got {tensor.dtype}: {name}.long()")
    if tensor.dim() != 2 or not tensor.numel():
        fix = f"; one text is {name}[None]" if tensor.dim() == 1 else ""
        raise ValueError(f"{name} must have the shape [batch, length] and hold a token, got {[*tensor.shape]}{fix}")


def _remove_padding(row: list[int], mask: list[int], index: int) -> list[int]:
    """The tokens of a row where its mask is 1; ValueError unless they follow each other."""
    if wrong := [value for value in mask if value not in (0, 1)]:
        raise ValueError(f"attention_mask must hold 0 and 1, got {wrong[0]} in row {index}")
    count = sum(mask)
    if not count:
        raise ValueError(f"attention_mask shows no token of row {index}: each row needs at least one")
    first = mask.index(1)
    if not all(mask[first : first + count]):
        raise ValueError(f"attention_mask has a gap in row {index}: it marks padding, left or right of the text")
    return row[first : first + count]


def _read_stops(stop_id: int | Sequence[int] | None, vocab_size: int) -> list[int]:
    stops = [] if stop_id is None else stop_id if isinstance(stop_id, Sequence) else [stop_id]
    return check_ids(stops, vocab_size, " of stop_id")


def _make_seeds(seed: int | Sequence[int] | None, rows: int) -> list[int]:
    """One seed for each row; ValueError for another number of seeds."""
    if seed is None:
        return [secrets.randbits(48) for _ in range(rows)]
    seeds = [*seed] if isinstance(seed, Sequence) else [seed] * rows
    if len(seeds) != rows:
        raise ValueError(f"seed must be one number, or one for each of the {rows} rows, got {len(seeds)}")
    for each in seeds:
        check_whole("seed", each)
    return seeds


def _make_request(prompt: list[int], limits: Limits, seed: int) -> Request:
    tree = Tree()
    return Request(tree, tree.extend(ROOT, prompt), limits, seed)


def _run(runner: Runner, strategy: Strategy, requests: Sequence[Request]) -> None:
    """Run them all to their ends; raises the error of the first that failed, and warns where the context ended."""
    waiter = Waiter()

    def receive(event: Event) -> None:
        waiter.notice()  # the requests have their tokens

    jobs = runner.do(lambda engine: [engine.submit(request, strategy, receive) for request in requests])
    try:
        runner.drive(lambda: all(request.finish_reason for request in requests), waiter)
    finally:
        runner.do(lambda engine: engine.cancel(*jobs))
    for index, request in enumerate(requests):
        if request.error:
            raise request.error
        if request.finish_reason == "context":
            warnings.warn(
                f"row {index} ended at the model's context of {request.limits.context} tokens, "
                f"after {len(request.tokens)} new ones",
                stacklevel=3,
            )


def _check_number(name: str, value: int, least: int) -> int:
    check_whole(name, value, least, 1 << 31)
    return value
