"""The whole system without engine, cache or batch: one request, every path read from its first token.

This is the page to read first and the oracle of the tests: the engine may be faster, never different.
"""

from collections.abc import Iterator
from typing import Any

from nextok.events import Event
from nextok.models.base import Feed, Model
from nextok.query import TARGET, Query, readable
from nextok.request import Request
from nextok.strategies.base import Strategy


def drive(strategy: Strategy, request: Request, target: Model) -> Iterator[Event]:
    """Run one request to its end and yield what its strategy tells."""
    steps, reply = strategy.decode(request), None
    while True:
        try:
            item = steps.send(reply)
        except StopIteration:
            return
        reply = None
        if isinstance(item, Query):
            answers = {node: _answer(target, request, item, i) for i, node in enumerate(item.nodes)}
            reply = readable(item, answers)
        else:
            yield item


def _answer(target: Model, request: Request, query: Query, position: int) -> Any:
    """Read one node alone: its whole path, through an empty cache."""
    model: Any = target if query.model is TARGET else query.model
    node = query.nodes[position]
    tokens = request.tree.path(node)
    feed = Feed.straight(model.open(), tokens, rows=[len(tokens) - 1])
    try:
        row = request.row(0, node, query, position)
    except Exception as error:  # of one of its transforms
        return error
    return model.answer([feed], [row])[0]
