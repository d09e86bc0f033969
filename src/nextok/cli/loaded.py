"""Loading a model for a command."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nextok.lm import LM


def loaded(model: str, *, quiet: bool = False) -> "LM":
    """The language model of this name, fetched first if need be; `quiet` hides the progress of that."""
    import nextok

    if quiet:
        from nextok.hub import resolve

        resolve(model)
    return nextok.load(model)
