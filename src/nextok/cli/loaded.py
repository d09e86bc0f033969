"""Loading a model for a command."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nextok.lm import LM


def loaded(model: str, *, threads: int | None = None, quiet: bool = False, **options: Any) -> "LM":
    """The language model of this name, fetched first if need be; `quiet` hides the progress of that."""
    import nextok
    from nextok.processors import checked_threads

    checked_threads(threads)  # refused before anything is fetched
    if quiet:
        from nextok.hub import resolve

        resolve(model)
    return nextok.load(model, threads=threads, **options)
