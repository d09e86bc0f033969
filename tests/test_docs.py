"""The code in the documentation runs."""

import re
from pathlib import Path

import pytest

from prose import misplaced

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
FOLDERS = (ROOT.glob("*.md"), *((ROOT / name).rglob("*.md") for name in ("docs", "benchmarks", "examples", "native")))
PAGES = sorted(page for pages in FOLDERS for page in pages)


def ran(page, least):
    """What the code of a page leaves behind, all of it run in order, as a reader would type it."""
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    assert len(blocks) >= least
    names: dict = {}
    for block in blocks:
        exec(compile(block, block.partition("\n")[0], "exec"), names)
    return names


@pytest.mark.model
def test_the_examples_of_the_strategies_run():
    names = ran("strategies.md", 10)
    assert names["fast"].tokens == names["plain"].tokens
    assert names["fast"].stats.passes <= names["plain"].stats.passes  # fewer where guessing pays on this machine


@pytest.mark.model
def test_the_examples_of_torch_run(capsys):
    ran("torch.md", 3)
    assert capsys.readouterr().out.startswith(" Paris")


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
