"""The structure of the package: which room may import which, and how large files and functions may be."""

import ast
import sys
from pathlib import Path

import pytest

import nextok

SOURCE = Path(nextok.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
ORDER = (
    ("errors", "checks"),
    ("extras",),
    ("formats", "hub"),
    ("text",),
    ("sampling",),
    ("core",),
    ("drafts",),
    ("strategies",),
    ("grammar", "readout"),
    ("models",),
    ("engine",),
    ("generation",),
    ("lm",),
    ("conversation", "loading", "extend"),
    ("pytorch", "tools"),
    ("cli",),
)
"""The rooms, the lowest first: a room imports itself and lower ones, never its neighbours or higher ones."""
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}
ABOVE_ALL = ("__init__", "__main__")
PURE = ("sampling", "core", "strategies", "drafts")
"""Rooms of the standard library only: no arrays, no model."""


def name_of(file):
    return ".".join(file.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


def room_of(module):
    return module.partition(".")[0]


def imported(file):
    """Every module that a file names in an import, at the top or inside a function."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            yield node.module


def ours(file):
    """The modules of nextok among them, without the package's name."""
    return [module.removeprefix("nextok.") for module in imported(file) if module.startswith("nextok.")]


def upward(name, module):
    """Whether the room of `name` must not import `module`."""
    mine, other = room_of(name), room_of(module)
    return other not in ("_native", mine) and RANK[other] >= RANK[mine]


def test_at_the_top_stands_only_what_a_user_meets():
    assert len(list(SOURCE.glob("*.py"))) <= 10


def test_every_room_has_its_place_in_the_order():
    rooms = {room_of(name_of(file)) for file in FILES} - {"", *ABOVE_ALL}
    assert rooms <= RANK.keys(), rooms - RANK.keys()
    assert all(upward(low, high) and not upward(high, low) for low, high in [("core", "engine"), ("formats", "text")])


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_imports_point_one_way(file):
    if name_of(file) not in ("", *ABOVE_ALL):
        assert not [module for module in ours(file) if upward(name_of(file), module)]


@pytest.mark.parametrize("file", [file for file in FILES if room_of(name_of(file)) in PURE], ids=name_of)
def test_what_strategies_are_made_of_imports_only_the_standard_library(file):
    for module in imported(file):
        assert room_of(module) in sys.stdlib_module_names or room_of(module.removeprefix("nextok.")) in (
            *PURE,
            "errors",
            "checks",
        )


@pytest.mark.parametrize("file", sorted((SOURCE / "engine").glob("*.py")), ids=name_of)
def test_the_engine_knows_models_only_by_their_protocol(file):
    models = [module for module in imported(file) if module.startswith(("numpy", "torch", "nextok.models"))]
    assert set(models) <= {"nextok.models.base"}


@pytest.mark.parametrize("file", sorted((SOURCE / "strategies").rglob("*.py")), ids=name_of)
def test_strategies_know_drafts_only_by_their_protocol(file):
    assert {module for module in ours(file) if room_of(module) == "drafts"} <= {"drafts.base"}


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_no_file_and_no_function_outgrows_a_reader(file):
    text = file.read_text()
    assert text.count("\n") <= 320
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 45, node.name


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_no_pickle_and_no_open_sandbox(file):
    names = {node.attr for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Attribute)}
    assert "Environment" not in names
    assert not {"pickle", "marshal", "shelve", "dill"} & {module.partition(".")[0] for module in imported(file)}
