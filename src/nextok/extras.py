"""Optional parts of nextok, and what to install for them."""

from collections.abc import Iterator
from contextlib import contextmanager

from nextok.errors import NextokError

EXTRAS = {
    "llguidance": "grammar",
    "torch": "torch",
    "gguf": "gguf",
    "starlette": "serve",
    "uvicorn": "serve",
    "fsspec": "batch",
    "ray": "ray",
    "pyarrow": "ray",
}
"""The extra of nextok that installs each library."""


@contextmanager
def needed_for(what: str) -> Iterator[None]:
    """NextokError, with what to install, if an import inside finds an optional library missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        raise NextokError(
            f"{what} needs {error.name}, which is not installed: pip install 'nextok[{EXTRAS[error.name]}]'"
        ) from None
