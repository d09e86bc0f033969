"""The documentation: its code and its commands run, print what stands below them, and its prose has one form."""

import json
import re
import shlex
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import typer

import nextok as nt
from nextok.core.events import DraftFailed
from nextok.strategies.speculate import Speculate
from prose import misplaced
from servers import serve, serving
from test_shape import ORDER
from toys import DRAFTS, SAMPLINGS, asked, by_engine, by_reference, outcome
from transcripts import Step, alike, blocks, failures, parse

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
FOLDERS = (ROOT.glob("*.md"), *((ROOT / name).rglob("*.md") for name in ("docs", "benchmarks", "examples", "native")))
PAGES = sorted(page for pages in FOLDERS for page in pages)


def ran(page, least):
    """What the code of a page leaves behind, all of it run in order, as a reader would type it."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= least
    names: dict = {}
    for block in blocks:
        exec(compile(block, block.partition("\n")[0], "exec"), names)
    return names


@pytest.mark.model
def test_the_examples_of_the_readme_run(capsys):
    ran("README.md", 3)
    assert "length 40" in capsys.readouterr().out


@pytest.mark.model
def test_the_examples_of_the_strategies_run():
    names = ran("docs/strategies.md", 10)
    assert names["fast"].tokens == names["plain"].tokens
    assert names["fast"].stats.passes <= names["plain"].stats.passes  # fewer where guessing pays on this machine


@pytest.mark.model
def test_the_examples_of_the_library_run():
    names = ran("docs/library.md", 7)
    assert names["stream"].text == names["stream"].output().text


@pytest.mark.model
def test_the_examples_of_serving_run():
    lm = nt.load("smollm2")
    service = serve(lm, drafts={"lookup": nt.PromptLookup()})
    page = (DOCS / "serving.md").read_text(encoding="utf-8")
    with serving(service) as address:
        page = page.replace("http://127.0.0.1:8000", address)
        names: dict = {}
        for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
            exec(compile(block, block.partition("\n")[0], "exec"), names)
        names["client"].close()
        [command] = re.findall(r"```sh\n(curl .*?)```", page, re.DOTALL)
        if shutil.which("curl"):
            answer = subprocess.run(shlex.split(command), capture_output=True, check=True).stdout
            assert json.loads(answer)["choices"][0]["message"]["content"]


@pytest.mark.model
def test_the_examples_of_batches_run(plain_terminal):
    page, names = (DOCS / "batch.md").read_text(encoding="utf-8"), {}
    for language, code in re.findall(r"```(python|console)\n(.*?)```", page, re.DOTALL):
        if language == "python":
            exec(compile(code, code.partition("\n")[0], "exec"), names)
        for steps, _ in blocks(f"```console\n{code}```") if language == "console" else ():
            assert not failures(steps)
    assert names["tally"].lines == 3


@pytest.mark.model
def test_the_examples_of_torch_run(capsys):
    ran("docs/torch.md", 3)
    assert capsys.readouterr().out.startswith(" Paris")


READING = (DOCS / "reading.md").read_text(encoding="utf-8")
SECTIONS = {section.partition("\n")[0]: section for section in READING.split("\n## ")}


def test_the_minutes_of_reading_add_up():
    timed = {title: section for title, section in SECTIONS.items() if "minutes)" in title}
    assert len(timed) == 2
    for title, section in timed.items():
        minutes = [int(each) for each in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)]
        assert f"({sum(minutes)} minutes)" in title


def test_the_order_of_imports_is_that_of_the_code():
    [written] = re.findall(r"```text\n(.*?)```", SECTIONS["Who may import whom"], re.DOTALL)
    assert written.splitlines() == [", ".join(rooms) for rooms in ORDER]


def test_the_design_says_what_each_room_is_for():
    design = (DOCS / "design.md").read_text(encoding="utf-8")
    section = design.partition("\n## The rooms\n")[2].partition("\n## ")[0]
    told = re.findall(r"`(\w+)`", "".join(re.findall(r"^\|([^|]*)\|", section, re.MULTILINE)))
    assert sorted(told) == sorted(room for rooms in ORDER for room in rooms)


FILE = re.compile(r"`((?:[\w.-]+/)*\w+\.(?:py|hpp|cpp|inl))`")
THERE = [
    f"/{path.relative_to(ROOT)}"
    for folder in ("src", "native", "tests", "benchmarks", "examples")
    for path in (ROOT / folder).rglob("*.*")
]


def missing(text):
    """The source files that a text names, with the end of their path, and that are not there."""
    return [name for name in FILE.findall(text) if not any(path.endswith(f"/{name}") for path in THERE)]


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "log.md"], ids=lambda path: path.name)
def test_every_source_file_that_is_named_exists(page):
    assert not missing(page.read_text(encoding="utf-8"))


def test_a_source_file_that_does_not_exist_is_found():
    assert len(FILE.findall(READING)) > 40
    assert missing("`engine/memo.py`, `memo.py`, `kv.py`, `core/memo.py`") == ["kv.py", "core/memo.py"]


CONSOLE = list(blocks((DOCS / "cli.md").read_text(encoding="utf-8")))
COMMANDS = [step for steps, run in CONSOLE if run for step in steps]


@pytest.fixture
def plain_terminal(monkeypatch, tmp_path):
    """An empty folder, and no variables that change what the command line does."""
    monkeypatch.chdir(tmp_path)
    for name in ("NEXTOK_MODEL", "NEXTOK_THREADS", "NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.model
def test_the_commands_of_the_command_line_print_what_stands_below_them(plain_terminal):
    found = [each for steps, run in CONSOLE if run for each in failures(steps)]
    assert not found, "\n\n".join(found)


def test_nearly_all_blocks_of_the_command_line_are_run():
    assert [run for _, run in CONSOLE].count(False) == 2
    assert len(COMMANDS) > 25


REFUSED = next(step for step in COMMANDS if "--greedy" in step.words)


def test_a_misspelled_option_a_changed_line_and_a_wrong_exit_code_are_found():
    code = Step(("echo", "$?"), ("2",))
    assert not failures([REFUSED, code])
    misspelled = replace(REFUSED, words=tuple(word.replace("--greedy", "--gready") for word in REFUSED.words))
    for wrong in ([misspelled, code], [REFUSED], [REFUSED, replace(code, lines=("3",))]):
        assert len(failures(wrong)) == 1


@pytest.mark.parametrize("step", [step for step in COMMANDS if step.lines], ids=lambda step: step.words[1])
def test_a_changed_or_lost_line_is_found(step):
    assert alike(step.lines, [line for line in step.lines if line != "..."])
    for number, line in enumerate(step.lines):
        before, after = step.lines[:number], step.lines[number + 1 :]
        if line != "...":
            assert not alike((*before, f"{line} more", *after), step.lines)
            assert not alike((*before, *after), step.lines)


COMMAND = re.compile(r"^(?:\$ )?(nextok .*)$", re.MULTILINE)
BLOCK = re.compile(r"^```\w*.*?\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_in_the_documentation_has_options_that_exist(page):
    for block in BLOCK.findall(page.read_text(encoding="utf-8")):
        for command in COMMAND.findall(block):
            if command.count("'") % 2 == 0:  # else it goes on in the next line, and is run
                parse(shlex.split(command.partition(" | ")[0], comments=True))


def test_a_command_with_an_option_that_does_not_exist_is_found():
    parse(["nextok", "Hi", "--greedy"])
    with pytest.raises(typer.TyperException):
        parse(["nextok", "Hi", "--gready"])


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_prose_is_written_with_one_sentence_a_line(page):
    assert not list(misplaced(page.read_text(encoding="utf-8")))


RIGHT = """# A heading. With two sentences.

One sentence, e.g. this one, about `a. B`, version 1.5 and llama.cpp (see Kool et al. for more).
**Why.** A bold title stands before its sentence.

- An item that ends here.
  Its second sentence.
1. 他说“好。”就走了。
   第二句。

| a table. It may | hold more. Of them |

```
Code. It stays.
```
"""
"""Each line is as it should be."""

WRONG = (
    "One. Two.",
    "It ends (here.) The next begins.",
    "It ends in `code`. The next begins.",
    "Does it end? It does.",
    "It ends. the next begins with a small letter.",
    "**Why.** One. Two.",
    "- An item. Another sentence.",
    "> A quotation. Another sentence.",
    "一句。又一句。",
    "（一句。）又一句。",
    "A sentence that goes\non in the next line.",
    "- An item that goes\n  on in the next line.",
)


def test_a_page_in_the_right_form_passes():
    assert not list(misplaced(RIGHT))


@pytest.mark.parametrize("text", WRONG)
def test_a_line_with_two_sentences_or_a_part_of_one_is_found(text):
    assert len(list(misplaced(text))) == 1
    assert len(list(misplaced(RIGHT + "\n" + text))) == 1


@pytest.mark.model
def test_the_recipes_for_extensions_run():
    names = ran("docs/extending.md", 3)
    assert names["guessed"].tokens == names["plain"].tokens
    assert names["guessed"].stats.draft_error is None
    scores = [choice.score for choice in names["best"].choices]
    assert len(scores) == 2
    assert scores == sorted(scores, reverse=True)
    the_laws_hold(
        names["BestOf"](3, n=2), names["PhraseBook"](("345", "1234")), names["nt"].Chain((names["TopA"](0.3),))
    )


def the_laws_hold(strategy, draft, sampling):
    """What a line for each of these in toys would test, in short."""
    for seed in range(20):
        prompt = [seed % 7, 3, 1, 2]
        for each in (strategy, sampling):
            expected = by_reference(each, asked(prompt, seed=seed))
            assert by_engine(each, asked(prompt, seed=seed), budget=1 + seed % 3) == expected
        pairs = [(draft, each) for each in (sampling, *SAMPLINGS.values())]
        for guesser, each in [*pairs, *((guesser, sampling) for guesser in DRAFTS.values())]:
            plain, speculative = asked(prompt, seed=seed), asked(prompt, seed=seed)
            by_reference(each, plain)
            events = by_engine(Speculate(guesser, each), speculative)
            assert outcome(speculative) == outcome(plain)
            assert not any(isinstance(event, DraftFailed) for event in events)
