"""The tutorial is built from executed code: `python tests/tutorial.py` runs its blocks and writes what they print."""

import contextlib
import io
import re
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
ENGLISH, CHINESE = DOCS / "tutorial.md", DOCS / "tutorial.zh.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NUMBER = re.compile(r"(-?\d+(?:\.\d+)?)")


def blocks(document):
    """(python code, the text block right after it or None) in order."""
    found = list(BLOCK.finditer(document))
    pairs = []
    for block, after in zip(found, [*found[1:], None]):
        if block[1] == "python":
            answered = after and after[1] == "text" and not document[block.end() : after.start()].strip()
            pairs.append((block[2], after[2] if answered else None))
    return pairs


def printed(codes):
    """What each block prints, all of them in one namespace."""
    names = {"__name__": "tutorial"}
    texts = []
    for code in codes:
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(compile(code, f"tutorial: {code.splitlines()[0]}", "exec"), names)
        texts.append(out.getvalue())
    return texts


def same(written, said):
    """Whether words and whole numbers are equal, and numbers with decimals up to one in the last digit."""
    ours, theirs = (NUMBER.split(" ".join(text.split())) for text in (written, said))
    return len(ours) == len(theirs) and all(map(_near, ours, theirs))


def _near(ours, theirs):
    whole, point, decimals = ours.partition(".")
    if not (NUMBER.fullmatch(ours) and NUMBER.fullmatch(theirs) and point and "." in theirs):
        return ours == theirs
    unit = 10.0 ** -len(decimals)
    return len(theirs.partition(".")[2]) == len(decimals) and abs(float(ours) - float(theirs)) < 1.5 * unit


def refreshed(document, texts):
    """The document with each text block holding what the python block before it printed."""
    left, said = iter(texts), None
    pieces, end = [], 0
    for block in BLOCK.finditer(document):
        if block[1] == "python":
            said = next(left)
        elif block[1] == "text" and said is not None:
            pieces += [document[end : block.start(2)], "".join(f"{line.rstrip()}\n" for line in said.splitlines())]
            end, said = block.end(2), None
    return "".join([*pieces, document[end:]])


if __name__ == "__main__":
    for path in (ENGLISH, CHINESE):
        document = path.read_text(encoding="utf-8")
        path.write_text(refreshed(document, printed([code for code, _ in blocks(document)])), encoding="utf-8")
