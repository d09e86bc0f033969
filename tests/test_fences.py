"""What strangers write goes wrong in every way: only its own request hears of it, in one line; the engine lives on.

NEXTOK_ROUNDS is the number of random mixtures; 1000 of them take some minutes.
"""

import asyncio
import logging
import os
import random
import threading
from functools import cache

import pytest

import nextok as nt
from nextok.core.events import DraftFailed, Finished, Token, Verified
from nextok.core.query import Query, pick
from nextok.core.request import Request
from nextok.core.tree import Tree
from nextok.engine import engine as engine_module
from nextok.engine import fence as fence_module
from nextok.engine import job as job_module
from nextok.engine.engine import Engine
from nextok.engine.job import Job
from strangers import CASES, COPY, GREEDY, SPECULATIONS, Case, Own
from tiny import tiny_lm
from toys import STRATEGIES, TARGET, FreeTiming, asked, by_engine, by_reference, outcome

ROUNDS = int(os.environ.get("NEXTOK_ROUNDS", "80"))
MOST_STEPS = 2000
"""Number of passes after which a mixture is taken to run for ever."""
MOST_SECONDS = 120.0
"""Time in seconds after which a mixture is taken to hang; the machine may be busy."""
HEALTHY = ("greedy", "plain", "filtered", "beam 3", "stochastic beam", "lookup plain", "similar warm", "tree greedy")
PROMPT = [1, 2, 3]


@pytest.fixture(autouse=True)
def few_events(monkeypatch):
    """So that a strategy that never ends is stopped soon."""
    monkeypatch.setattr(job_module, "MOST_EVENTS", 500)
    monkeypatch.setattr(job_module, "MOST_QUESTIONS_TO_DRAFTS", 20)
    logging.getLogger("nextok").addHandler(quiet := logging.NullHandler())
    yield
    logging.getLogger("nextok").removeHandler(quiet)


@cache
def alone(name, seed):
    """What a request gets by the reference, without any neighbour."""
    request = asked(PROMPT, seed=seed)
    by_reference(STRATEGIES[name], request)
    return outcome(request)


def aside(work):
    """Run it in a thread, where `sys.exit` can come from no signal; raise what it raises, and never hang."""
    errors = []

    def run():
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(MOST_SECONDS)
    if thread.is_alive():
        raise TimeoutError("it hangs")
    for error in errors:
        raise AssertionError(f"it raised {error!r}") from error


class Mixture:
    """Broken requests beside healthy ones, in one engine."""

    def __init__(self, cases, seed=0):
        self.dice = random.Random(seed)
        self.tree = Tree() if self.dice.random() < 0.5 else None
        self.engine = Engine(
            TARGET,
            budget=self.dice.choice([4, 16, 512]),
            seats=self.dice.choice([2, 5, 32]),
            timing=FreeTiming(),
        )
        self.broken = []  # (name of the case, request, events)
        self.unwanted = []  # jobs that the host cancels
        self.healthy = []  # (name of the strategy, seed, request)
        self.submissions = [lambda case=case: self.submit_broken(*case) for case in cases.items()]
        self.submissions += [self.submit_healthy] * (len(cases) + 2)
        self.dice.shuffle(self.submissions)

    def submit_broken(self, name, case):
        """A stranger comes."""
        told, jobs = [], []

        def receive(event):
            told.append(event)
            if case.receiver:
                case.receiver(event, lambda: self.engine.cancel(*jobs))

        request = asked(PROMPT, tree=self.tree, masks=case.masks)
        self.broken.append((name, case, request, told))
        jobs.append(self.engine.submit(request, case.strategy, receive))
        if case.is_cancelled:
            self.unwanted += jobs

    def submit_healthy(self):
        """A request whose text must not change."""
        name, seed = self.dice.choice(HEALTHY), self.dice.randrange(8)
        request = asked(PROMPT, seed=seed, tree=self.tree)
        self.healthy.append((name, seed, request))
        self.engine.submit(request, STRATEGIES[name], lambda event: None)

    def run(self):
        """Submit them all, some in the middle of the others, and step to the end."""
        for step in range(MOST_STEPS):
            if step % 20 == 19:
                self.engine.cancel(*self.unwanted)
            for submit in self.submissions[: self.dice.randrange(1, 8)]:
                submit()
                self.submissions.remove(submit)
            if not self.engine.step() and not self.submissions:
                return
        raise TimeoutError(f"{len(self.engine.jobs)} requests never end")

    def complaints(self):
        """Everything that is not as it should be."""
        try:
            aside(self.run)
        except (AssertionError, TimeoutError) as error:
            return [str(error)]
        found = [f"{name}: {told}" for name, case, request, told in self.broken if not is_right(case, request, told)]
        found += [
            f"{name} beside them: {request.tokens}, {request.error!r}"
            for name, seed, request in self.healthy
            if outcome(request) != alone(name, seed)
        ]
        after = asked(PROMPT, seed=5)
        self.engine.submit(after, STRATEGIES["plain"], lambda event: None)
        aside(self.engine.run)
        if outcome(after) != alone("plain", 5) or self.engine.jobs:
            found.append("the engine does not go on")
        return found


def is_right(case, request, told):
    """Whether a broken request ended as it must, and its receiver was told so, once and last."""
    if [isinstance(event, Finished) for event in told].count(True) != 1 or not isinstance(told[-1], Finished):
        return False
    if case.says is None:
        return outcome(request) == alone("greedy", 0)
    if not case.says:
        return bool(request.finish_reason)
    error = request.error
    text = f"{type(error).__name__} {error}"
    is_clear = request.finish_reason == "error" and case.says in text and "\n" not in str(error)
    return is_clear and error.__traceback__ is None


@pytest.mark.parametrize("name", CASES)
def test_each_mistake_ends_alone_in_one_clear_line(name):
    for seed in range(3):
        assert Mixture({name: CASES[name]}, seed).complaints() == []


@pytest.mark.parametrize("batch", range(10))
def test_any_mixture_of_mistakes_changes_no_healthy_text(batch):
    for seed in range(batch, ROUNDS, 10):
        dice = random.Random(seed)
        names = dice.sample(sorted(CASES), dice.randrange(3, 16))
        assert Mixture({name: CASES[name] for name in names}, seed).complaints() == [], f"round {seed}: {names}"


# --- drafts: they cost speed, never the text ----------------------------------------------------------------------


@pytest.mark.parametrize("name", SPECULATIONS)
def test_a_broken_draft_is_told_once_and_changes_nothing(name):
    request = asked(PROMPT)
    found = []
    aside(lambda: found.extend(by_engine(SPECULATIONS[name], request)))
    assert outcome(request) == alone("greedy", 0)
    assert [type(event) for event in found].count(DraftFailed) == 1


def test_broken_drafts_beside_healthy_requests():
    for seed in range(max(3, ROUNDS // 20)):
        mixture = Mixture({name: Case(strategy, None) for name, strategy in SPECULATIONS.items()}, seed)
        assert mixture.complaints() == []


# --- the same through an LM ---------------------------------------------------------------------------------------


def test_an_lm_outlives_every_mistake():
    lm = tiny_lm()
    text = lm.generate("abc", max_tokens=6).text

    def live():
        for name, case in CASES.items():
            if not case.receiver and not case.masks and case.says:
                with pytest.raises(Exception) as raised:
                    lm.generate("abc", case.strategy, max_tokens=6)
                assert "\n" not in str(raised.value), name
            assert lm.generate("abc", max_tokens=6).text == text, name

    aside(live)
    assert lm.engine.jobs == []


def test_an_lm_is_not_called_from_its_own_strategy():
    lm = tiny_lm()

    def decode(request):
        lm.generate("inside")
        yield

    with pytest.raises(nt.NextokError, match="in the middle of a step in this thread"):
        lm.generate("abc", Own(decode))
    with pytest.raises(nt.NextokError, match="in the middle of a step in this thread"):
        lm.generate("abc", nt.Sample(custom=lambda row: lm.close()), max_tokens=2)
    assert lm.generate("abc", max_tokens=3).tokens


def test_one_broken_prompt_of_a_list_fails_alone():
    lm = tiny_lm()

    def decode(request):
        if request.tree.token[request.prompt] == ord("!"):
            raise SystemExit(1)
        yield from nt.Greedy().decode(request)

    found = []
    aside(lambda: found.extend(lm.generate(["a", "!", "b"], Own(decode), max_tokens=4)))
    assert [output.finish_reason for output in found] == ["length", "error", "length"]
    assert [found[0].text, found[2].text] == [output.text for output in lm.generate(["a", "b"], max_tokens=4)]


def test_the_thread_for_asyncio_outlives_a_strategy_that_exits():
    lm = tiny_lm()

    async def ask():
        with pytest.raises(nt.NextokError, match="raised SystemExit"):
            await lm.agenerate("abc", CASES["raises SystemExit"].strategy)
        return await lm.agenerate("abc", max_tokens=4)

    assert asyncio.run(asyncio.wait_for(ask(), MOST_SECONDS)).text == lm.generate("abc", max_tokens=4).text


def test_ctrl_c_in_the_main_thread_still_reaches_the_caller():
    def decode(request):
        raise KeyboardInterrupt
        yield

    lm = tiny_lm()
    with pytest.raises(KeyboardInterrupt):
        lm.generate("abc", Own(decode))
    assert lm.engine.jobs == []


# --- no fence can be taken away without this being noticed --------------------------------------------------------


def _begin_without_a_look(self):
    self._steps = self.strategy.decode(self.request)
    return next(self._steps)


def _end_without_guards(self, reason, error=None):
    self.ended = True
    self.request.finish(reason, error)
    self._deliver()
    steps, self._steps, self.query = self._steps, None, None
    if steps:
        steps.close()


def _deliver_and_forget(self):
    for event in self.request.take_events():
        self.sink(event)


def _fail_all(self, model, jobs, error):
    for job in jobs:
        job.fail(error)
        self._advance(job)


def _answer_unchecked(self, model, shares, rows):
    return model.answer([feed for feed, _ in shares.values()], rows)


def ignore(*_):
    """No check."""


MUTATIONS = {
    "generator": (Job, "_begin", _begin_without_a_look, "decode returns an iterator"),
    "closing": (Job, "end", _end_without_guards, "goes on when it is cancelled"),
    "exit while closing": (Job, "end", _end_without_guards, "exits when it is cancelled"),
    "receiver at the end": (Job, "end", _end_without_guards, "cancelled beside a receiver that raises"),
    "told of the end": (Job, "_deliver", _deliver_and_forget, "a receiver that raises beside the end"),
    "frames of errors": (job_module, "drop_frames", ignore, "raises later"),
    "nodes": (fence_module, "check_query", ignore, "asks above the root"),
    "far nodes": (fence_module, "check_query", ignore, "asks about another tree"),
    "reads": (fence_module, "check_query", ignore, "a read that is none"),
    "scores": (fence_module, "check_query", ignore, "the score of no token"),
    "models": (fence_module, "check_query", ignore, "no model"),
    "events": (fence_module, "check_event", ignore, "yields None"),
    "figures": (fence_module, "check_event", ignore, "accepts more than it drafted"),
    "number of events": (job_module, "MOST_EVENTS", 10**5, "many events"),
    "questions to drafts": (job_module, "MOST_QUESTIONS_TO_DRAFTS", 10**5, "many drafts"),
    "repeated nodes": (Query, "__post_init__", ignore, "asks twice"),
    "token ids": (Request, "_check_token", ignore, "commits None"),
    "tokens of a pass": (engine_module, "check_tokens", ignore, "commits beyond the vocabulary"),
    "number of answers": (Engine, "_answer", _answer_unchecked, "a model with too many"),
    "passes alone": (Engine, "_isolate", _fail_all, "custom exits"),
    "exits": (job_module, "concerns_program", lambda error: not isinstance(error, Exception), "raises SystemExit"),
    "exits in a pass": (engine_module, "concerns_program", lambda error: True, "custom exits"),
}


class Repeating:
    """Yields something very often, and then decodes as it should."""

    def __init__(self, often):
        self.often = often

    def decode(self, request):
        for _ in range(3000):
            yield from self.often(request)
        yield from nt.Greedy().decode(request)


class Whole:
    """Commits a whole text at once, so that its last token and its end are told together."""

    def decode(self, request):
        yield from request.commit([1] * 50)


def _raise_on_tokens(event, cancel):
    if isinstance(event, Token):
        raise BrokenPipeError("gone")


EXTRA = {
    "many events": Case(Repeating(lambda request: [Verified(0, 0)]), "events without a question"),
    "many drafts": Case(Repeating(lambda request: pick([request.tip], GREEDY, COPY)), "and the target none"),
    "a receiver that raises beside the end": Case(Whole(), "", receiver=_raise_on_tokens),
}


@pytest.mark.parametrize("fence", MUTATIONS)
def test_negative_control_a_missing_fence_is_noticed(fence, monkeypatch):
    owner, name, instead, case = MUTATIONS[fence]
    cases = CASES | EXTRA
    assert Mixture({case: cases[case]}).complaints() == []
    monkeypatch.setattr(owner, name, instead)
    assert Mixture({case: cases[case]}).complaints() != []
