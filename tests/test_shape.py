"""The shape of the house: who may import whom, and how large a room may be."""

import ast
from pathlib import Path

import pytest

import nextok

SOURCE = Path(nextok.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
PURE = (
    "errors",
    "tree",
    "query",
    "events",
    "errors",
    "request",
    "strategies",
    "drafts",
    "sampling.transforms",
    "sampling.penalties",
    "sampling.past",
    "sampling.sampler",
    "sampling.seeds",
    "sampling",
)


def name_of(file):
    return ".".join(file.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


def imported(file):
    """Every module that a file names in an import, at the top or inside a function."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def is_pure(module):
    return any(module == pure or (pure != "sampling" and module.startswith(pure + ".")) for pure in PURE)


@pytest.mark.parametrize("file", [file for file in FILES if is_pure(name_of(file))], ids=name_of)
def test_the_core_imports_nothing_but_the_standard_library_and_itself(file):
    import sys

    for module in imported(file):
        if module.startswith("nextok"):
            assert is_pure(module.removeprefix("nextok.")), module
        else:
            assert module.partition(".")[0] in sys.stdlib_module_names, module


@pytest.mark.parametrize("name", ["engine", "kv", "reference"])
def test_the_engine_knows_models_only_by_their_protocol(name):
    for module in imported(SOURCE / f"{name}.py"):
        assert not module.startswith(("numpy", "torch", "nextok.models", "nextok.formats", "nextok.text")) or (
            module == "nextok.models.base"
        )


def test_models_do_not_know_strategies():
    for file in (SOURCE / "models").glob("*.py"):
        for module in imported(file):
            assert not module.startswith(("nextok.strategies", "nextok.drafts", "nextok.engine", "nextok.lm"))


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
