"""Templates that are simple enough to be rendered in this process.

Most chat templates only iterate over the messages and join strings. Such a template is recognised by its syntax tree,
and runs with an allowance of time and characters; any other is left to a child process.
"""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import wraps
from typing import Any, TypeVar

import jinja2
from jinja2 import nodes
from jinja2.visitor import NodeTransformer

from nextok.text.sandbox import ChatEnvironment, write_limited

T = TypeVar("T")

MOST_SOURCE = 16_000
"""Largest number of characters of a template that is rendered here."""
MOST_INPUT = 200_000
"""Largest number of characters of the messages, so that no single operation takes long."""
MOST_CHARACTERS = 2_000_000
"""Largest number of characters that all operations of a rendering together may produce."""
MOST_SECONDS = 0.2
"""Longest time of a rendering, in seconds."""

NODES = {
    *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.If, nodes.For, nodes.Break, nodes.Continue),
    *(nodes.Assign, nodes.NSRef, nodes.Name, nodes.Const, nodes.Tuple, nodes.List, nodes.Dict, nodes.Pair),
    *(nodes.Getattr, nodes.Getitem, nodes.Slice, nodes.Call, nodes.Keyword, nodes.Filter, nodes.Test),
    *(nodes.CondExpr, nodes.And, nodes.Or, nodes.Not, nodes.Compare, nodes.Operand),
    *(nodes.Add, nodes.Sub, nodes.Mod, nodes.Neg, nodes.Concat),
}
PLAIN_DATE = r"(%-?[A-Za-z%]|[^%]){0,200}"
"""Formats of `strftime_now` that are allowed."""
FUNCTIONS = {"namespace", "raise_exception"}
METHODS = {"strip", "lstrip", "rstrip", "split", "startswith", "endswith", "upper", "lower", "get", "items", "keys"}
FILTERS = {"trim", "length", "count", "upper", "lower", "capitalize", "first", "last", "default", "d", "tojson"}
TESTS = {"defined", "undefined", "none", "string", "mapping", "iterable", "sequence", "number", "boolean", "true"}
TESTS |= {"false", "in", "odd", "even", "eq", "equalto", "==", "ne", "!="}


class NotPlainError(Exception):
    """A template does more than is allowed in this process."""


class Allowance:
    """The time and the number of characters that one rendering has left."""

    def __init__(self) -> None:
        self.deadline = time.monotonic() + MOST_SECONDS
        self.characters = MOST_CHARACTERS

    def charge(self, value: T) -> T:
        """The value, whose size in characters is subtracted; NotPlainError once the allowance is used up."""
        size = len(value) if isinstance(value, str | list | tuple) else 0
        if isinstance(value, list):
            size += sum(len(item) for item in value if isinstance(item, str))
        self.characters -= size
        self.check()
        return value

    def check(self) -> None:
        """NotPlainError once the allowance is used up."""
        if self.characters < 0 or time.monotonic() > self.deadline:
            raise NotPlainError

    def count_items(self, items: Iterable[T]) -> Iterator[T]:
        """The items, with a check of the allowance before each."""
        for item in items:
            self.check()
            yield item

    def join(self, parts: Iterable[object]) -> str:
        """Jinja's `~`: the parts joined, whose size is subtracted."""
        return self.charge("".join(map(str, parts)))


class PlainEnvironment(ChatEnvironment):
    """An environment that charges an allowance for every operation that can make a text longer."""

    intercepted_binops = frozenset("+%")

    def __init__(self, now: datetime) -> None:
        super().__init__(now)
        self.allowance = Allowance()
        self.filters = {name: self._charge_results(self.filters[name]) for name in FILTERS}
        self.filters |= {"count_items": self.allowance.count_items, "join_charged": self.allowance.join}

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Jinja calls this for `+`, and for `%`, which formats if the left is a string."""
        if operator == "%" and not (type(left) is type(right) is int):
            raise NotPlainError
        return self.allowance.charge(super().call_binop(context, operator, left, right))

    def call(self, context: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Jinja calls this for every call that a template writes."""
        return self.allowance.charge(super().call(context, function, *args, **kwargs))

    def _charge_results(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)  # keeps the attribute by which jinja2 knows what to pass
        def call(*args: Any, **kwargs: Any) -> Any:
            return self.allowance.charge(function(*args, **kwargs))

        return call


class ChargeInserter(NodeTransformer):
    """Adds a charge to each turn of a loop and to each `~`."""

    def visit_For(self, node: nodes.For) -> nodes.For:
        """Called for each loop."""
        self.generic_visit(node)
        node.iter = _wrap_in_filter(node.iter, "count_items")  # type: ignore[arg-type]  # jinja2 has it as any node
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:
        """Called for each chain of `~`."""
        self.generic_visit(node)
        return _wrap_in_filter(nodes.List(node.nodes, lineno=node.lineno), "join_charged")


def render_plain(source: str, values: Mapping[str, Any], now: datetime, characters: int) -> str | None:
    """The text that the template writes, or None if it is not plain, needs more than its allowance, or fails."""
    if len(source) > MOST_SOURCE:
        return None
    environment = PlainEnvironment(now)
    try:
        tree = environment.parse(source)
        if not all(map(_is_plain, tree.find_all(nodes.Node))):
            return None
        ChargeInserter().visit(tree)
        tree.set_environment(environment)
        code = environment.compile(tree)
        template = jinja2.Template.from_code(environment, code, environment.make_globals(None))
        return write_limited(template, values, characters)
    except Exception:  # the child process will fail too, and report the error
        return None


def _is_plain(node: nodes.Node) -> bool:
    match node:
        case nodes.For():
            return not node.recursive
        case nodes.Filter():
            return node.name in FILTERS and node.node is not None and not (node.name == "tojson" and node.args)
        case nodes.Test():
            return node.name in TESTS
        case nodes.Call(
            node=nodes.Name(name="strftime_now")
        ):  # a format with a width could write any number of characters
            match node.args:
                case [nodes.Const(value=str(form))]:
                    return re.fullmatch(PLAIN_DATE, form) is not None and not node.kwargs
            return False
        case nodes.Call(node=nodes.Name(name=name)):
            return name in FUNCTIONS
        case nodes.Call(node=nodes.Getattr(attr=name)):
            return name in METHODS
        case nodes.Tuple(ctx="load") | nodes.List():  # lists of variables could grow without limit
            return all(isinstance(item, nodes.Const) for item in node.items)
        case nodes.Pair():
            return isinstance(node.key, nodes.Const) and isinstance(node.value, nodes.Const)
        case _:
            return type(node) in NODES and type(node) is not nodes.Call


def _wrap_in_filter(node: nodes.Expr, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)
