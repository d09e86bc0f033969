"""Caches whose requests have ended: found again, within their bytes, the last used kept longest, no text changed.

Every comparison of texts is with an engine that keeps nothing, or with the reference that has no cache at all.
"""

import gc
import os
import random
from array import array
from dataclasses import dataclass, field
from functools import cache
from weakref import WeakSet, ref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nextok as nt
from nextok.engine import radix
from nextok.engine.engine import Engine
from nextok.engine.kept import KeptCaches
from nextok.engine.prefix import WORTHWHILE
from nextok.engine.runner import Runner
from nextok.engine.timing import FreeTiming
from nextok.lm import LM
from nextok.models.llama_numpy import LlamaNumpy
from nextok.models.native import NativeModel
from nextok.models.toy import SLOT_BYTES, ToyCache, ToyModel, make_scores
from nextok.strategies.rescore import Echo
from test_native import checkpoint
from tiny import VOCAB as LETTERS
from tiny import tiny_lm, tiny_tokenizer
from toys import STRATEGIES, TARGET, VOCAB, Lent, asked, by_engine, by_reference, outcome

MUCH = 1 << 30
DICE = np.random.default_rng(0)
BEGINNING = DICE.integers(1, VOCAB, 200).tolist()
PAGE = 64
"""Slots of a page of the native core."""


@cache
def native(exact=False, seed=1):
    return NativeModel(checkpoint("Q8_0", seed), exact=exact, threads=1)


@pytest.fixture(scope="module", autouse=True)
def free_models():
    yield
    native.cache_clear()


def make_engine(target=TARGET, cache_memory=MUCH, **settings):
    return Engine(target, timing=FreeTiming(), cache_memory=cache_memory, **settings)


def write(engine, prompt, strategy=None, **limits):
    """One text on a tree of its own, which is gone afterwards; its tokens and reason, and what its job counted."""
    request = asked(prompt, **limits)
    job = engine.submit(request, strategy or nt.Greedy(), lambda event: None)
    engine.run()
    return outcome(request), job.cached


def random_texts(dice, count, length, beginnings):
    """Prompts that begin with one of some beginnings, or go on where an earlier one ended."""
    texts = [dice.choice(beginnings)]
    for _ in range(count):
        begin = dice.choice([*beginnings, *texts[-5:]])
        cut = dice.choice([len(begin), len(begin), dice.randrange(len(begin) + 1)])
        texts.append([*begin[:cut], *(dice.randrange(1, VOCAB) for _ in range(dice.randrange(1, length)))])
    return texts


# --- the index, against a list of all texts ---------------------------------------------------------------------


@dataclass(eq=False)
class Pages:
    """A cache that holds tokens two to a page; the pages of equal beginnings are shared."""

    tokens: tuple[int, ...]
    held: dict[int, int] = field(default_factory=dict)

    def __post_init__(self):
        self.held = {hash(self.tokens[: end + 2]): 10 for end in range(0, len(self.tokens), 2)}

    def pages(self):
        return self.held


class ListOfTexts:
    """What the index must do, in the plainest way: all texts in one list, the least recently used first."""

    def __init__(self, budget):
        self.budget = budget
        self.texts = []

    def count_bytes(self, texts=None):
        held = {page: size for text in texts or self.texts for page, size in Pages(text).held.items()}
        return sum(held.values()) if texts or self.texts else 0

    def find(self, tokens, least):
        most = max((alike(text, tokens) for text in self.texts), default=0)
        if most < max(least, 1):
            return 0, None
        used = [text for text in self.texts if alike(text, tokens) == most][-1]
        self.texts.remove(used)
        self.texts.append(used)
        return most, used

    def keep(self, tokens, least):
        if len(tokens) < max(least, 1) or self.count_bytes([tokens]) > self.budget:
            return
        if any(alike(text, tokens) == len(tokens) for text in self.texts):
            self.find(tokens, least)
            return
        self.texts = [text for text in self.texts if alike(text, tokens) < len(text)] + [tokens]
        while self.count_bytes() > self.budget:
            del self.texts[0]


def alike(one, other):
    return next((i for i, (a, b) in enumerate(zip(one, other)) if a != b), min(len(one), len(other)))


TEXT = st.lists(st.integers(0, 2), max_size=9).map(tuple)
STEPS = st.lists(st.tuples(st.booleans(), TEXT), max_size=60)


@settings(max_examples=400)
@given(STEPS, st.integers(0, 25).map(lambda pages: 10 * pages), st.integers(1, 3))
def test_the_index_does_what_a_list_of_all_texts_does(steps, budget, least):
    kept, plain = KeptCaches(budget, least), ListOfTexts(budget)
    for is_kept, tokens in steps:
        if is_kept:
            kept.keep(TARGET, tokens, Pages(tokens))
            plain.keep(tokens, least)
        else:
            most, found = kept.find(TARGET, tokens)
            assert (most, found and found.tokens) == plain.find(tokens, least)
        assert [each.cache.tokens for each in kept._kept] == plain.texts
        assert kept.bytes == plain.count_bytes() <= budget


@settings(max_examples=300)
@given(st.lists(st.tuples(st.booleans(), TEXT.filter(len)), max_size=40))
def test_a_radix_tree_loses_nothing_whatever_is_removed_in_whatever_order(steps):
    tree, known = radix.Radix(), {}
    for is_put, tokens in steps:
        packed = radix.pack_tokens(tokens)
        if not is_put:
            tree.remove(packed)
            known.pop(tokens, None)
        elif not any(alike(other, tokens) == len(tokens) for other in known):
            replaced = tree.put(packed, tokens)
            within = [other for other in known if alike(other, tokens) == len(other)]
            assert [replaced] == (within or [None])
            known = {other: None for other in known if other not in within} | {tokens: None}
        for other in known:
            assert tree.find(radix.pack_tokens(other)) == (len(other), other)
        most, found = tree.find(packed)
        assert most == max((alike(other, tokens) for other in known), default=0)
        assert found in known if most else found is None


def test_a_search_costs_no_more_among_thousands_of_texts(monkeypatch):
    seen = []
    count = radix._count_alike
    monkeypatch.setattr(radix, "_count_alike", lambda one, other: seen.append(len(one)) or count(one, other))
    kept, text = KeptCaches(MUCH), array("q", range(1000))
    for own in range(3000):
        kept.keep(TARGET, [*text, 1000 + own, *range(20)], ToyCache())
    seen.clear()
    most, _ = kept.find(TARGET, [*text, 2500, *range(20)])
    assert most == 1021
    assert sum(seen) == 1021


# --- found again ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [lambda: TARGET, native, lambda: native(exact=True)], ids=["toy", "fast", "exact"])
@pytest.mark.parametrize("budget", [16, 512])
def test_a_beginning_is_found_when_the_tree_that_read_it_is_gone(model, budget):
    engine = make_engine(model(), budget=budget)
    first, cached = write(engine, BEGINNING, max_tokens=5, stop_ids=frozenset())
    assert cached == 0
    read = engine.tokens_read
    prompt = [*BEGINNING, *first[0], 3, 3]
    second, cached = write(engine, prompt, max_tokens=4, stop_ids=frozenset())
    assert cached == len(prompt) - 3  # the last token that was written had not been read
    assert engine.tokens_read == read + 3 + 3
    third, cached = write(engine, [*BEGINNING[:150], 3, 3], max_tokens=1)
    assert cached == 150
    assert (engine.prompt_tokens, engine.cached_tokens) == (200 + len(prompt) + 152, len(prompt) - 3 + 150)
    plain = make_engine(model(), cache_memory=0)
    assert second == write(plain, prompt, max_tokens=4, stop_ids=frozenset())[0]
    assert third == write(plain, [*BEGINNING[:150], 3, 3], max_tokens=1)[0]


def test_an_engine_without_cache_memory_keeps_nothing():
    engine = make_engine(cache_memory=0)
    write(engine, BEGINNING)
    assert write(engine, BEGINNING)[1] == 0
    assert (engine.kept.count, engine.kept.bytes, engine.cached_tokens) == (0, 0, 0)


def test_short_beginnings_are_not_kept():
    engine = make_engine()
    write(engine, BEGINNING[: WORTHWHILE - 5], max_tokens=3)
    assert engine.kept.count == 0


def test_a_prompt_that_is_cut_in_the_middle_leaves_what_was_read():
    engine = make_engine(budget=50)
    job = engine.submit(asked(BEGINNING), nt.Greedy(), lambda event: None)
    engine.step()
    engine.step()
    engine.cancel(job)
    del job
    engine.step()
    gc.collect()
    assert engine.kept.count == 1
    assert write(engine, BEGINNING)[1] == 100


def test_a_beam_search_leaves_the_text_that_it_has_chosen():
    engine = make_engine()
    (tokens, _), _ = write(engine, BEGINNING, nt.Beam(4), max_tokens=20, stop_ids=frozenset())
    prompt = [*BEGINNING, *tokens, 1]
    assert write(engine, prompt)[1] >= len(BEGINNING) + 18


def test_the_next_turn_of_a_chat_takes_the_place_of_the_last():
    engine, prompt = make_engine(native()), BEGINNING
    for _ in range(10):
        (tokens, _), _ = write(engine, prompt, max_tokens=5, stop_ids=frozenset())
        prompt = [*prompt, *tokens, *range(1, 20)]
        assert engine.kept.count == 1
    assert engine.kept.bytes == page_bytes(native()) * -(-(len(prompt) - 20) // PAGE)


def test_chats_that_share_a_system_prompt_keep_it_once():
    engine, system = make_engine(native()), DICE.integers(1, VOCAB, 4 * PAGE).tolist()
    for chat in range(20):
        write(engine, [*system, 1 + chat % 6, 1 + chat // 6, *BEGINNING[:40]], max_tokens=3, stop_ids=frozenset())
    assert engine.kept.count == 20
    assert engine.kept.bytes == (4 + 20) * page_bytes(native())


def page_bytes(model):
    """The size of the pages of its caches."""
    cache = model.open()
    cache.move([0], [0])
    [size] = cache.pages().values()
    return size


def test_a_draft_model_finds_what_it_has_read_too():
    draft = ToyModel(VOCAB, make_scores(VOCAB, 9))
    reads = []
    answer = draft.answer
    draft.answer = lambda feeds, rows: reads.append(sum(len(feed.tokens) for feed in feeds)) or answer(feeds, rows)
    strategy = nt.Speculate(nt.DraftModel(Lent(draft), max_draft=3))
    engine = make_engine()
    write(engine, BEGINNING, strategy, max_tokens=8, stop_ids=frozenset())
    assert sum(reads) > 200
    reads.clear()
    text, _ = write(engine, [*BEGINNING, 2], strategy, max_tokens=8, stop_ids=frozenset())
    assert 0 < sum(reads) < 60
    assert text == write(make_engine(cache_memory=0), [*BEGINNING, 2], max_tokens=8, stop_ids=frozenset())[0]


def test_a_cache_that_cannot_be_cut_there_is_read_again():
    class Window(ToyCache):
        """Keeps what a text that goes on at its end needs, and no more."""

        def fork(self, end):
            forked = Window()
            forked.slots = dict(self.slots)
            return forked if end == len(self.slots) else None

    model = ToyModel(VOCAB, make_scores(VOCAB, 1))
    model.open = Window
    engine = make_engine(model)
    first, _ = write(engine, BEGINNING, max_tokens=5, stop_ids=frozenset())
    assert (
        write(engine, [*BEGINNING[:150], 1], max_tokens=3)[0]
        == write(make_engine(), [*BEGINNING[:150], 1], max_tokens=3)[0]
    )
    assert write(engine, [*BEGINNING, *first[0], 1], max_tokens=3)[1] == len(BEGINNING) + 4


# --- the bytes --------------------------------------------------------------------------------------------------


def count_kept(kept):
    """The bytes of all pages, counted anew."""
    return sum({page: size for each in kept._kept for page, size in each.cache.pages().items()}.values())


@pytest.mark.parametrize("model", [lambda: TARGET, native], ids=["toy", "native"])
def test_thousands_of_chats_stay_within_the_bytes(model):
    dice, model = random.Random(7), model()
    size = SLOT_BYTES * PAGE if model is TARGET else page_bytes(model)
    engine, plain = make_engine(model, cache_memory=30 * size), make_engine(model, cache_memory=0)
    beginnings = [[dice.randrange(1, VOCAB) for _ in range(100)] for _ in range(4)]
    for number in range(20):
        for text in random_texts(dice, 100, 90, beginnings):
            prompt = text[:400]
            written = write(engine, prompt, seed=number, max_tokens=2)[0]
            assert engine.kept.bytes <= engine.kept.budget
            if dice.random() < 0.05:
                assert written == write(plain, prompt, seed=number, max_tokens=2)[0]
        assert engine.kept.bytes == count_kept(engine.kept) > 0.5 * engine.kept.budget
    assert engine.kept.dropped > 500
    assert engine.cached_tokens > 0.4 * engine.prompt_tokens


def test_what_is_dropped_is_freed_at_once():
    made = WeakSet()

    class Counted(ToyCache):
        def __init__(self):
            super().__init__()
            made.add(self)

        def fork(self, end):
            forked = Counted()
            forked.slots = super().fork(end).slots
            return forked

    model = ToyModel(VOCAB, make_scores(VOCAB, 1))
    model.open = Counted
    engine = make_engine(model, cache_memory=5 * 210 * SLOT_BYTES)
    gc.collect()
    gc.disable()
    try:
        for number in range(50):
            write(engine, [1 + number % 6, 1 + number // 6, *BEGINNING], max_tokens=2)
            assert len(made) == engine.kept.count <= 5
        engine.close()
        assert len(made) == 0
    finally:
        gc.enable()


def test_the_least_recently_used_go_first():
    engine = make_engine(cache_memory=3 * 210 * SLOT_BYTES)
    one, two, three, four = ([first, *BEGINNING] for first in (1, 2, 3, 4))
    for text in (one, two, three, one, four):
        write(engine, text, max_tokens=2)
    assert [write(engine, text, max_tokens=2)[1] for text in (one, three, four)] == [200, 200, 200]
    assert write(engine, two, max_tokens=2)[1] == 0


def test_a_text_larger_than_all_bytes_drops_no_other():
    engine = make_engine(cache_memory=150 * SLOT_BYTES)
    write(engine, BEGINNING[:100], max_tokens=2)
    write(engine, [2, *BEGINNING], max_tokens=2)
    assert engine.kept.dropped == 0
    assert write(engine, BEGINNING[:100], max_tokens=2)[1] == 99


def test_a_model_is_freed_though_its_caches_are_kept():
    engine, draft = make_engine(), ToyModel(VOCAB, make_scores(VOCAB, 9))
    write(engine, BEGINNING, nt.Speculate(nt.DraftModel(Lent(draft), max_draft=3)), max_tokens=8)
    assert engine.kept.count == 2
    freed = ref(draft)
    engine.timing, draft = FreeTiming(), None
    gc.collect()
    assert freed() is None
    engine.kept.budget = 210 * SLOT_BYTES  # its caches go as any other ones
    write(engine, [2, *BEGINNING[:150]], max_tokens=2)
    assert engine.kept.count == 1


@pytest.mark.parametrize("make", [lambda: native(), lambda: LlamaNumpy(checkpoint("Q8_0"))], ids=["native", "numpy"])
def test_caches_say_what_they_hold(make):
    model = make()
    engine = make_engine(model)
    write(engine, BEGINNING, max_tokens=3)
    [kept] = engine.kept._kept
    config, numbers = checkpoint("Q8_0").config, 2 if model.precision == "fast" else 4
    token = 2 * config.layers * config.kv_heads * config.head_width * numbers
    slots = 4 * PAGE if model.backend == "native" else len(kept.tokens)
    assert sum(kept.cache.pages().values()) == engine.kept.bytes == slots * token


def test_the_torch_cache_says_what_it_holds():
    pytest.importorskip("torch")
    from nextok.models.torch.devices import load_torch

    model = load_torch(checkpoint("Q8_0"), "cpu", exact=True, threads=1)
    engine = make_engine(model)
    first, _ = write(engine, BEGINNING, max_tokens=3, stop_ids=frozenset())
    [kept] = engine.kept._kept
    config = checkpoint("Q8_0").config
    assert engine.kept.bytes == len(kept.tokens) * 2 * config.layers * config.kv_heads * config.head_width * 4
    assert write(engine, [*BEGINNING, *first[0], 1], max_tokens=2)[1] == len(BEGINNING) + 2


# --- no text changes --------------------------------------------------------------------------------------------


class Unreliable:
    """A toy model some passes of which fail when they have spoilt what their caches hold."""

    backend, precision, rounds_by_shape, bytes_per_token = "toy", "exact", False, 1

    def __init__(self, seed, share):
        self.inner = ToyModel(VOCAB, make_scores(VOCAB, 1))
        self.vocab_size, self.context, self.open = VOCAB, self.inner.context, self.inner.open
        self.dice, self.share = random.Random(seed), share

    def answer(self, feeds, rows):
        answers = self.inner.answer(feeds, rows)
        if self.dice.random() < self.share:
            for feed in feeds:
                for slot, (position, token) in feed.cache.slots.items():
                    feed.cache.slots[slot] = (position, (token + 1) % VOCAB)
            raise RuntimeError("spoilt")
        return answers


@pytest.mark.parametrize("share", [0.0, 0.1])
@pytest.mark.parametrize("seed", range(12))
def test_random_mixes_with_cancellations_and_failing_passes_give_the_texts_of_the_reference(seed, share):
    dice = random.Random(seed)
    beginnings = [BEGINNING[:110], BEGINNING[:70] + [1, 2, 3] * 10]
    engine = make_engine(
        Unreliable(seed, share),
        cache_memory=dice.choice([1500, 6000, 20000, MUCH]),
        budget=dice.choice([7, 64, 512]),
        seats=dice.choice([1, 3, 8]),
    )
    names, seen = sorted(STRATEGIES), 0
    for text in random_texts(dice, 25, 12, beginnings):
        running = []
        for number in range(dice.randrange(1, 4)):
            name, prompt = dice.choice(names), text[: dice.randrange(1, len(text) + 1)]
            request = asked(prompt, seed=number, max_tokens=6)
            running.append((name, prompt, number, request))
            job = engine.submit(request, STRATEGIES[name], lambda event: None)
            if dice.random() < 0.2:
                for _ in range(dice.randrange(4)):
                    engine.step()
                engine.cancel(job)
            del job
        engine.run()
        for name, prompt, number, request in running:
            plain = asked(prompt, seed=number, max_tokens=6)
            by_reference(STRATEGIES[name], plain)
            if request.finish_reason in ("cancelled", "error"):
                beams = "beam" in name
                assert beams or request.tokens == plain.tokens[: len(request.tokens)]
            else:
                assert outcome(request) == outcome(plain)
                seen += 1
        assert engine.kept.bytes == count_kept(engine.kept) <= engine.kept.budget
    assert seen > 10
    assert engine.cached_tokens > 0


def test_without_the_rule_for_failing_passes_texts_would_change(monkeypatch):
    """The control: it is the dropping of uncertain caches that keeps the texts right."""

    def write_twice():
        model = Unreliable(0, 0.0)
        engine = make_engine(model)
        engine.submit(asked(BEGINNING, max_tokens=3), nt.Greedy(), lambda event: None)
        model.share = 1.0
        engine.run()
        model.share = 0.0
        return write(engine, BEGINNING, max_tokens=8)

    text, cached = write_twice()
    assert (text, cached) == write(make_engine(), BEGINNING, max_tokens=8)
    monkeypatch.setattr(Engine, "_forget", lambda *_: None)
    assert write_twice() != (text, cached)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_native_texts_are_the_same_to_the_last_bit_of_their_scores(exact, seed):
    dice, model = random.Random(seed), native(exact)
    draft = Lent(native(exact, seed=2))
    strategies = [
        nt.Greedy(),
        nt.Sample(temperature=0.9),
        nt.Beam(3),
        nt.Speculate(nt.PromptLookup(max_draft=4, shortest=1), nt.Sample()),
        nt.Speculate(nt.DraftModel(draft, max_draft=3), nt.Sample(temperature=0.8)),
        nt.Speculate(nt.TokenTree(draft, widths=(2, 2))),
    ]
    engine = make_engine(model, cache_memory=dice.choice([20, 60]) * page_bytes(model), budget=dice.choice([48, 512]))
    for text in random_texts(dice, 30, 30, [BEGINNING[:130]]):
        prompt, strategy = text[:300], dice.choice(strategies)
        events, request = [], asked(prompt, seed=3, max_tokens=8, logprobs=2)
        engine.submit(request, strategy, events.append)
        engine.run()
        assert events == by_engine(strategy, asked(prompt, seed=3, max_tokens=8, logprobs=2), model)
        del request
    assert engine.cached_tokens > 0


def test_a_cache_that_cannot_be_kept_harms_no_request(caplog):
    class Full(ToyCache):
        def fork(self, end):
            raise MemoryError("no room")

    model = ToyModel(VOCAB, make_scores(VOCAB, 1))
    engine = make_engine(model)
    write(engine, BEGINNING, max_tokens=3)
    model.open = Full
    other = [2, *BEGINNING]
    assert write(engine, other, max_tokens=3)[0] == write(make_engine(), other, max_tokens=3)[0]
    assert (engine.kept.count, engine.kept.bytes) == (0, 0)
    assert "MemoryError" in caplog.text


# --- what is told, and how it is set ----------------------------------------------------------------------------


def tiny(cache_memory):
    return LM(ToyModel(LETTERS, make_scores(LETTERS, 5), 2048), tiny_tokenizer(), "tiny", cache_memory=cache_memory)


LONG = "The sea is deep and the sky is high, and all the birds fly over it, day and night, to the end. "


def test_an_output_says_how_many_tokens_of_its_prompt_were_cached():
    lm = tiny(MUCH)
    first = lm.generate(LONG, max_tokens=4, n=3)
    assert first.stats.cached_tokens == 0
    assert lm.generate(LONG, max_tokens=4).stats.cached_tokens == len(LONG) - 1
    asked_for = lm.generate(LONG, max_tokens=4, prompt_logprobs=True).stats
    assert asked_for.cached_tokens == 0  # all of it was read again
    one, two = lm.generate([LONG + "Yes", LONG + "No"], max_tokens=2)
    assert (one.stats.cached_tokens, two.stats.cached_tokens) == (len(LONG), len(LONG))
    assert lm.generate("another text", max_tokens=2).stats.cached_tokens == 0
    assert lm.engine.cached_tokens == sum([len(LONG) - 1, *[len(LONG)] * 2])


def test_a_conversation_finds_its_turns_and_so_does_one_that_begins_anew():
    lm = tiny(MUCH)
    chat = nt.Conversation(lm)
    counts = []
    for text in (LONG, "And then?", "Why?"):
        counts.append(chat.ask(text, max_tokens=6, ignore_eos=True).wait().stats.cached_tokens)
    assert counts[0] == 0
    assert counts[1] > len(LONG)
    assert counts[2] > counts[1]
    messages = chat.messages
    del chat
    gc.collect()
    answer = lm.chat([*messages, {"role": "user", "content": "Really?"}], max_tokens=6)
    assert answer.stats.cached_tokens > counts[2]
    assert answer.text == tiny(0).chat([*messages, {"role": "user", "content": "Really?"}], max_tokens=6).text


def test_echo_counts_as_read_again_in_every_chunk():
    engine = make_engine(budget=32)
    write(engine, BEGINNING, max_tokens=2)
    assert write(engine, BEGINNING, Echo(nt.Greedy()), max_tokens=2, logprobs=0)[1] == 0


def test_a_closed_engine_keeps_nothing():
    engine = make_engine()
    write(engine, BEGINNING)
    assert engine.kept.count == 1
    engine.close()
    engine.step()
    assert (engine.kept.count, engine.kept.bytes) == (0, 0)


def test_after_a_fork_the_child_begins_with_no_caches_and_the_same_bytes():
    runner = Runner(make_engine(cache_memory=12345))
    write(runner.engine, BEGINNING, max_tokens=2)
    text = write(runner.engine, BEGINNING, max_tokens=5)[0]
    if hasattr(os, "fork"):
        child = os.fork()
        if not child:
            engine = runner.engine
            right = (engine.kept.count, engine.kept.budget) == (0, 12345)
            os._exit(0 if right and write(engine, BEGINNING, max_tokens=5) == (text, 0) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert runner.engine.kept.count == 1


@pytest.mark.parametrize("wrong", [-1, True, "1GB", 1.5, float("nan")])
def test_a_wrong_number_of_bytes_is_refused_before_anything_is_loaded(wrong):
    with pytest.raises(ValueError, match=r"cache_memory must be a whole number from 0 up, got"):
        nt.load("no such model", cache_memory=wrong)
    with pytest.raises(ValueError, match="cache_memory"):
        LM(tiny_lm().model, tiny_tokenizer(), cache_memory=wrong)
