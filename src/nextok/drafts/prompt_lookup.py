"""Prompt lookup: guesses what followed the same tokens earlier in the text."""

from dataclasses import dataclass

from nextok.checks import check_whole
from nextok.core.query import Decoding
from nextok.core.request import Request
from nextok.drafts.base import Draft, Propose, check_max_draft
from nextok.drafts.guesses import Guesses
from nextok.drafts.suffix import BREAK, Cursor, SuffixAutomaton, copy_from
from nextok.sampling.sampler import Sampler

RATES = (0.0, 0.13, 0.35, 0.5, 0.65, 0.7, 0.7, 0.75, 0.8, 0.8, 0.85, 0.9, 0.92, 0.92, 0.93, 0.94, 0.95)
"""How often a token is expected to come again after a match of 0, 1, 2, ... tokens; see docs/log.md."""


class History:
    """Texts of earlier requests, to look into as well: of one session, one user or one subject.

    Holds about `most` tokens, the newest texts. A request is added, prompt and all, when it is finished and the
    next one begins.
    """

    def __init__(self, most: int = 50_000) -> None:
        check_whole("most", most, 1)
        self.most = most
        self.automaton = SuffixAutomaton()
        self._running: list[Request] = []

    def begin(self, request: Request) -> Cursor:
        """Take in what is finished, and look along as `request` grows."""
        finished = [each for each in self._running if each.finish_reason]
        self._running = [each for each in self._running if not each.finish_reason] + [request]
        for each in finished:
            if len(self.automaton.tokens) > self.most:
                self.automaton = SuffixAutomaton()
            for token in (*each.tree.path(each.tip), BREAK):
                self.automaton.add(token)
        return Cursor(self.automaton)


@dataclass(frozen=True)
class PromptLookup(Draft):
    """Copies what followed the latest earlier occurrence of the longest possible end of the text.

    It asks no model, and guesses as many tokens, at most `max_draft`, as experience with this request and the cost
    of a pass on this machine make worthwhile. It shines where the output repeats the input, or a `history` that
    several requests share.
    """

    max_draft: int = 10
    shortest: int = 1  # tokens that must be the same
    history: History | None = None

    def __post_init__(self) -> None:
        check_max_draft(self.max_draft)
        check_whole("shortest", self.shortest, 1)
        if self.history is not None and not isinstance(self.history, History):
            raise ValueError(f"history must be a History(...), got {self.history!r}")

    def begin(self, request: Request, sampler: Sampler) -> Propose:
        """Know all runs of the text so far, so that a guess costs the same at any length."""
        start = request.tree.depth[request.prompt] + 1
        text = SuffixAutomaton(request.tree.path(request.tip))
        cursor = Cursor(SuffixAutomaton()) if self.history is None else self.history.begin(request)
        for token in text.tokens:
            cursor.step(token)
        guesses = Guesses(request, RATES)

        def propose() -> Decoding[list[int]]:
            for token in request.tokens[len(text.tokens) - start :]:
                text.add(token)
                cursor.step(token)
            match, tokens = self._find(text, cursor)
            return (yield from guesses.lay_out(tokens, match))

        return propose

    def _find(self, text: SuffixAutomaton, cursor: Cursor) -> tuple[int, list[int]]:
        """The length of the longest match, here rather than in the history, and what followed it."""
        if max(text.match, cursor.match) < self.shortest:
            return 0, []
        if text.match >= cursor.match:
            return text.match, copy_from(text.tokens, text.place, self.max_draft)
        return cursor.match, copy_from(cursor.automaton.tokens, cursor.place, self.max_draft)
