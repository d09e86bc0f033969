"""The structure of the package: which room may import which, and how large files and functions may be."""

import ast
import importlib
import re
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
    ("chat",),
    ("models",),
    ("engine",),
    ("generation",),
    ("lm",),
    ("conversation", "loading", "extend"),
    ("pytorch", "tools"),
    ("api",),
    ("serve", "batch"),
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


NATIVE = Path(__file__).parents[1] / "native"
NATIVE_FILES = sorted(file for file in NATIVE.rglob("*") if file.suffix in {".cpp", ".hpp", ".inl"})
# Comments and literals, whose braces do not count.
QUIET = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|' r"'(?:\\.|[^'\\\n])'", re.DOTALL)
SCOPE = re.compile(r"(inline )?(namespace|class|struct|union|enum)\b")


def functions(text):
    """The functions of C++ code as clang-format leaves it: pairs of the head and the number of lines, head included.

    A brace at the level of a file, namespace or class opens a function where parentheses stand before it.
    """
    text = QUIET.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    text = re.sub(r"^ *#(?:.*\\\n)*.*$", lambda match: "\n" * match[0].count("\n"), text, flags=re.MULTILINE)
    text = re.sub(r"\b(public|private|protected):", "", text)
    head, start, inside, depth = "", 0, [], 0
    for place, letter in enumerate(text):
        if depth:  # in a function or a list of values
            depth += (letter == "{") - (letter == "}")
            if depth == 0:
                if "(" in head:
                    yield head.strip(), text.count("\n", start, place) + 1
                head = ""
        elif letter == "{" and SCOPE.match(re.sub(r"^template <[^\n]*>\n", "", head.strip())):
            inside.append(head)
            head = ""
        elif letter == "{":
            depth = 1
        elif letter in ";}":
            inside = inside[: -1 if letter == "}" else None]
            head = ""
        else:
            start = place if not head.strip() else start
            head += letter
    assert not inside
    assert not depth


def test_the_reader_of_functions_finds_them():
    lines = "\n".join("    // {" if i % 2 else '    f("}");' for i in range(58))
    sample = f"""namespace a {{
template <class T>
struct S : B<T> {{
    S() : a_(1) {{}}
  private:
    struct Inner {{
        int f() const {{
            if (x) {{
                g();
            }}
        }}
    }};
    std::atomic<int> n{{0}};
}};
const int table[] = {{
    1,
}};
#define MACRO(x) {{
template <class T>
void long_one(int a,
              int b) {{
{lines}
}}
}}  // namespace a
"""
    assert [(head.split("\n")[-1].strip(), length) for head, length in functions(sample)] == [
        ("S() : a_(1)", 1),
        ("int f() const", 5),
        ("int b)", 62),
    ]
    found = [head for file in NATIVE_FILES for head, _ in functions(file.read_text())]
    assert len(found) > 300
    for name in ["void softmax_rows(", "inline void fast_tile(", "NB_MODULE(", "int main(", "void add_powers("]:
        assert sum(name in head for head in found) == 1, name


@pytest.mark.parametrize("file", NATIVE_FILES, ids=lambda file: file.name)
def test_no_native_file_and_no_native_function_outgrows_a_reader(file):
    text = file.read_text()
    assert text.count("\n") <= 320
    for number, line in enumerate(text.split("\n"), 1):
        assert len(line) <= 120, number
    for head, length in functions(text):
        assert length <= 45, head


def test_no_thread_keeps_memory_that_outlives_its_model():
    for file in NATIVE_FILES:
        assert "thread_local" not in file.read_text(), file.name


def test_what_the_core_imports_from_python_stands_in_one_list_and_is_there():
    text = (NATIVE / "src" / "names_python.hpp").read_text()
    modules = dict(re.findall(r'constexpr const char\* (\w+) = "([\w.]+)";', text))
    names = re.findall(r'constexpr Name (\w+)\{(\w+), "(\w+)"\};', text)
    assert len(names) == text.count("constexpr Name ") > 20
    for constant, module, name in names:
        assert constant.lower() == "k" + name.replace("_", "").lower()
        assert hasattr(importlib.import_module(modules[module]), name), name
    uses = "".join(file.read_text() for file in NATIVE_FILES if file.name != "names_python.hpp")
    assert "import_" not in uses
    assert not re.search(r'"nextok\.', uses)
    for constant, _, _ in names:
        assert f"fetch({constant})" in uses, constant
