"""Shows the options of a method that takes `**options: Unpack[GenerateOptions]`, or another of their kinds."""

import inspect
import textwrap
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_args

from nextok.generation.options import Option, read_options

Method = TypeVar("Method", bound=Callable[..., Any])
KEYWORD, REST = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD
WIDTH = 100
"""Columns of the lines that are added to a docstring."""


def show_options(method: Method) -> Method:
    """The same method, whose signature and docstring list the options in place of `**options`.

    So `help(lm.generate)`, `inspect.signature` and notebooks show them; type checkers read them from the TypedDict.
    """
    signature = inspect.signature(method)
    own = [each for each in signature.parameters.values() if each.kind is not REST]
    kinds = [get_args(each.annotation) for each in signature.parameters.values() if each.kind is REST]
    if not kinds:
        raise TypeError(f"{method.__qualname__} takes no **options, so there is nothing to show")
    listed = read_options(kinds[0][0])
    options = [
        inspect.Parameter(name, KEYWORD, default=option.default, annotation=option.kind)
        for name, option in listed.items()
    ]
    shown: Any = method
    shown.__signature__ = signature.replace(parameters=[*own, *options])
    shown.__doc__ = "\n".join([inspect.cleandoc(method.__doc__ or ""), "", "Options:", *_describe(listed)])
    return method


def _describe(listed: Mapping[str, Option]) -> list[str]:
    return [
        line
        for name, option in listed.items()
        for line in textwrap.wrap(f"  {name}: {option.meaning}", WIDTH, subsequent_indent="    ")
    ]
