"""The code in the documentation runs."""

import re
from pathlib import Path

import pytest

from nextok.core.events import DraftFailed
from nextok.strategies.speculate import Speculate
from toys import DRAFTS, SAMPLINGS, asked, by_engine, by_reference, outcome

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


@pytest.mark.model
def test_the_recipes_for_extensions_run():
    names = ran("extending.md", 3)
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
