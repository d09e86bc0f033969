"""The whole system without engine, cache or batch: one request, every path read from its first token.

This is the oracle of the tests: the engine may be faster, never different.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from nextok.core.events import Event, Finished, Token
from nextok.core.query import CONSTANT_SPEED, TARGET, Decoding, Query, Speed, select_replies
from nextok.core.request import Request
from nextok.models.base import Feed, Model
from nextok.strategies.base import Strategy


def drive(strategy: Strategy, request: Request, target: Model) -> Iterator[Event]:
    """Run one request to its end and yield its events."""
    steps = strategy.decode(request)
    resume: Callable[[], Query | Speed | Event] = partial(next, steps)
    while True:
        try:
            item = resume()
        except StopIteration:
            yield from request.take_events()
            return
        yield from request.take_events()
        if isinstance(item, Query):
            resume = _reply(steps, target, request, item)
        elif isinstance(item, Speed):
            resume = partial(steps.send, CONSTANT_SPEED)
        else:
            if not isinstance(item, Token | Finished):  # those are delivered when they are committed
                yield item
            resume = partial(next, steps)


def _reply(
    steps: Decoding[None], target: Model, request: Request, query: Query
) -> Callable[[], Query | Speed | Event]:
    """How the strategy goes on: with its answers, or with what went wrong in a draft model."""
    try:
        replies = select_replies(
            query, {node: _answer(target, request, query, i) for i, node in enumerate(query.nodes)}
        )
    except Exception as error:
        if query.model is TARGET:
            raise
        return partial(steps.throw, error)
    return partial(steps.send, replies)


def _answer(target: Model, request: Request, query: Query, position: int) -> Any:
    """Read one node alone: its whole path, through an empty cache."""
    model: Any = target if query.model is TARGET else query.model
    node = query.nodes[position]
    tokens = request.tree.path(node)
    feed = Feed.from_run(model.open(), tokens, rows=[len(tokens) - 1])
    try:
        row = request.row(0, node, query, position)
    except Exception as error:  # of one of its transforms
        return error
    [answer] = model.answer([feed], [row])
    request.learn(node, row, answer)
    return answer
