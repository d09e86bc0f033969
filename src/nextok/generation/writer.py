"""What the events of one request say: its text, its figures and its log-probabilities."""

import time
from collections import Counter, deque
from collections.abc import Iterable

from nextok.core.events import Beams, Chosen, DraftFailed, Event, Finished, Hypothesis, Token, Verified
from nextok.core.request import Request
from nextok.core.tree import ROOT
from nextok.generation.output import Completion, Scores, TokenLogprob
from nextok.generation.pieces import Cutter, Part
from nextok.text.held import HeldText


class Writer:
    """Receives the events of one request.

    `pieces` holds what can be shown and has not been taken yet: text, the tokens that end in it, and their
    log-probabilities, if the request asked for any. Of a beam search it is text alone: its tokens may still change.
    """

    def __init__(self, request: Request, hypotheses: int = 0) -> None:
        self.request = request
        self.pieces: deque[tuple[str, tuple[int, ...], tuple[TokenLogprob, ...] | None]] = deque()
        self.drafted = 0
        self.draft_error: Exception | None = None
        self.accepted_lengths: Counter[int] = Counter()  # tokens accepted at once -> how often
        self.first_token_at: float | None = None
        self.finished_at: float | None = None
        self._hypotheses = hypotheses  # texts of a beam search to return; 0: the request's own text
        self._beams = Beams((), ())
        self._chosen: dict[tuple[int, int], TokenLogprob] = {}
        self._text: list[str] = []
        self._cutter = Cutter(request.limits.stop)

    def __call__(self, event: Event) -> None:
        """Take note of one event."""
        match event:
            case Token(_, node):
                self._mark_first_token()
                self._write(self._feed(node))
            case Chosen(node, token, float(logprob), top, float(processed), processed_top):
                self._chosen[node, token] = TokenLogprob(token, logprob, top, processed, processed_top)
            case Verified(drafted, accepted):
                self.drafted += drafted
                self.accepted_lengths[accepted] += 1
            case DraftFailed(error):
                self.draft_error = error
            case Beams():
                self._mark_first_token()
                self._beams = event
            case Finished(reason):
                if not self._best or reason not in ("cancelled", "error"):  # else the best beam's text goes on
                    self._write(self._cutter.flush())
                self.finished_at = time.perf_counter()

    def completions(self) -> list[Completion]:
        """The text; of a beam search the best ones, even if it was cut short."""
        if self._best:
            return [self._hypothesis(beam) for beam in self._best]
        return [self._completion("".join(self._text), self.request.tip, self.request.finish_reason)]

    @property
    def _best(self) -> tuple[Hypothesis, ...]:
        """Of a beam search, what is returned as it stands."""
        return (self._beams.finished or self._beams.live)[: self._hypotheses]

    def prompt_logprobs(self) -> Scores | None:
        """What was told of the prompt's tokens; None if the request ended before that."""
        tokens = self.request.tree.path(self.request.prompt)
        told = self._logprobs(self.request.prompt, ROOT)
        if len(told) < len(tokens) - 1:
            return None
        return Scores(tokens, [None, *(each.logprob for each in told)], [(), *(each.top for each in told)])

    def _logprobs(self, node: int, above: int) -> list[TokenLogprob]:
        """What was told of the tokens below `above`, down to `node`."""
        tree = self.request.tree
        keys = [(tree.parent[node], tree.token[node]) for node in tree.nodes(node, above)]
        return [self._chosen[key] for key in keys if key in self._chosen]

    def _hypothesis(self, beam: Hypothesis) -> Completion:
        held = HeldText(self.request.limits.stop)
        text = _feed(self.request, held, self.request.tree.nodes(beam.node, self.request.prompt)) + held.flush()
        reason = self.request.ending(beam.node) or self.request.finish_reason
        return self._completion(text, beam.node, reason, beam.score)

    def _completion(self, text: str, node: int, reason: str | None, score: float | None = None) -> Completion:
        tokens = self.request.tree.path(node, above=self.request.prompt)
        logprobs = self._logprobs(node, self.request.prompt)
        known = self.request.logprobs is not None and len(logprobs) == len(tokens)  # not of a beam cut short
        return Completion(
            text=text,
            tokens=tokens,
            finish_reason=reason or "cancelled",
            seed=self.request.seed,
            logprobs=logprobs if known else None,
            score=score,
            error=self.request.error,
        )

    def _mark_first_token(self) -> None:
        if self.first_token_at is None:
            self.first_token_at = time.perf_counter()

    def _feed(self, node: int) -> list[Part]:
        """The parts that this token makes showable; a stop token adds no text."""
        tree, limits = self.request.tree, self.request.limits
        token = tree.token[node]
        if token in limits.stop_ids:
            return self._cutter.feed(node, b"")
        early = tree.depth[node] - tree.depth[self.request.prompt] < limits.min_tokens
        return self._cutter.feed(node, limits.token_bytes[token], may_stop=not early)

    def _write(self, parts: list[Part]) -> None:
        tree = self.request.tree
        for text, nodes in parts:
            if text:
                self._text.append(text)
            if self._hypotheses:
                if text:
                    self.pieces.append((text, (), None))
                continue
            logprobs = None if self.request.logprobs is None else self._find_logprobs(nodes)
            self.pieces.append((text, tuple([tree.token[node] for node in nodes]), logprobs))

    def _find_logprobs(self, nodes: tuple[int, ...]) -> tuple[TokenLogprob, ...] | None:
        """Those of the tokens of these nodes, which were told before; None if the strategy told none."""
        tree = self.request.tree
        told = [self._chosen.get((tree.parent[node], tree.token[node])) for node in nodes]
        known = tuple(each for each in told if each)
        return known if len(known) == len(told) else None


def _feed(request: Request, held: HeldText, nodes: Iterable[int]) -> str:
    """The text that these tokens make showable; a stop token adds none."""
    tree, limits, shown = request.tree, request.limits, []
    for node in nodes:
        if tree.token[node] not in limits.stop_ids:
            early = tree.depth[node] - tree.depth[request.prompt] < limits.min_tokens
            shown.append(held.feed(limits.token_bytes[tree.token[node]], may_stop=not early))
    return "".join(shown)
