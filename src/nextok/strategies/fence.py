"""What a draft does wrong costs speed, never the text: it is told once, and the text goes on without the draft."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from nextok.core.events import DraftFailed
from nextok.core.query import TARGET, Decoding, Query, Speed
from nextok.core.request import Request
from nextok.drafts.base import Draft, Propose, check_steps
from nextok.errors import NextokError
from nextok.sampling.sampler import Sampler

MOST_QUESTIONS = 256
"""Largest number of questions that a draft may ask for one proposal."""
MOST_GUESSES = 255
"""Largest number of nodes that a draft may propose at once."""


class FencedDraft:
    """A draft at work for one request, with the same `propose` as its own, but one that never raises.

    After its first mistake it guesses nothing more; a DraftFailed event holds the error.
    """

    def __init__(self, draft: Draft, request: Request, sampler: Sampler) -> None:
        self._draft = draft
        self._request = request
        self._sampler = sampler
        self._propose: Propose | None = None
        self._failed = False

    def propose(self) -> Decoding[list[int]]:
        """Guesses of the draft that can be checked: nodes below the request's tip, parents first, maybe none."""
        if self._failed:
            return []
        try:
            with _guessing(self._request):
                if self._propose is None:
                    self._propose = self._draft.begin(self._request, self._sampler)
                steps = self._propose()
            return check_guesses(self._request, (yield from _run(steps, self._request)))
        except Exception as error:
            drop_frames(error)
            failure = error
        self._failed, self._propose = True, None
        yield DraftFailed(failure)
        return []


def _run(steps: Any, request: Request) -> Decoding[Any]:
    """Pass on the questions of a draft and return its answer; NextokError for anything that is no question."""
    check_steps(steps)
    reply: Any = None
    failure: Exception | None = None
    try:
        for _ in range(MOST_QUESTIONS + 1):
            try:
                with _guessing(request):
                    item = steps.throw(failure) if failure else steps.send(reply)
            except StopIteration as end:
                return end.value
            if not isinstance(item, Query | Speed) or (isinstance(item, Query) and item.model is TARGET):
                raise NextokError(f"a draft may yield only Speed and queries to draft models, got {item!r:.80}")
            reply = failure = None
            try:
                reply = yield item
            except Exception as error:  # of the draft model, or of the question
                failure = error
    finally:
        with suppress(Exception), _guessing(request):  # closing ends the draft, whatever it says to that
            steps.close()
    raise NextokError(f"the draft asked more than {MOST_QUESTIONS} questions for one proposal; ask fewer")


def check_guesses(request: Request, guesses: Any) -> list[int]:
    """The guesses that the text has room for; NextokError unless they are nodes below its tip, parents first."""
    if not isinstance(guesses, list | tuple):
        raise NextokError(f"propose must return a list of nodes, got {guesses!r:.80}")
    if len(guesses) > MOST_GUESSES:
        raise NextokError(f"propose must return at most {MOST_GUESSES} nodes, got {len(guesses)}")
    tree, known = request.tree, {request.tip}
    for node in guesses:
        if type(node) is not int or not 0 <= node < len(tree.token) or tree.parent[node] not in known:
            raise NextokError(
                f"propose must return nodes below request.tip, each after its parent, got {node!r:.80}; "
                "add_chain(request, tokens) turns token ids into nodes"
            )
        if node in known:
            raise NextokError(f"propose must return each node once, got {node} again")
        known.add(node)
        _check_token(request, tree.token[node])
    deepest = tree.depth[request.tip] + request.room - 1
    return [node for node in guesses if tree.depth[node] <= deepest]


def _check_token(request: Request, token: Any) -> None:
    size = request.limits.vocab_size
    if type(token) is not int or token < 0 or (size is not None and token >= size):
        limit = "" if size is None else f" to {size - 1}"
        raise NextokError(f"a draft must guess token ids, whole numbers from 0{limit}, got {token!r:.80}")


def drop_frames(error: BaseException) -> None:
    """Forget the frames of an error and of those that it came from: they would keep caches in memory."""
    seen, waiting = set[int](), [error]
    while waiting:
        each = waiting.pop()
        if id(each) not in seen:
            seen.add(id(each))
            each.__traceback__ = None
            inner = each.exceptions if isinstance(each, BaseExceptionGroup) else ()
            waiting.extend(cause for cause in (each.__cause__, each.__context__, *inner) if cause)


@contextmanager
def _guessing(request: Request) -> Iterator[None]:
    """While code of a draft runs: it cannot commit, and what it raises becomes an error, such as a GeneratorExit.

    Ctrl-C and the end of the process pass.
    """
    request.guessing = True
    try:
        yield
    except (Exception, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as trouble:
        raise NextokError(f"the draft raised {trouble!r:.80}") from trouble
    finally:
        request.guessing = False
