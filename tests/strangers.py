"""What strangers may write: strategies, models, transforms, receivers and drafts that are wrong in every way."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from nextok.core.events import Beams, Chosen, Finished, Hypothesis, Token, Verified
from nextok.core.query import TARGET, Draws, Pick, Query, Score, Speed, Top, pick
from nextok.core.tree import ROOT
from nextok.models.toy import ToyModel
from nextok.sampling.penalties import Mirostat, RepetitionPenalty
from nextok.sampling.sampler import Sampler
from nextok.sampling.transforms import Custom, TopK
from nextok.strategies.sample import Greedy
from nextok.strategies.speculate import Speculate
from toys import TARGET as MODEL
from toys import VOCAB

GREEDY = Sampler(noise=False)
MIROSTAT = Sampler((Mirostat(2, tau=1.2, eta=0.6),))
ONLY = (Pick(GREEDY),)
FAR = 10**9


@dataclass(frozen=True)
class Own:
    """A strategy whose `decode` is this function, or no function at all."""

    decode: Any


class Outside(BaseException):
    """An error that is no Exception."""


class Obstinate(ValueError):
    """An error that refuses everything."""

    def __setattr__(self, name, value):
        raise TypeError("no")

    def __repr__(self):
        raise TypeError("no")

    def with_traceback(self, traceback):
        """No."""
        raise TypeError("no")

    def add_note(self, note):
        """No."""
        raise TypeError("no")


@dataclass(frozen=True)
class Case:
    """One mistake. `says`: what the error tells; None: the request ends well, with the text of greedy decoding."""

    strategy: Any
    says: str | None
    masks: tuple[Any, ...] = ()
    receiver: Callable[[Any, Any], None] | None = None  # called with each event, and with what cancels the request
    is_cancelled: bool = False  # by the host, between two passes


def _raising(error):
    def decode(request):
        raise error

    return decode


def _after(steps, then):
    """Greedy decoding for some steps, and then what `then(request)` yields."""

    def decode(request):
        for _ in range(steps):
            if not request.finish_reason:
                yield from request.commit((yield from pick([request.tip], GREEDY)).values())
        yield from then(request)

    return Own(decode)


def _yielding(*items):
    return _after(1, lambda request: iter(items))


def _asking(query):
    """A question that `query(request)` makes, and then greedy decoding to the end."""

    def decode(request):
        yield query(request)
        while not request.finish_reason:
            yield from request.commit((yield from pick([request.tip], GREEDY)).values())

    return Own(decode)


def _asking_with(**changes):
    return _asking(lambda request: Query(**{"nodes": (request.tip,), "reads": ONLY} | changes))


def _cancelled(how):
    """Asks without end; the host cancels it."""

    def decode(request):
        with suppress(GeneratorExit):
            while True:
                yield Query((request.tip,), ONLY)
        yield from how()

    return Case(Own(decode), "", is_cancelled=True)


def _closing(how):
    """Greedy decoding; then a question although the text has ended, so that the strategy is closed there."""

    def then(request):
        with suppress(GeneratorExit):
            yield Query((request.tip,), ONLY)
        yield from how()

    return _after(50, then)


def _go_on():
    yield None


def _raise_in_closing(error):
    def how():
        yield from ()
        raise error

    return how


def _raise_after(steps, error):
    def then(request):
        yield from ()
        raise error

    return _after(steps, then)


def _events_without_end(request):
    while True:
        yield Verified(0, 0)


def _drafts_without_end(request):
    while True:
        yield from pick([request.tip], GREEDY, COPY)


def _commit(*tokens):
    return _after(1, lambda request: iter(request.commit(tokens)))


def _persist(request):
    """The same mistake again and again."""
    while True:
        with suppress(ValueError):
            yield None


def _finish(*how):
    def then(request):
        yield request.finish(*how)

    return _after(1, then)


def _stray(read):
    """A question about a node that hangs from no prompt."""

    def decode(request):
        stray = request.tree.add(ROOT, 3)
        stray = request.tree.extend(stray, [4] * 8)
        yield Query((stray,), (read,))

    return Own(decode)


async def _coroutine(request):
    return None


async def _async_generator(request):
    yield None


COPY = ToyModel(VOCAB, MODEL._scores)
STRATEGIES = {
    "decode returns int": Case(Own(lambda request: 5), "decode must be a generator"),
    "decode returns a list": Case(Own(lambda request: [Query((0,), ONLY)]), "decode must be a generator"),
    "decode returns None": Case(Own(lambda request: None), "decode must be a generator"),
    "decode returns an iterator": Case(Own(lambda request: iter([Query((0,), ONLY)])), "must be a generator"),
    "decode is a coroutine": Case(Own(_coroutine), "decode must be a generator"),
    "decode is an async generator": Case(Own(_async_generator), "decode must be a generator"),
    "decode is no function": Case(Own(5), "not callable"),
    "decode takes nothing": Case(Own(lambda: None), "argument"),
    "decode raises": Case(Own(_raising(ValueError("at once"))), "at once"),
    "decode raises StopIteration": Case(Own(_raising(StopIteration(5))), "stopped before its text"),
    "raises at the first step": Case(_raise_after(0, KeyError("first")), "first"),
    "raises later": Case(_raise_after(3, ZeroDivisionError("later")), "later"),
    "raises what refuses": Case(_raise_after(2, Obstinate("no repr")), "no repr"),
    "raises StopIteration": Case(_raise_after(2, StopIteration()), "StopIteration"),
    "raises SystemExit": Case(_raise_after(2, SystemExit(3)), "raised SystemExit"),
    "raises CancelledError": Case(_raise_after(1, asyncio.CancelledError()), "raised CancelledError"),
    "raises GeneratorExit": Case(_raise_after(1, GeneratorExit()), "raised GeneratorExit"),
    "raises what is no Exception": Case(_raise_after(0, Outside("far")), "raised Outside"),
    "ends too soon": Case(_yielding(), "stopped before its text"),
    "yields None": Case(_yielding(None), "yields questions and events"),
    "yields a number": Case(_yielding(5), "yields questions and events"),
    "yields a text": Case(_yielding("text"), "yields questions and events"),
    "yields a class": Case(_yielding(Token), "yields questions and events"),
    "yields a list of events": Case(_yielding([Token(1, 1)]), "yields questions and events"),
    "yields an error": Case(_yielding(ValueError("x")), "yields questions and events"),
    "yields what was never committed": Case(_yielding(Token(3, 0), Token("x", FAR)), "stopped before its text"),
    "yields an end that is none": Case(_yielding(Finished("stop"), Finished(7)), "stopped before its text"),
    "accepts more than it drafted": Case(_yielding(Verified(1, 2)), "0 <= accepted <= drafted"),
    "drafts words": Case(_yielding(Verified("a", "b")), "0 <= accepted <= drafted"),
    "accepts without end": Case(_yielding(Verified(10**12, 10**12)), "0 <= accepted <= drafted"),
    "chooses nowhere": Case(_yielding(Chosen(FAR, 1, -1.0, ())), "node of its request's tree"),
    "beams of nothing": Case(_yielding(Beams((5,), ())), "Beams hold Hypotheses"),
    "beams that lie nowhere": Case(_yielding(Beams((), (Hypothesis(-1, 0.0, 0.0),))), "Beams hold Hypotheses"),
    "events without end": Case(Own(_events_without_end), "events without a question"),
    "a mistake without end": Case(Own(_persist), "events without a question"),
    "drafts without end": Case(Own(_drafts_without_end), "and the target none"),
    "raises while closing": Case(_closing(_raise_in_closing(ValueError("closing"))), None),
    "exits while closing": Case(_closing(_raise_in_closing(SystemExit(1))), None),
    "goes on while closing": Case(_closing(_go_on), None),
    "asks after the end": Case(_after(50, lambda request: iter([Query((request.tip,), ONLY)])), None),
    "asks for nothing": Case(_asking_with(nodes=()), "at least one node"),
    "asks above the root": Case(_asking_with(nodes=(-1,)), "nodes of its request's tree"),
    "asks about another tree": Case(_asking_with(nodes=(FAR,)), "nodes of its request's tree"),
    "asks about True": Case(_asking_with(nodes=(True,)), "nodes of its request's tree"),
    "asks about a text": Case(_asking_with(nodes="0"), "nodes of its request's tree"),
    "asks about half a node": Case(_asking_with(nodes=(0.5,)), "nodes of its request's tree"),
    "asks about a list": Case(_asking_with(nodes=([],)), "nodes of its request's tree"),
    "asks twice": Case(_asking(lambda request: Query((request.tip, request.tip), ONLY)), "each node once"),
    "no reads": Case(_asking_with(reads=()), "as many reads or one"),
    "too many reads": Case(_asking_with(reads=ONLY * 3), "as many reads or one"),
    "a read that is none": Case(_asking_with(reads=(5,)), "read by a Pick, Top"),
    "a read that is a class": Case(_asking_with(reads=(Pick,)), "read by a Pick, Top"),
    "no sampler": Case(_asking_with(reads=(Pick(None),)), "a Pick needs a Sampler"),
    "the best of no number": Case(_asking_with(reads=(Top("x"),)), "the count of a Top"),
    "the best of none": Case(_asking_with(reads=(Draws(-1),)), "the count of a Draws"),
    "the score of no token": Case(_asking_with(reads=(Score(-1),)), "outside the vocabulary"),
    "the score of a far token": Case(_asking_with(reads=(Score(FAR),)), "outside the vocabulary"),
    "the score of a text": Case(_asking_with(reads=(Score("a"),)), "outside the vocabulary"),
    "a stray node with a penalty": Case(_stray(Pick(Sampler((RepetitionPenalty(2.0),)))), "below the end of the"),
    "a stray node with draws": Case(_stray(Draws(2)), "does not lie below"),
    "a model by name": Case(_asking_with(model="gpt"), "must be TARGET or a loaded model"),
    "no model": Case(_asking_with(model=None), "must be TARGET or a loaded model"),
    "a model's class": Case(_asking_with(model=ToyModel), "must be TARGET or a loaded model"),
    "the speed of no model": Case(_yielding(Speed("gpt")), "must be TARGET or a loaded model"),
    "a list of models": Case(_asking_with(model=[]), "must be TARGET or a loaded model"),
    "commits a text": Case(_commit("a"), "must be ids"),
    "commits None": Case(_commit(None), "must be ids"),
    "commits below zero": Case(_commit(1, -1), "must be ids"),
    "commits beyond the vocabulary": Case(
        _after(1, lambda request: [*request.commit([FAR]), Query((request.tip,), ONLY)]), "outside the vocabulary"
    ),
    "lays out a text": Case(
        _asking(lambda request: Query((request.tree.add(request.tip, "a"),), ONLY)), "outside the vocabulary"
    ),
    "ends with an error of its own": Case(_finish("error", ValueError("my own")), "my own"),
}


class Answering(ToyModel):
    """A draft model whose answers are what a function makes of the right ones."""

    def __init__(self, change: Callable[[list[Any]], Any]) -> None:
        super().__init__(VOCAB, MODEL._scores)
        self.change = change

    def answer(self, feeds, rows):
        return self.change(super().answer(feeds, rows))


def _fail(answers):
    raise RuntimeError("no weights")


def _exit(answers):
    raise SystemExit(4)


MODELS = {
    "a model that fails": Case(_asking_with(model=Answering(_fail)), "no weights"),
    "a model that exits": Case(_asking_with(model=Answering(_exit)), "a pass raised SystemExit"),
    "a model without answers": Case(_asking_with(model=Answering(lambda answers: None)), "answer each of 1 rows"),
    "a model with too few": Case(_asking_with(model=Answering(lambda answers: answers[1:])), "each of 1 rows"),
    "a model with too many": Case(_asking_with(model=Answering(lambda answers: answers * 2)), "each of 1 rows"),
    "a model with another kind": Case(
        _after(0, lambda request: pick([request.tip], GREEDY, Answering(lambda answers: [5]))), "no attribute"
    ),
    "a model with another kind for mirostat": Case(
        _after(0, lambda request: pick([request.tip], MIROSTAT, Answering(lambda answers: [[5]]))), "no attribute"
    ),
}


@dataclass(frozen=True)
class At:
    """A transform that becomes what this function says."""

    function: Callable[[Any], Any]

    def at(self, past):
        return self.function(past)


@dataclass(frozen=True)
class Fixed(Greedy):
    """Greedy decoding after any transforms."""

    own: tuple[Any, ...] = ()

    @property
    def sampler(self):
        return Sampler(self.own, noise=False)


def _custom_raises(row):
    raise ValueError("my rule")


def _custom_exits(row):
    raise SystemExit(5)


def _write(row):
    row[:] = -row
    return row


def _write_tokens(row, tokens):
    tokens.clear()
    return row


def _transformed(*own, says):
    return Case(Fixed(own=own), says)


TRANSFORMS = {
    "no transform": _transformed(object(), says="is not a transform"),
    "a number": _transformed(5, says="is not a transform"),
    "a name": _transformed("top_k", says="is not a transform"),
    "a class": _transformed(TopK, says="is not a transform"),
    "at raises": _transformed(At(_custom_raises), says="my rule"),
    "at exits": _transformed(At(_custom_exits), says="SystemExit"),
    "at returns rubbish": _transformed(At(lambda past: 5), says="is not a transform"),
    "at returns what looks back": _transformed(
        At(lambda past: RepetitionPenalty(2)), says="has no function in numpy"
    ),
    "custom raises": _transformed(Custom(_custom_raises), says="my rule"),
    "custom exits": _transformed(Custom(_custom_exits), says="a pass raised SystemExit"),
    "custom returns None": _transformed(Custom(lambda row: None), says="must return"),
    "custom returns one number": _transformed(Custom(lambda row: 1.0), says="must return"),
    "custom returns too few": _transformed(Custom(lambda row: row[1:]), says="must return"),
    "custom returns texts": _transformed(Custom(lambda row: ["a"] * len(row)), says="must return"),
    "custom returns NaN": _transformed(Custom(lambda row: row * float("nan")), says="NaN"),
    "custom returns infinity": _transformed(Custom(lambda row: row - row.min() + float("inf")), says="inf"),
    "custom leaves nothing": _transformed(Custom(lambda row: row - float("inf")), says="no token is allowed"),
    "custom writes into the row": _transformed(Custom(_write), says=""),
    "custom writes into the tokens": _transformed(Custom(_write_tokens), says=None),
    "a mask that is none": Case(Greedy(), "is not a transform", masks=(5,)),
    "a mask that raises": Case(Greedy(), "my rule", masks=(At(_custom_raises),)),
}


def _receive_and_raise(error):
    def receive(event, cancel):
        raise error

    return receive


def _raise_on(kind):
    def receive(event, cancel):
        if isinstance(event, kind):
            raise BrokenPipeError("gone")

    return receive


RECEIVERS = {
    "a receiver that raises": Case(Greedy(), "gone", receiver=_raise_on(Token)),
    "a receiver that always raises": Case(Greedy(), "all", receiver=_receive_and_raise(ValueError("all"))),
    "a receiver that ends an iteration": Case(Greedy(), "stopped", receiver=_receive_and_raise(StopIteration())),
    "a receiver that exits": Case(Greedy(), "SystemExit", receiver=_receive_and_raise(SystemExit(6))),
    "a receiver that raises at the end": Case(Greedy(), None, receiver=_raise_on(Finished)),
    "a receiver that cancels": Case(Greedy(), "", receiver=lambda event, cancel: cancel()),
}
CANCELLED = {
    "raises when it is cancelled": _cancelled(_raise_in_closing(ValueError("closing"))),
    "exits when it is cancelled": _cancelled(_raise_in_closing(SystemExit(1))),
    "goes on when it is cancelled": _cancelled(_go_on),
    "cancelled beside a receiver that raises": Case(
        _cancelled(_go_on).strategy, "", receiver=_receive_and_raise(ValueError("all")), is_cancelled=True
    ),
}
CASES = CANCELLED | STRATEGIES | MODELS | TRANSFORMS | RECEIVERS


@dataclass(frozen=True)
class Guess:
    """A draft whose `begin` is this function."""

    begin: Any


def _proposing(propose):
    return Guess(lambda request, sampler: lambda: propose(request))


def _returning(nodes):
    def propose(request):
        yield from ()
        return nodes(request) if callable(nodes) else nodes

    return _proposing(propose)


def _propose_raises(request):
    yield from ()
    raise ValueError("no guess")


def _propose_yields(*items):
    def propose(request):
        yield from items
        return []

    return _proposing(propose)


DRAFTS = {
    "begin raises": Guess(lambda request, sampler: 1 // 0),
    "begin returns None": Guess(lambda request, sampler: None),
    "begin takes nothing": Guess(lambda: None),
    "propose raises": _proposing(_propose_raises),
    "propose is no generator": _proposing(lambda request: [request.tip]),
    "propose returns None": _proposing(lambda request: None),
    "None for nodes": _returning(None),
    "a number for nodes": _returning(5),
    "texts for nodes": _returning(["a"]),
    "ids for nodes": _returning([FAR]),
    "below zero": _returning([-1]),
    "True for a node": _returning([True]),
    "a node twice": _returning(lambda request: [request.tree.add(request.tip, 1)] * 2),
    "the tip itself": _returning(lambda request: [request.tip]),
    "yields None": _propose_yields(None),
    "yields a number": _propose_yields(5),
    "asks nowhere": _propose_yields(Query((FAR,), ONLY, COPY)),
    "asks a model that fails": _propose_yields(Query((0,), ONLY, Answering(_fail))),
    "asks a model without answers": _propose_yields(Query((0,), ONLY, Answering(lambda answers: None))),
    "asks no model": _propose_yields(Query((0,), ONLY, "gpt")),
    "asks the target nowhere": _propose_yields(Query((FAR,), ONLY, TARGET)),
}
SPECULATIONS = {name: Speculate(draft, Greedy()) for name, draft in DRAFTS.items()}
