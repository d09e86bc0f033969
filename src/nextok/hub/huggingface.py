"""Models on the Hugging Face hub, fetched by the hub's own library into its own cache."""

import os
import re
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nextok.errors import DownloadError, ModelNotFoundError, NextokError
from nextok.hub.cache import hash_file
from nextok.hub.source import Entry, Progress, Report, Source

# All files that are fetched besides weights; none of them can run code.
SIDE_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
INDEX = "model.safetensors.index.json"
FILES = (".gguf", ".pth", ".pt", ".bin")
"""Ends of paths that no id of the hub has."""


@dataclass(frozen=True)
class Reference:
    """A model on the hub: `owner/name`, a revision, and which GGUF file if it is one of several."""

    repository: str
    revision: str = "main"
    choice: str | None = None


def parse_reference(text: str) -> Reference | None:
    """Read `owner/name`, perhaps with `@revision` and `:file-or-quantisation`; None if it is no id."""
    match = re.fullmatch(r"(\w[\w.-]*/\w[\w.-]*)((?:[@:][^@:\s]+)*)", text, re.ASCII)
    if not match or match[1].endswith((*FILES, ".safetensors")) or ".." in text:
        return None
    parts = dict(re.findall(r"([@:])([^@:]+)", match[2]))
    return Reference(match[1], parts.get("@", "main"), parts.get(":"))


def choose_files(names: Collection[str], reference: Reference) -> list[str]:
    """Return which of a repository's files make the model, weights last; raises ModelNotFoundError."""
    weights = [] if reference.choice else _choose_safetensors(names)
    if weights:
        return [name for name in (*SIDE_FILES, INDEX) if name in names] + weights
    repository, choice = reference.repository, reference.choice
    known = sorted(name for name in names if name.endswith(".gguf"))
    found = [name for name in known if choice is None or _matches_choice(name, choice)]
    if len(found) == 1:
        return found
    if not known:
        raise ModelNotFoundError(f"{repository} holds no whole set of safetensors and no GGUF file")
    if not found:
        raise ModelNotFoundError(f"{repository} has no GGUF file {choice!r}; it has {', '.join(known)}")
    raise ModelNotFoundError(
        f"{repository} has several GGUF files, choose one as in {repository}:{found[0]}: {', '.join(found)}"
    )


def obtain(reference: Reference, report: Report, offline: bool) -> Source:
    """Return the model from the hub's own cache without any request, else fetch it."""
    if source := _find_cached(reference):
        return source
    if offline:
        raise DownloadError(
            f"{reference.repository} is not fetched yet and offline was asked for: "
            f"run `nextok models pull {reference.repository}` with a network"
        )
    return fetch(reference, report)


def fetch(reference: Reference, report: Report) -> Source:
    """Bring the newest files of a revision into the hub's own cache; raises DownloadError."""
    try:
        return _fetch(reference, report)
    except NextokError:
        raise
    except Exception as error:  # the library and its transports raise many unrelated kinds
        raise _explain(reference, error) from error


def list_entries() -> list[Entry]:
    """Return every model in the hub's own cache that could be loaded from there."""
    found = []
    for folder in sorted(_get_hub_cache().glob("models--*--*")):
        repository = folder.name.removeprefix("models--").replace("--", "/", 1)
        branches = {_find_commit(folder, name): name for name in _list_branches(folder)}
        for snapshot in sorted(folder.glob("snapshots/*")):
            revision = branches.get(snapshot.name, snapshot.name)
            name = repository if revision == "main" else f"{repository}@{revision}"
            found += list(_list_models(name, snapshot))
    return found


def remove(reference: Reference) -> int:
    """Delete a repository from the hub's cache, or the one file chosen; return the bytes freed."""
    if reference.choice:
        source = _find_cached(reference)
        if source is None:
            return 0
        size = source.path.stat().st_size
        _delete(source.path)
        return size
    folder = _get_folder(reference.repository)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    shutil.rmtree(folder, ignore_errors=True)
    return size


def _choose_safetensors(names: Collection[str]) -> list[str]:
    """Return the safetensors files of one whole model, or none."""
    if "config.json" not in names:
        return []
    if "model.safetensors" in names:
        return ["model.safetensors"]
    files = sorted(name for name in names if name.endswith(".safetensors") and "/" not in name)
    parts = [name for name in files if re.fullmatch(r"model-\d+-of-\d+\.safetensors", name)]
    if INDEX not in names and not parts:
        return files
    expected = {int(name.removesuffix(".safetensors").rsplit("-", 1)[1]) for name in parts}
    return parts if expected == {len(parts)} else []


def _matches_choice(name: str, choice: str) -> bool:
    """Tell whether a GGUF file is the one asked for by path, by file name or by quantisation."""
    last = name.rsplit("/", 1)[-1]
    ending = rf"(^|[-.]){re.escape(choice)}\.gguf"
    return choice in (name, last) or re.search(ending, last, re.IGNORECASE) is not None


def _fetch(reference: Reference, report: Report) -> Source:
    from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache

    # The library reads HF_ENDPOINT only when it is first imported.
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or None
    repository, cache = reference.repository, _get_hub_cache()
    information = HfApi(endpoint=endpoint).model_info(
        repository, revision=reference.revision, files_metadata=True, timeout=10
    )
    commit = information.sha or reference.revision
    files = {file.rfilename: file for file in information.siblings or ()}
    names = choose_files(files, reference)
    total, done = sum(files[name].size or 0 for name in names), 0
    for name in names:
        known = try_to_load_from_cache(repository, name, cache_dir=cache, revision=commit)
        bar = _make_bar(Progress(f"fetching {repository}", done, total), report)
        path = Path(
            hf_hub_download(repository, name, revision=commit, endpoint=endpoint, cache_dir=cache, tqdm_class=bar)
        )
        large = files[name].lfs
        if large and not isinstance(known, str) and hash_file(path) != large.sha256:
            _delete(path)
            raise DownloadError(f"{name} of {repository} arrived damaged: pull it again")
        done += files[name].size or 0
    # A request by branch updates the branch's mark: it comes last, so that a mark always means whole files.
    hf_hub_download(repository, names[0], revision=reference.revision, endpoint=endpoint, cache_dir=cache)
    return _build_source(reference, _get_folder(repository) / "snapshots" / commit, names)


def _make_bar(start: Progress, report: Report) -> Any:
    """Return a class with the methods of tqdm, which the library needs, that reports bytes from `start` on."""

    class Bar:
        def __init__(self, initial: int = 0, **display: object) -> None:
            self.n = initial
            self.total = start.total

        def __enter__(self) -> "Bar":
            return self

        def __exit__(self, *error: object) -> None:
            self.close()

        def update(self, count: int = 1) -> None:
            self.n += count
            report(Progress(start.stage, start.done + self.n, start.total))

        def update_transfer(self, count: int = 1) -> None: ...

        def set_postfix_str(self, text: str = "", refresh: bool = True) -> None: ...

        def set_transfer_postfix_str(self, text: str = "", refresh: bool = True) -> None: ...

        def refresh(self) -> None: ...

        def close(self) -> None: ...

    return Bar


def _explain(reference: Reference, error: Exception) -> NextokError:
    """Return the error in one line: why the download failed and what to do."""
    from huggingface_hub import errors

    repository, revision = reference.repository, reference.revision
    cause = error.__cause__ or error if isinstance(error, errors.LocalEntryNotFoundError) else error
    match cause:
        case errors.GatedRepoError():
            return DownloadError(f"{repository} is gated: accept its terms on its page, then set HF_TOKEN")
        case errors.RepositoryNotFoundError() | errors.HFValidationError():
            return ModelNotFoundError(
                f"no file or folder {repository!r} here and no such repository on the hub: "
                "check the spelling, or set HF_TOKEN if it is private"
            )
        case errors.RevisionNotFoundError():
            return ModelNotFoundError(f"{repository} has no revision {revision!r}: give a branch, tag or commit")
        case errors.HfHubHTTPError() if cause.response.status_code in (401, 403):
            return DownloadError(
                f"the hub refuses access to {repository}: check the spelling, or set HF_TOKEN to a token for it"
            )
        case errors.OfflineModeIsEnabled():
            return DownloadError(f"{repository} is not fetched yet and HF_HUB_OFFLINE is set: unset it once")
        case OSError() if cause.errno:
            return DownloadError(f"cannot fetch {repository} into {_get_hub_cache()}: {cause.strerror}; see HF_HOME")
    reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
    return DownloadError(
        f"cannot fetch {repository} from the hub ({reason}): check the network, "
        "set HF_ENDPOINT to a mirror, or give a path"
    )


def _find_cached(reference: Reference) -> Source | None:
    folder = _get_folder(reference.repository)
    snapshot = folder / "snapshots" / _find_commit(folder, reference.revision)
    try:
        return _build_source(reference, snapshot, choose_files(_list_files(snapshot), reference))
    except ModelNotFoundError:
        return None


def _build_source(reference: Reference, snapshot: Path, names: list[str]) -> Source:
    name, path, what = reference.repository.split("/")[1], snapshot, reference.repository
    if names[-1].endswith(".gguf"):
        path = snapshot / names[-1]
        name, what = path.stem, f"{what}/{names[-1]}"
    return Source(path, name, f"Hugging Face {what} at revision {snapshot.name[:12]}")


def _delete(path: Path) -> None:
    """Delete a file of a snapshot and the blob it links to."""
    if path.is_symlink():
        (path.parent / path.readlink()).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def _list_models(name: str, snapshot: Path) -> Iterator[Entry]:
    names = _list_files(snapshot)
    if _choose_safetensors(names):
        yield Entry(name, snapshot, sum((snapshot / file).stat().st_size for file in names))
    for file in names:
        if file.endswith(".gguf"):
            yield Entry(f"{name}:{file}", snapshot / file, (snapshot / file).stat().st_size)


def _get_hub_cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _get_folder(repository: str) -> Path:
    return _get_hub_cache() / f"models--{repository.replace('/', '--')}"


def _list_branches(folder: Path) -> list[str]:
    refs = folder / "refs"
    return [path.relative_to(refs).as_posix() for path in refs.rglob("*") if path.is_file()]


def _find_commit(folder: Path, revision: str) -> str:
    mark = folder / "refs" / revision
    return mark.read_text().strip() if mark.is_file() else revision


def _list_files(snapshot: Path) -> list[str]:
    """Return the files of a snapshot; a link to a file that is gone is not one of them."""
    return sorted(path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*") if path.is_file())
