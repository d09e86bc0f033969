"""What a strategy yields, checked before the engine or a receiver relies on it: it may be a user's, and wrong."""

import threading
from collections.abc import Iterable
from contextlib import suppress
from traceback import format_exception
from typing import Any

from nextok.checks import is_number
from nextok.core.events import Beams, Chosen, DraftFailed, Finished, Hypothesis, Token, Verified
from nextok.core.query import TARGET, Draws, Pick, Query, Score, Speed, Top
from nextok.core.request import Request
from nextok.core.tree import Tree
from nextok.models.base import Model
from nextok.sampling.sampler import Sampler

READS = (Pick, Top, Draws, Score)
"""How a node can be read."""
MOST_DRAFTED = 1 << 20
"""Largest number of tokens that one draft may be said to hold."""
COMMITTED = (Token, Finished)
"""Events that are told when they are committed, whatever the strategy yields."""


def find_mistake(item: Any, request: Request, target: Model) -> Exception | None:
    """What is wrong with a question or event that a strategy has yielded, if anything is."""
    try:
        if isinstance(item, Query):
            check_query(item, request, target)
        elif not isinstance(item, Speed):
            check_event(item, request)
        elif item.model is not None:
            check_model(item.model)
    except Exception as error:
        return error.with_traceback(None)
    return None


def check_model(model: Any) -> None:
    """ValueError unless this can be a model."""
    if isinstance(model, type) or not (hasattr(model, "answer") and hasattr(model, "vocab_size")):
        raise ValueError(f"the model of a question must be TARGET or a loaded model, got {describe(model)}")
    hash(model)  # models are keys of the engine's tables


def check_query(query: Query, request: Request, target: Model) -> None:
    """ValueError unless the query names nodes of the request's tree, readouts, and a model."""
    model: Any = target if query.model is TARGET else query.model
    if model is not target:
        check_model(model)
    size = len(request.tree.token)
    for node in query.nodes:
        if type(node) is not int or not 0 <= node < size:
            raise ValueError(
                f"a query must name nodes of its request's tree, from 0 to {size - 1}, got {describe(node)}"
            )
    for read in query.reads:
        if not isinstance(read, READS):
            raise ValueError(f"a node is read by a Pick, Top, Draws or Score, got {describe(read)}")
        if isinstance(read, Pick):
            if not isinstance(read.sampler, Sampler):
                raise ValueError(f"a Pick needs a Sampler, as in Pick(Sampler()), got {describe(read.sampler)}")
        elif isinstance(read, Score):
            check_tokens((read.token,), model)
        elif type(read.count) is not int or read.count < 1:
            raise ValueError(f"the count of a {type(read).__name__} must be 1 or above, got {describe(read.count)}")


def check_tokens(tokens: Iterable[int], model: Model) -> None:
    """ValueError unless these are ids of the model's vocabulary."""
    size = model.vocab_size
    for token in tokens:
        if type(token) is not int or not 0 <= token < size:
            raise ValueError(
                f"token id {describe(token)} is outside the vocabulary; ids go from 0 to {size - 1}, "
                "and a node of a tree is no id"
            )


def check_event(event: Any, request: Request) -> None:
    """ValueError unless this is an event, and what it tells can be true of the request."""
    match event:
        case Verified(drafted, accepted):
            if not (type(drafted) is type(accepted) is int and 0 <= accepted <= drafted <= MOST_DRAFTED):
                raise ValueError(f"a Verified needs 0 <= accepted <= drafted, got {describe(event)}")
        case Chosen(node, _, logprob):
            if not (_is_node(request.tree, node) and (logprob is None or is_number(logprob))):
                raise ValueError(f"a Chosen needs a node of its request's tree, got {describe(event)}")
        case Beams(live, finished):
            for beam in (*live, *finished):
                if not (isinstance(beam, Hypothesis) and _is_node(request.tree, beam.node)):
                    raise ValueError(f"Beams hold Hypotheses of their request's tree, got {describe(beam)}")
        case Token() | Finished() | DraftFailed():  # the first two are told when they are committed
            pass
        case _:
            raise ValueError(
                "a strategy yields questions and events, as in `yield from pick([request.tip], sampler)` and "
                f"`yield from request.commit(tokens)`, got {describe(event)}"
            )


def concerns_program(error: BaseException) -> bool:
    """Whether this is Ctrl-C, or may come from another signal: `sys.exit` in a handler, in the main thread."""
    if isinstance(error, Exception):
        return False
    return isinstance(error, KeyboardInterrupt) or threading.current_thread() is threading.main_thread()


def drop_frames(error: BaseException) -> None:
    """Turn the traceback into a note: its frames would keep alive what the thread that ran the engine had at hand.

    That is the caches of a pass, and the streams of other callers, which would never be known as dropped.
    """
    with suppress(Exception):  # a stranger's error may refuse
        if error.__traceback__ and not hasattr(error, "__notes__"):
            error.add_note("".join(format_exception(error)).rstrip())
    each: BaseException | None = error
    known = list[int]()
    while each is not None and id(each) not in known:
        known.append(id(each))
        BaseException.with_traceback(each, None)
        BaseException.__setattr__(each, "__context__", None)  # which may be the caller's, and keeps its frames
        each = each.__cause__


def describe(thing: Any) -> str:
    """The beginning of its repr, in one line, or its type if that fails."""
    try:
        return " ".join(repr(thing).split())[:80]
    except Exception:
        return f"a {type(thing).__name__}"


def _is_node(tree: Tree, node: Any) -> bool:
    return type(node) is int and 0 <= node < len(tree.token)
