"""The tutorial: its code runs, prints what stands under it, and is the same in both languages."""

import ast
import re

import pytest

from tutorial import BLOCK, CHINESE, ENGLISH, NUMBER, blocks, kinds, printed, refreshed, same

DOCUMENTS = {path.name: path.read_text(encoding="utf-8") for path in (ENGLISH, CHINESE)}
WRITTEN = [text for _, text in blocks(DOCUMENTS[ENGLISH.name]) if text]


@pytest.mark.model
def test_every_block_prints_what_stands_under_it():
    document = DOCUMENTS[ENGLISH.name]
    texts = printed(document)
    for (code, written), said in zip(blocks(document), texts):
        assert same(written, said), f"{code}\nprinted\n{said}\nand not\n{written}"
    assert same(refreshed(document, texts), document)  # what the script writes passes this test


@pytest.mark.parametrize("name", DOCUMENTS)
def test_nothing_that_looks_executed_is_not(name):
    document = DOCUMENTS[name]
    assert set(kinds(document)) == {"python", "text", "math"}
    assert kinds(document).count("text") == sum(bool(text) for _, text in blocks(document)) > 15
    assert len(BLOCK.findall(document)) * 2 == document.count("```")
    for code, _ in blocks(document):
        assert code.count("\n") <= 21, code
        assert max(map(len, code.splitlines())) <= 105


def test_both_languages_have_the_same_code_and_results():
    english, chinese = DOCUMENTS[ENGLISH.name], DOCUMENTS[CHINESE.name]
    assert kinds(english) == kinds(chinese)
    for (ours, written), (theirs, said) in zip(blocks(english), blocks(chinese), strict=True):
        assert ast.dump(ast.parse(ours)) == ast.dump(ast.parse(theirs))
        assert written == said
    formulas = [[block[2] for block in BLOCK.finditer(each) if block[1] == "math"] for each in (english, chinese)]
    assert formulas[0] == formulas[1]


def test_both_languages_have_the_same_sections_and_tables():
    english, chinese = (BLOCK.sub("", document) for document in DOCUMENTS.values())
    levels = [re.findall(r"^(#+ (?:\d+\.)?)", document, re.MULTILINE) for document in (english, chinese)]
    assert levels[0] == levels[1]
    assert len(levels[0]) == 9
    rows = [[row.count("|") for row in re.findall(r"^\|.*$", each, re.MULTILINE)] for each in (english, chinese)]
    assert rows[0] == rows[1]


def anchors(document):
    """What GitHub calls the headings of a document."""
    headings = re.findall(r"^#+ (.*)$", BLOCK.sub("", document), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_inside_the_documentation_lead_somewhere(name):
    links = re.findall(r"\]\((?!https:)([^)#]*)(?:#([^)]*))?\)", DOCUMENTS[name])
    assert len(links) > 10
    for file, anchor in links:
        target = (ENGLISH.parent / (file or name)).read_text(encoding="utf-8")
        assert not anchor or anchor in anchors(target), (file, anchor)


def changed_numbers(text):
    """The text with one number changed: a whole one by 1, one with decimals by 2 in its last digit."""
    for match in NUMBER.finditer(text):
        decimals = len(match[0].partition(".")[2])
        value = float(match[0]) + (2 * 10**-decimals if decimals else 1)
        yield f"{text[: match.start()]}{value:.{decimals}f}{text[match.end() :]}"


def lost_words(text):
    """The text without one of its words."""
    for match in re.finditer(r"[^\W\d]+", text):
        yield text[: match.start()] + text[match.end() :]


@pytest.mark.parametrize("written", WRITTEN, ids=lambda text: text.splitlines()[0][:30])
def test_a_changed_number_or_word_does_not_pass(written):
    assert same(written, written)
    changes = [*changed_numbers(written), *lost_words(written)]
    assert changes
    assert not any(same(each, written) or same(written, each) for each in changes)


def test_the_last_digit_may_differ_and_nothing_else():
    assert same("a 0.273 b -1.04", "a  0.274 b\n-1.05")
    assert not same("0.273", "0.275")
    assert not same("0.273", "0.27")
    assert not same("12", "13")
    assert not same("0.273 a", "0.273 b")
    assert not same("0.273", "0.273 0.1")


def test_a_block_that_fails_to_print_its_text_is_found():
    document = "```python\nprint(1.25, 'x')\n```\n\n```text\n1.25 x\n```\n"
    [(_, written)] = blocks(document)
    assert same(written, *printed(document))
    for false in (document.replace("\n1.25 x", "\n1.28 x"), document.replace("25 x\n", "25 y\n")):
        [(_, written)] = blocks(false)
        assert not same(written, *printed(false))
        assert refreshed(false, printed(false)) == document
