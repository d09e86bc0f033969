"""The tutorial is built from executed code: `python tests/tutorial.py` runs its blocks and writes what they print."""

import contextlib
import io
import re
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
ENGLISH, CHINESE = DOCS / "tutorial.md", DOCS / "tutorial.zh.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NUMBER = re.compile(r"(-?\d+(?:\.\d+)?)")


def kinds(document):
    """What each fenced block is: python, text, math."""
    return [block[1] for block in BLOCK.finditer(document)]


def blocks(document):
    """(python code, the text block right after it or "") in order."""
    found = list(BLOCK.finditer(document))
    pairs = []
    for block, after in zip(found, [*found[1:], None]):
        if block[1] == "python":
            answered = after and after[1] == "text" and not document[block.end() : after.start()].strip()
            pairs.append((block[2], after[2] if answered else ""))
    return pairs


def printed(document):
    """What each python block prints, all run in one namespace."""
    names = {"__name__": "tutorial"}
    texts = []
    for code, _ in blocks(document):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(compile(code, f"<tutorial: {code.splitlines()[0]}>", "exec"), names)
        texts.append(out.getvalue())
    return texts


def same(written, said):
    """Whether words and whole numbers are equal, and numbers with decimals up to one in the last digit."""
    ours, theirs = (NUMBER.split(" ".join(text.split())) for text in (written, said))
    return len(ours) == len(theirs) and all(map(_near, ours, theirs))


def _near(ours, theirs):
    decimals = len(ours.partition(".")[2])
    if not (decimals and decimals == len(theirs.partition(".")[2])):
        return ours == theirs
    if not (NUMBER.fullmatch(ours) and NUMBER.fullmatch(theirs)):
        return ours == theirs
    return abs(float(ours) - float(theirs)) < 1.5 * 10**-decimals


def refreshed(document, texts):
    """The document with each text block holding what the python block before it printed."""
    left, said = iter(texts), ""
    pieces, end = [], 0
    for block in BLOCK.finditer(document):
        if block[1] == "python":
            said = next(left)
        elif block[1] == "text":
            pieces += [document[end : block.start(2)], "".join(f"{line.rstrip()}\n" for line in said.splitlines())]
            end = block.end(2)
    return "".join([*pieces, document[end:]])


if __name__ == "__main__":
    for path in (ENGLISH, CHINESE):
        document = path.read_text(encoding="utf-8")
        path.write_text(refreshed(document, printed(document)), encoding="utf-8")
