"""What drafts know, how far they guess, and what happens when they fail."""

import math
import random
from dataclasses import dataclass
from itertools import count, pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nextok as nt
from nextok.core.events import DraftFailed, Token, Verified
from nextok.core.query import Query, Speed, SpeedOf, Top, top
from nextok.drafts.pace import FIRST_WAIT, LONGEST_WAIT, TRIAL, Pace, Plan, Probing
from nextok.drafts.prompt_lookup import History
from nextok.drafts.suffix import BREAK, Cursor, SuffixAutomaton, copy_from
from nextok.drafts.worth import SURE_RATES, SURE_WEIGHT, UNKNOWN, Worth
from nextok.engine.engine import Engine
from nextok.engine.timing import Timing
from nextok.models.toy import ToyModel, make_scores
from nextok.strategies.sample import Greedy, Sample
from nextok.strategies.speculate import Speculate
from tiny import saying, tiny_lm
from toys import SIMILAR, TARGET, VOCAB, asked, by_engine, by_reference, outcome

TEXTS = st.integers(1, 4).flatmap(lambda letters: st.lists(st.integers(0, letters), max_size=60))


def longest_match(text):
    """The most tokens at the end of a text that stand earlier too, and the last place that followed them."""
    for size in range(len(text) - 1, 0, -1):
        places = [end for end in range(size, len(text)) if text[end - size : end] == text[-size:]]
        if places:
            return size, places[-1]
    return 0, 0


@settings(max_examples=300, deadline=None)
@given(TEXTS)
def test_the_automaton_finds_the_longest_end_that_occurred_before_and_its_latest_place(text):
    automaton = SuffixAutomaton()
    for size, token in enumerate(text, 1):
        automaton.add(token)
        match, place = longest_match(text[:size])
        assert automaton.match == match
        assert match == 0 or automaton.place == place


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.lists(st.integers(0, 4), max_size=40))
def test_a_cursor_finds_the_longest_end_of_one_text_in_another(text, other):
    cursor = Cursor(SuffixAutomaton(text))
    runs = {tuple(text[start:end]) for end in range(len(text) + 1) for start in range(end + 1)}
    for size, token in enumerate(other, 1):
        cursor.step(token)
        assert cursor.match == max(run for run in range(size + 1) if tuple(other[size - run : size]) in runs)
        assert (
            text[cursor.place - cursor.match : cursor.place] == other[size - cursor.match : size] or not cursor.match
        )


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.lists(st.integers(0, 4), max_size=40), st.randoms(use_true_random=False))
def test_a_cursor_stays_right_while_the_other_text_grows(text, other, dice):
    automaton, known = SuffixAutomaton(), 0
    cursor = Cursor(automaton)
    for size, token in enumerate(other, 1):
        cursor.step(token)
        run = cursor.match
        assert run == 0 or text[cursor.place - run : cursor.place] == other[size - run : size]
        for _ in range(min(dice.randrange(4), len(text) - known)):
            automaton.add(text[known])
            known += 1


def test_the_automaton_stays_small_and_its_work_constant():
    dice = random.Random(1)
    for text in ([1] * 5000, [1, 2] * 2500, [dice.randrange(3) for _ in range(5000)]):
        automaton = SuffixAutomaton(text)
        assert len(automaton.length) <= 2 * len(text)
        assert sum(map(len, automaton.next)) <= 3 * len(text)


def test_what_follows_goes_on_past_the_end_and_stops_between_texts():
    assert copy_from([1, 2, 3, 1, 2], 2, 7) == [3, 1, 2, 3, 1, 2, 3]
    assert copy_from([5, 5], 1, 3) == [5, 5, 5]
    assert copy_from([1, 2, BREAK, 3], 1, 5) == [2]


def test_lookup_guesses_what_a_repeating_text_says_next():
    lm = tiny_lm(saying("one two three one two three one two three"))
    plain, looked_up = lm.generate("x\n"), lm.generate("x\n", nt.Speculate(nt.PromptLookup()))
    assert looked_up.tokens == plain.tokens
    assert looked_up.stats.passes < 0.6 * plain.stats.passes


def test_a_history_finds_what_another_request_has_said():
    lm, history = tiny_lm(saying("the quick brown fox")), History()
    strategy = nt.Speculate(nt.PromptLookup(history=history))
    first, second = (lm.generate("x\n", strategy) for _ in range(2))
    assert first.text == second.text == "the quick brown fox"
    assert second.stats.passes <= 4 < 15 < first.stats.passes


def test_a_history_forgets_the_oldest_texts():
    lm, history = tiny_lm(saying("abcdefghij" * 3)), History(most=60)
    for _ in range(9):
        lm.generate("x\n", nt.Speculate(nt.PromptLookup(history=history)))
        assert len(history.automaton.tokens) < 60 + 40


def plan_length(pace, match, most, speed_of):
    return pace.plan(match, most, speed_of).length


def test_pace_weighs_what_guesses_gain_against_what_they_cost():
    pace = Pace([0.8])
    assert plan_length(pace, 0, 10, lambda expected, guesses, passes: expected) == 10  # a pass costs the same
    assert plan_length(pace, 0, 10, lambda expected, guesses, passes: expected / (1 + guesses)) == 0
    steep_after_3 = plan_length(pace, 0, 10, lambda expected, guesses, passes: expected / (1 if guesses < 4 else 9))
    assert steep_after_3 == 3
    assert plan_length(pace, 0, 0, lambda expected, guesses, passes: expected) == 0


def test_pace_learns_from_what_came_true():
    pace = Pace([0.5, 0.5])
    before = pace.rate(0), pace.rate(1)
    pace.learn(count(0), [True, False, True])
    assert pace.rate(0) > before[0]
    assert pace.rate(1) < before[1]
    assert pace.rate(9) == pace.rate(1)
    for _ in range(400):
        pace.learn([0], [False])
    assert pace.rate(0) < 0.01
    assert plan_length(pace, 0, 5, lambda expected, guesses, passes: expected / (1 + 0.1 * guesses)) == 0


def weighed(probabilities, seconds, rates=(0.9,), most=8):
    """How many guesses are made and how many are checked, where the draft model is so sure of them."""
    pace, speed_of = Pace(rates), SpeedOf(seconds)
    worth = Worth(pace.plan(0, most, speed_of), speed_of, Pace(SURE_RATES, SURE_WEIGHT), pace.rate(0), 1, most)
    for probability in probabilities:
        if not worth.another():
            break
        worth.add(math.log(probability))
    return len(worth.kinds), worth.checked()


def test_guesses_of_a_model_go_on_as_long_as_it_is_sure():
    def seconds(guesses, passes):
        return 1 + 0.1 * guesses + 0.4 * passes

    assert weighed([0.99] * 9, seconds) == (8, 8)
    assert weighed([0.99, 0.2, *[0.99] * 9], seconds) == (2, 2)
    assert weighed([0.2] * 9, seconds)[0] == 1
    assert weighed([0.99, 0.2], lambda guesses, passes: 1 + 0.5 * guesses + 0.01 * passes) == (2, 1)  # rows are dear
    assert weighed([0.2] * 9, lambda guesses, passes: 1.0) == (8, 8)  # all for nothing


def test_a_guess_of_unknown_probability_counts_as_a_usual_one():
    worth = Worth(Plan(1, 1.0), SpeedOf(lambda guesses, passes: 1.0), Pace(SURE_RATES), 0.5, 0, 8)
    worth.add(None)
    assert worth.kinds == [UNKNOWN]


def test_guesses_that_do_not_pay_are_tried_ever_more_rarely():
    probing = Probing()
    trials = [turn for turn in range(1, 600) if probing.length(0, 5)]
    gaps = [after - before for before, after in pairwise(trials)]
    assert trials[0] == FIRST_WAIT
    assert gaps == sorted(gaps)
    assert gaps[-1] == LONGEST_WAIT
    assert probing.length(4, 5) == 4
    assert [probing.length(0, 5) for _ in range(FIRST_WAIT)][-1] == TRIAL


@dataclass(frozen=True)
class Lent:
    model: Any


class Clocked(ToyModel):
    """A model whose passes take a stated time of a clock that only passes move."""

    def __init__(self, clock, seconds, scores=None, weight=1):
        super().__init__(VOCAB, scores or make_scores(VOCAB, seed=1))
        self.clock, self.seconds, self.bytes_per_token = clock, seconds, weight

    def answer(self, feeds, rows):
        self.clock.now += self.seconds(sum(len(feed.tokens) for feed in feeds))
        return super().answer(feeds, rows)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def linear(first, further):
    """Seconds of a pass: those of its first token, and of each further one."""
    return lambda tokens: first + further * (tokens - 1)


@pytest.mark.parametrize("draft", [nt.DraftModel, nt.TokenTree], ids=["chain", "tree"])
def test_a_draft_that_never_pays_is_nearly_given_up(draft):
    def drafted(further):
        clock, events = Clock(), []
        target = Clocked(clock, linear(1.0, further))
        engine = Engine(target, timing=Timing(clock))
        guesser = Lent(Clocked(clock, linear(0.01, 0.0), make_scores(VOCAB, seed=3)))
        engine.submit(asked([1, 2], max_tokens=200, stop_ids=frozenset()), Speculate(draft(guesser)), events.append)
        engine.run()
        return sum(event.drafted for event in events if isinstance(event, Verified))

    assert drafted(0.9) < 40 < 150 < drafted(0.0)


def drafted_lengths(passes):
    """What is drafted in each pass of the target; `passes(number, clock)` changes the machine before each of them."""
    clock, lengths = Clock(), []
    target, small = (
        Clocked(clock, linear(1.0, 0.05), weight=1000),
        Clocked(clock, linear(0.2, 0.0), make_scores(VOCAB, seed=1), weight=200),
    )
    engine = Engine(target, timing=Timing(clock))

    def receive(event):
        if isinstance(event, Verified):
            lengths.append(event.drafted)
            passes(len(lengths), target, small)

    request = asked([1, 2], max_tokens=900, stop_ids=frozenset())
    engine.submit(request, Speculate(nt.DraftModel(Lent(small), max_draft=6)), receive)
    engine.run()
    return lengths


def test_a_draft_model_is_used_from_the_first_tokens_on():
    lengths = drafted_lengths(lambda *_: None)
    assert lengths[:10].count(0) == 1  # one pass without guesses, to compare with


def test_the_draft_length_follows_what_passes_cost_within_20_passes():
    def dearer(number, target, small):
        if number == 60:
            target.seconds, small.seconds = linear(1.0, 0.9), linear(1.0, 0.0)

    lengths = drafted_lengths(dearer)
    assert sum(lengths[40:60]) / 20 >= 4
    assert sum(lengths[80:110]) <= 10  # but for trials


def test_a_slow_minute_is_forgotten():
    def slow(number, target, small):
        factor = 8.0 if 60 <= number < 90 else 1.0
        target.seconds, small.seconds = linear(factor, 0.05 * factor), linear(0.2 * factor, 0.0)

    def uneven(number, target, small):
        """Only passes of the draft model are slow, as when another process takes its place in the cache."""
        small.seconds = linear(4.0 if 60 <= number < 90 else 0.2, 0.0)

    for machine in (slow, uneven):
        lengths = drafted_lengths(machine)
        assert sum(lengths[40:60]) / 20 >= 4
        assert sum(lengths[-60:]) / 60 >= 4
    assert sum(lengths[70:90]) <= 10


def seconds_with(draft_of, token_at, price):
    """Seconds of 300 tokens, `token_at(place)` each, with a draft model that knows them at this price for a pass."""

    def scores(path):
        return [9.0 * (token == token_at(len(path))) for token in range(VOCAB)]

    clock = Clock()
    target, small = (Clocked(clock, linear(*seconds), scores) for seconds in ((1.0, 0.05), (price, 0.0)))
    engine = Engine(target, timing=Timing(clock))
    request = asked([1, 2], max_tokens=300, stop_ids=frozenset())
    engine.submit(request, Speculate(draft_of(nt.DraftModel(Lent(small)))), lambda event: None)
    engine.run()
    assert request.tokens == [token_at(place) for place in range(2, 302)]
    return clock.now


WAYS = (
    lambda draft: draft,
    lambda draft: nt.Drafts(nt.PromptLookup(), draft),
    lambda draft: nt.PromptLookup(),
)
"""The draft model alone, with prompt lookup before it, and prompt lookup alone."""


def test_of_several_drafts_the_cheap_one_guesses_where_it_can():
    """The text repeats itself, so that nothing need be asked once it has been seen."""
    alone, several, copied = (seconds_with(way, lambda place: place % 7, price=0.3) for way in WAYS)
    assert several < 0.6 * alone
    assert several == pytest.approx(copied, rel=0.2)


def test_of_several_drafts_the_one_that_brings_more_guesses():
    """Nothing comes again but by chance, so that what is copied is wrong; the model knows."""

    def token_at(place):
        return random.Random(place).randrange(VOCAB)

    alone, several, copied = (seconds_with(way, token_at, price=0.02) for way in WAYS)
    assert several < 1.1 * alone
    assert 3 * alone < copied


def test_several_drafts_must_be_drafts_and_two_at_least():
    for wrong in ((), (nt.PromptLookup(),)):
        with pytest.raises(ValueError, match="two or more"):
            nt.Drafts(*wrong)
    with pytest.raises(ValueError, match="draft must be"):
        nt.Drafts(nt.PromptLookup(), 3)
    drafts = nt.Drafts(nt.PromptLookup(), nt.DraftModel(SIMILAR))
    assert drafts.models() == (SIMILAR,)
    assert repr(drafts).startswith("Drafts(PromptLookup(max_draft=10")


def test_one_of_several_drafts_fails():
    @dataclass(frozen=True)
    class Broken(nt.Draft):
        def begin(self, request, sampler):
            return lambda: [1]

    request, plain = asked([1, 2]), asked([1, 2])
    by_reference(Greedy(), plain)
    events = by_engine(Speculate(nt.Drafts(Broken(), nt.PromptLookup())), request)
    [failed] = [event for event in events if isinstance(event, DraftFailed)]
    assert "propose must be a generator, got [1]" in str(failed.error)
    assert outcome(request) == outcome(plain)


def test_other_requests_in_the_batch_make_guesses_dearer():
    timing, target = Timing(lambda: 0.0), ToyModel(VOCAB, make_scores(VOCAB))
    for rows, seconds in ((1, 1.0), (4, 1.1), (8, 8.0)):
        for _ in range(20):
            timing.learn(target, rows, 10, seconds)
    alone, crowded = (timing.speed_of(target, None, 1 + others, others, 10) for others in (0, 4))
    assert alone(2.0, 3, 1) > alone(1.0, 0, 0)
    assert crowded(2.0, 3, 1) == pytest.approx(6 / timing.seconds(target, 8, 10))
    assert crowded(2.0, 3, 1) < crowded(1.0, 0, 0)


def test_times_are_told_apart_by_tokens_and_by_slots():
    timing, target = Timing(lambda: 0.0), ToyModel(VOCAB, make_scores(VOCAB))
    for _ in range(40):
        for tokens, slots, seconds in ((1, 100, 1.0), (4, 100, 2.0), (1, 5000, 3.0)):
            timing.learn(target, tokens, slots, seconds)
    seconds = [timing.seconds(target, *key) for key in ((1, 100), (4, 100), (1, 5000))]
    assert seconds == pytest.approx([1.0, 2.0, 3.0], rel=0.15)
    assert timing.most_tokens(target, 100, 1.5, 512) in (1, 2, 3)
    assert timing.most_tokens(target, 100, 1e9, 512) == 512


def test_a_prompt_is_read_in_small_shares_while_another_request_decodes():
    clock, sizes = Clock(), []
    target = Clocked(clock, lambda tokens: sizes.append(tokens) or 0.02 + 0.01 * tokens)
    engine = Engine(target, timing=Timing(clock))
    engine.submit(asked([1], max_tokens=300, stop_ids=frozenset()), Greedy(), lambda event: None)
    for _ in range(5):
        engine.step()
    del sizes[:]
    engine.submit(asked([3] * 400, max_tokens=2), Greedy(), lambda event: None)
    engine.run()
    assert max(sizes[10:]) <= 10  # 0.1 s: eight tokens, and the row of the other request
    assert sum(size > 1 for size in sizes) < 80


class Failing(ToyModel):
    """Fails at one of its passes, in one of three ways."""

    def __init__(self, how, when):
        super().__init__(VOCAB, make_scores(VOCAB, seed=1))
        self.how, self.left = how, when

    def answer(self, feeds, rows):
        self.left -= 1
        if self.left < 0:
            if self.how == "raises":
                raise RuntimeError("out of order")
            scores = self._scores
            self._scores = lambda path: [float("nan" if self.how == "nan" else "-inf")] * VOCAB
            try:
                return super().answer(feeds, rows)
            finally:
                self._scores = scores
        return super().answer(feeds, rows)


@pytest.mark.parametrize("when", [0, 1, 5])
@pytest.mark.parametrize("how", ["raises", "nan", "inf"])
@pytest.mark.parametrize("draft", [nt.DraftModel, nt.TokenTree], ids=["chain", "tree"])
@pytest.mark.parametrize("run", [by_engine, by_reference])
def test_a_failing_draft_costs_speed_and_never_the_text(run, draft, how, when):
    plain, speculative = asked([1, 2], seed=3, max_tokens=20), asked([1, 2], seed=3, max_tokens=20)
    by_reference(Sample(), plain)
    events = run(Speculate(draft(Lent(Failing(how, when))), Sample()), speculative)
    assert outcome(speculative) == outcome(plain)
    assert sum(isinstance(event, DraftFailed) for event in events) == 1


def once(propose):
    """A draft that guesses nothing at first, and the third time what `propose(request)` says."""

    def begin(request, sampler):
        turns = iter([_nothing, _nothing])
        return lambda: next(turns, propose)(request)

    return begin


def _nothing(request):
    yield from ()
    return []


def returning(guesses):
    """A draft that asks nothing and returns `guesses(request)`."""

    def propose(request):
        yield from ()
        return guesses(request)

    return once(propose)


def asking(*questions):
    """A draft that yields something first."""

    def propose(request):
        for question in questions:
            yield question(request)
        return []

    return once(propose)


def chain(request, *tokens):
    nodes = [request.tip]
    for token in tokens:
        nodes.append(request.tree.add(nodes[-1], token))
    return nodes[1:]


def failing(error):
    def propose(request):
        yield Speed()
        raise error

    return once(propose)


def asking_for_ever(request):
    while True:
        try:
            yield from top([request.tip], 1, model=SIMILAR.model)
            yield Query((10**6,), (Top(1),), SIMILAR.model)
        except Exception:
            continue


def angry_when_closed(request):
    try:
        while True:
            yield Speed()
    except GeneratorExit:
        raise RuntimeError("not now") from None


def raising(*_):
    raise RuntimeError("out of order")


MISTAKES = {
    "begin raises": raising,
    "begin gives nothing": lambda request, sampler: None,
    "propose raises before it asks": once(raising),
    "propose raises": failing(ValueError("wrong")),
    "propose leaves": failing(GeneratorExit()),
    "propose stops": failing(StopIteration()),
    "propose is no generator": once(lambda request: chain(request, 1, 2)),
    "nothing": returning(lambda request: None),
    "a number": returning(lambda request: 3),
    "token ids": returning(lambda request: [1, 2, 3]),
    "text": returning(lambda request: "ab"),
    "the tip": returning(lambda request: [request.tip]),
    "the prompt": returning(lambda request: [request.prompt]),
    "no such node": returning(lambda request: [10**6]),
    "negative": returning(lambda request: [-1]),
    "true": returning(lambda request: [True]),
    "without its parent": returning(lambda request: chain(request, 1, 2)[1:]),
    "children first": returning(lambda request: chain(request, 1, 2)[::-1]),
    "a node twice": returning(lambda request: chain(request, 1, 2) * 2),
    "too many": returning(lambda request: [request.tree.add(request.tip, token) for token in range(300)]),
    "no token": returning(lambda request: chain(request, "a")),
    "a negative token": returning(lambda request: chain(request, 1, -5)),
    "a token outside the vocabulary": returning(lambda request: chain(request, 1, VOCAB)),
    "commits": returning(lambda request: request.commit([1])),
    "events": asking(lambda request: Token(1, request.tip)),
    "rubbish": asking(lambda request: 7),
    "asks the target": asking(lambda request: Query((request.tip,), (Top(1),))),
    "asks about no node": asking(lambda request: Query((10**6,), (Top(1),), SIMILAR.model)),
    "asks no model": asking(lambda request: Query((request.tip,), (Top(1),), None)),
    "asks what cannot be a model": asking(lambda request: Query((request.tip,), (Top(1),), [])),
    "reads in no way": asking(lambda request: Query((request.tip,), (None,), SIMILAR.model)),
    "speed of no model": asking(lambda request: Speed("small"), lambda request: None),
    "asks for ever": once(asking_for_ever),
    "raises while it is closed": once(angry_when_closed),
}


@dataclass(frozen=True)
class Mistaken:
    begin: Any


@pytest.mark.parametrize("run", [by_engine, by_reference])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_of_a_draft_costs_speed_and_never_the_text(run, mistake):
    plain, speculative = (asked([1, 2], seed=3, max_tokens=20, vocab_size=VOCAB) for _ in range(2))
    by_reference(Sample(), plain)
    events = run(Speculate(Mistaken(MISTAKES[mistake]), Sample()), speculative)
    assert outcome(speculative) == outcome(plain)
    (failed,) = (event for event in events if isinstance(event, DraftFailed))
    assert str(failed.error)
    assert failed.error.__traceback__ is None
    assert failed.error.__context__ is None or failed.error.__context__.__traceback__ is None


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_of_a_draft_leaves_the_others_alone(mistake):
    engine, requests = Engine(TARGET), [asked([1, place], seed=place, vocab_size=VOCAB) for place in range(3)]
    for place, request in enumerate(requests):
        draft = Mistaken(MISTAKES[mistake]) if place == 1 else nt.DraftModel(SIMILAR)
        engine.submit(request, Speculate(draft, Sample()), lambda event: None)
    engine.run()
    for place, request in enumerate(requests):
        alone = asked([1, place], seed=place)
        by_reference(Sample(), alone)
        assert outcome(request) == outcome(alone)


def test_a_draft_is_closed_with_its_request():
    engine, request, closed = Engine(TARGET), asked([1, 2]), []

    def cancel_and_score(path):
        engine.cancel(job)
        return make_scores(VOCAB, seed=1)(path)

    def propose(request):
        try:
            yield from top([request.tip], 1, model=ToyModel(VOCAB, cancel_and_score))
        finally:
            closed.append(request)

    job = engine.submit(request, Speculate(Mistaken(once(propose))), lambda event: None)
    engine.run()
    assert closed == [request]
    assert request.finish_reason == "cancelled"


def test_guesses_that_the_text_has_no_room_for_are_left_out():
    deep = Mistaken(returning(lambda request: chain(request, *[1] * 50)))
    request, plain = (
        asked([1, 2], max_tokens=9, stop_ids=frozenset()),
        asked([1, 2], max_tokens=9, stop_ids=frozenset()),
    )
    events = by_engine(Speculate(deep), request)
    by_reference(Greedy(), plain)
    assert outcome(request) == outcome(plain)
    assert not any(isinstance(event, DraftFailed) for event in events)
    assert max(event.drafted for event in events if isinstance(event, Verified)) == 6


def test_the_statistics_tell_why_a_draft_failed():
    lm = tiny_lm()
    draft = nt.DraftModel(Lent(Failing("raises", 0)))
    output = lm.generate([1], nt.Speculate(draft), max_tokens=20, ignore_eos=True)
    assert output.tokens == lm.generate([1], max_tokens=20, ignore_eos=True).tokens
    assert str(output.stats.draft_error) == "out of order"
    assert output.stats.draft_error.__traceback__ is None


def test_a_failing_draft_leaves_the_others_alone():
    engine, requests = Engine(TARGET), [asked([1, place], seed=place) for place in range(6)]
    draft = nt.DraftModel(Lent(Failing("raises", 3)))
    for place, request in enumerate(requests):
        engine.submit(request, Speculate(draft, Sample()) if place % 2 else Sample(), lambda event: None)
    engine.run()
    for place, request in enumerate(requests):
        alone = asked([1, place], seed=place)
        by_reference(Sample(), alone)
        assert outcome(request) == outcome(alone)


def test_passes_of_a_model_that_drafts_for_itself_are_not_counted_as_the_targets():
    lm = tiny_lm()
    plain = lm.generate("x", max_tokens=30, ignore_eos=True)
    drafted = lm.generate("x", nt.Speculate(nt.DraftModel(lm, max_draft=4)), max_tokens=30, ignore_eos=True)
    assert drafted.tokens == plain.tokens
    assert drafted.stats.passes <= 7 < plain.stats.passes
