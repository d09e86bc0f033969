"""Shows the options of a method that takes `**options: Unpack[GenerateOptions]`, with their defaults and meanings."""

import inspect
import textwrap
from collections.abc import Callable
from typing import Any, TypeVar

from nextok.generation.options import OPTIONS

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
    if len(own) == len(signature.parameters):
        raise TypeError(f"{method.__qualname__} takes no **options, so there is nothing to show")
    options = [
        inspect.Parameter(name, KEYWORD, default=option.default, annotation=option.kind)
        for name, option in OPTIONS.items()
    ]
    shown: Any = method
    shown.__signature__ = signature.replace(parameters=[*own, *options])
    shown.__doc__ = "\n".join([inspect.cleandoc(method.__doc__ or ""), "", "Options:", *_describe()])
    return method


def _describe() -> list[str]:
    return [
        line
        for name, option in OPTIONS.items()
        for line in textwrap.wrap(f"  {name}: {option.meaning}", WIDTH, subsequent_indent="    ")
    ]
