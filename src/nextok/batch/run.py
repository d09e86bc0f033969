"""Lines of requests to lines of answers, with one model in this process."""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

from nextok.api.served import Served
from nextok.batch.answers import Answer
from nextok.batch.entries import Entry, read_entries
from nextok.batch.window import answer_entries


@dataclass(slots=True)
class Tally:
    """What was done: lines answered in this run, those that are errors, tokens, and lines answered before."""

    lines: int = 0
    errors: int = 0
    tokens: int = 0
    skipped: int = 0

    def count(self, answer: Answer) -> None:
        """Take in a line that was written."""
        self.lines += 1
        self.errors += answer.is_error
        self.tokens += answer.tokens


Report = Callable[[Tally], object]
"""A function that is called after each line that was written, and at the end."""


def run_batch(
    served: Served,
    lines: Iterable[bytes],
    write: Callable[[bytes], object],
    *,
    seed: int = 0,
    ordered: bool = True,
    done: Collection[str] = (),
    report: Report = lambda tally: None,
) -> Tally:
    """Answer the requests of `lines` and give each answer to `write`, a line with its newline.

    `lines` are read as they are needed, from a thread of their own. `ordered`: the answers come in the order of the
    requests, else as they are done. `done`: keys of lines that were answered before. What `lines` and `write`
    raise is raised; a request that is wrong raises nothing, and its answer says why.
    """
    tally = Tally()

    def list_left() -> Iterator[Entry]:
        for entry in read_entries(lines):
            if entry.key in done:
                tally.skipped += 1
            else:
                yield entry

    def tell(answer: Answer) -> None:
        write(answer.line)
        tally.count(answer)
        report(tally)

    answer_entries(served, list_left(), tell, seed, ordered)
    report(tally)
    return tally
