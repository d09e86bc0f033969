"""The code in the documentation runs."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.model
def test_the_examples_of_the_strategies_run():
    """All of them in order, as a reader would type them."""
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "strategies.md").read_text(), re.DOTALL)
    assert len(blocks) > 10
    names: dict = {}
    for block in blocks:
        exec(compile(block, block.partition("\n")[0], "exec"), names)
    assert names["fast"].tokens == names["plain"].tokens
    assert names["fast"].stats.passes <= names["plain"].stats.passes  # fewer where guessing pays on this machine
