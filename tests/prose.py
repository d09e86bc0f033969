"""Markdown as the tests read it: prose is written with one sentence a line.

A sentence ends at . ! ? or 。！？ before a space or, in Chinese, before any character. None of these ends one: a dot
inside `code`, a formula or a number, an abbreviation, three dots before a small letter, a mark before a closing
Chinese quotation mark, the number of a list item, and the mark of a bold title at the beginning ("**Why.** Because").
"""

import re

FENCE = re.compile(r"\s*```")
NO_PROSE = re.compile(r"#|\s*\||\s*$")
MARKER = re.compile(r"\s*(?:[-*] |\d+\. |> )*")
LITERAL = re.compile(r"(`+)[^`].*?\1|\$[^$]+\$|\]\([^)]*\)")
TITLE = re.compile(r"\*\*[^*]+\*\*")
ABBREVIATION = re.compile(r"\b(?:e\.g|i\.e|et al|vs|cf|etc)\.$")
END = re.compile(r"(?:(?<!\.)[.!?]|\.\.\.(?= [A-Z]))[)\"'\]*]*(?= )|[。！？](?![”’）])\**(?=.)|[。！？]）(?=.)")
COMPLETE = re.compile(r"[.!?:;…。！？：；][)\"'\]*`”）]*$")


def paragraphs(document):
    """Each paragraph or list item as its lines of prose, without code blocks, tables and headings."""
    lines, fenced = [], False
    for line in document.splitlines():
        fence = bool(FENCE.match(line))
        begins = MARKER.match(line).group().strip() not in ("", ">")
        if lines and (fenced or fence or begins or NO_PROSE.match(line)):
            yield lines
            lines = []
        if not (fenced or fence or NO_PROSE.match(line)):
            lines.append(line[MARKER.match(line).end() :])
        fenced ^= fence
    if lines:
        yield lines


def sentences(line):
    """The sentences of one line of prose."""
    masked = LITERAL.sub(lambda literal: "_" * len(literal[0]), line)
    title = TITLE.match(masked)
    found, start = [], 0
    for end in END.finditer(masked, title.end() if title else 0):
        if not ABBREVIATION.search(masked[: end.end()]):
            found.append(line[start : end.end()].strip())
            start = end.end()
    return [each for each in (*found, line[start:].strip()) if each]


def misplaced(document):
    """The lines that hold two sentences, and those whose sentence goes on in the next line."""
    for lines in paragraphs(document):
        for number, line in enumerate(lines, 1):
            if len(sentences(line)) > 1 or (number < len(lines) and not COMPLETE.search(line)):
                yield line
