"""Every example runs, says something, and fits on one screen."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
SAYS = {
    "batch": "same alone: True",
    "speculation": "same text: True",
    "by_hand": "cat sat down <end>",
    "chat": "assistant:",
    "demo": "--- speculative",
    "tensors": "assisted = greedy: True",
}


@pytest.mark.model
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example(example):
    assert example.read_text().count("\n") <= 30
    done = subprocess.run([sys.executable, example], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert SAYS.get(example.stem, "") in done.stdout
    assert "False" not in done.stdout
    assert done.stdout.strip()
