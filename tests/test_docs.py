"""The code in the documentation runs."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


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
