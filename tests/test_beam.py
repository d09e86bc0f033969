"""Beam search on models small enough to enumerate: the best text, patience, masks, dead ends, streaming."""

import itertools
import math
from dataclasses import dataclass
from functools import cache

import pytest

import nextok as nt
from nextok.core.events import Beams, Token
from nextok.core.tree import ROOT, Tree
from nextok.engine.engine import Engine
from nextok.errors import DeadEndError
from nextok.models.toy import ToyModel, make_scores
from nextok.sampling.edits import Allow, Forbid
from nextok.sampling.penalties import FrequencyPenalty
from nextok.sampling.transforms import Temperature, TopK
from nextok.strategies.beam.beam import Beam
from nextok.strategies.beam.search import last_in_common
from nextok.strategies.sample import Chain, Greedy, Sample
from tiny import saying, tiny_lm
from toys import BEAMS, STOP, TARGET, VOCAB, asked, by_engine, by_reference, outcome

PROMPT = (2, 5)


def log_softmax(logits):
    total = math.log(sum(math.exp(logit) for logit in logits if logit > -math.inf))
    return [logit - total for logit in logits]


@cache
def model_logprobs(text, prompt=PROMPT):
    """The log-probability of each token after the prompt and `text`, from the model's own definition."""
    return log_softmax(TARGET._scores((*prompt, *text)))


def finished(events):
    """The finished hypotheses at the end."""
    return [event for event in events if isinstance(event, Beams)][-1].finished


def found(request, events):
    """The finished texts at the end, best first, with their scores."""
    return [(request.tree.path(each.node, above=request.prompt), each.score) for each in finished(events)]


# --- the best text ---------------------------------------------------------------------------------------------


def every_text(logprobs, length):
    """All finished texts of at most `length` tokens, with their log-probabilities."""
    texts, open_texts = {}, {(): 0.0}
    while open_texts:
        text, total = open_texts.popitem()
        for token, logprob in enumerate(logprobs(text)):
            if logprob > -math.inf:
                ends = token == STOP or len(text) + 1 == length
                (texts if ends else open_texts)[*text, token] = total + logprob
    return texts


def cooled_and_rarer(text):
    """What Temperature(0.7) and FrequencyPenalty(1.5) make of the scores, by their definitions."""
    logits = TARGET._scores((*PROMPT, *text))
    return log_softmax([(logit - 1.5 * text.count(token)) / 0.7 for token, logit in enumerate(logits)])


@dataclass(frozen=True)
class Alternate:
    """A grammar in miniature: even and odd tokens take turns, and only an odd one may be followed by a stop."""

    def at(self, past):
        last = past.last(1)[0]
        allowed = [token for token in range(VOCAB) if (token - last) % 2 and (token != STOP or last % 2)]
        return Allow(bytes([sum(1 << token for token in allowed)]))


def alternating(text):
    last = (*PROMPT, *text)[-1]
    logits = TARGET._scores((*PROMPT, *text))
    return log_softmax([logit if (token - last) % 2 else -math.inf for token, logit in enumerate(logits)])


PENALTIES = Chain((FrequencyPenalty(1.5), Temperature(0.7)), draw=False)
WORLDS = {
    "plain": (model_logprobs, Greedy(), ()),
    "penalties": (cooled_and_rarer, PENALTIES, ()),
    "grammar": (alternating, Greedy(), (Alternate(),)),
}


def masked(prompt, masks, **wanted):
    return asked(prompt, masks=masks, **wanted)


@pytest.mark.parametrize("penalty", [0.0, 1.0])
@pytest.mark.parametrize("world", WORLDS)
def test_a_wide_beam_finds_the_best_texts_there_are(world, penalty):
    logprobs, sampling, masks = WORLDS[world]
    texts = every_text(logprobs, 3)
    best = sorted(((total / len(text) ** penalty, list(text)) for text, total in texts.items()), reverse=True)
    request = masked(PROMPT, masks, max_tokens=3)
    events = by_engine(Beam(VOCAB**2, penalty, "never", n=5, sampling=sampling), request, TARGET)
    for (tokens, score), (expected_score, expected) in zip(found(request, events)[:5], best):
        assert tokens == expected
        assert score == pytest.approx(expected_score, abs=1e-5)


def test_negative_control_penalties_and_grammar_change_what_is_best():
    best = {
        world: max(every_text(logprobs, 3).items(), key=lambda item: item[1])
        for world, (logprobs, *_) in WORLDS.items()
    }
    assert len({text for text, _ in best.values()}) == 3


# --- patience ----------------------------------------------------------------------------------------------------


def patient(width, patience, penalty, max_tokens, prompt):
    """Beam search as Kasai et al. describe it, restated over plain tuples: wait for patience * width texts.

    As in transformers, of 2 * width candidates an ending counts if it ranks within the width.
    """
    live, done, step = [((), 0.0)], [], 0
    while live and len(done) < max(1, int(patience * width + 0.5)):
        step += 1
        candidates = sorted(
            (((*text, t), total + lp) for text, total in live for t, lp in enumerate(model_logprobs(text, prompt))),
            key=lambda candidate: -candidate[1],
        )[: 2 * width]
        over = [text[-1] == STOP or step == max_tokens for text, _ in candidates]
        done += [candidates[i] for i in range(min(width, len(candidates))) if over[i]]
        live = [candidate for candidate, end in zip(candidates, over) if not end][:width]
    scored = sorted(((total / len(text) ** penalty, text) for text, total in done), key=lambda each: -each[0])
    return scored, step


@pytest.mark.parametrize("patience", [0.3, 0.5, 1.0, 1.6, 4.0])
@pytest.mark.parametrize("width", [1, 2, 4])
def test_patience_multiplies_the_texts_waited_for(width, patience):
    for first in range(VOCAB):
        request = asked([first, 3], max_tokens=9)
        events = by_engine(Beam(width, 0.7, True, patience=patience), request)
        expected, steps = patient(width, patience, 0.7, 9, (first, 3))
        assert sum(isinstance(event, Beams) for event in events) == steps
        assert tuple(request.tokens) == expected[0][1]
        for (tokens, score), (expected_score, text) in zip(found(request, events), expected):
            assert (tuple(tokens), score) == (text, pytest.approx(expected_score, abs=1e-5))


def test_more_patience_never_finds_a_worse_text_and_sometimes_a_better_one():
    better = 0
    for seed in range(30):
        model, scores = ToyModel(VOCAB, make_scores(VOCAB, seed)), []
        for patience in (0.5, 1.0, 3.0):
            request = asked([1], max_tokens=10)
            scores.append(found(request, by_engine(Beam(2, 1.0, True, patience=patience), request, model))[0][1])
        assert scores == sorted(scores)
        better += scores[0] < scores[-1]
    assert better > 5


# --- independent of company, and cheap ------------------------------------------------------------------------------


def test_a_prompt_is_read_once_for_all_beams():
    width, length, prompt = 4, 6, list(PROMPT) * 20
    engine = Engine(TARGET)
    request = asked(prompt, max_tokens=length, stop_ids=frozenset())
    engine.submit(request, Beam(width), lambda event: None)
    engine.run()
    assert engine.tokens_read == len(prompt) + width * (length - 1)


def test_beams_do_not_depend_on_who_is_in_the_batch():
    prompts = [[first, second] for first in range(VOCAB) for second in (1, 4)]
    engine = Engine(TARGET, budget=9)
    crowd = [(asked(prompt, seed=7), name, []) for prompt, name in zip(prompts, itertools.cycle(BEAMS))]
    for request, name, events in crowd:
        engine.submit(request, BEAMS[name], events.append)
    engine.run()
    for (request, name, events), prompt in zip(crowd, prompts):
        alone = asked(prompt, seed=7)
        assert events == by_reference(BEAMS[name], alone)
        assert outcome(request) == outcome(alone)


# --- dead ends ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wall:
    """Nothing can follow `token`."""

    token: int

    def at(self, past):
        return Forbid(frozenset(range(VOCAB))) if past.last(1)[0] == self.token else None


@pytest.mark.parametrize("name", BEAMS)
def test_a_beam_that_can_go_nowhere_dies_and_the_others_go_on(name):
    reached = 0
    for seed in range(10):
        request = masked([1, seed % VOCAB or 1], (Wall(3),), seed=seed, max_tokens=6)
        try:
            list(by_reference(BEAMS[name], request))
        except DeadEndError:
            reached += 1  # where all beams ran into it
            continue
        assert 3 not in request.tokens[:-1]
    assert reached < 10


@pytest.mark.parametrize("name", BEAMS)
def test_when_every_beam_dies_the_request_ends_in_a_dead_end(name):
    for masks in [(Forbid(frozenset(range(VOCAB))),), (Wall(4), Allow(bytes([1 << 4])))]:
        request = masked([1], masks)
        events = by_engine(BEAMS[name], request)
        assert request.finish_reason == "error"
        assert isinstance(request.error, DeadEndError)
        assert events[-1].reason == "error"


def test_of_a_dead_end_the_output_has_the_text_before_it():
    lm = tiny_lm(saying("abc"))
    lm_masks = {"allowed_token_ids": [ord("a")], "bad_words": [[ord("a"), ord("a")]]}
    output = lm.generate(["x\n"], nt.Beam(2), max_tokens=5, **lm_masks)[0]
    assert isinstance(output.error, DeadEndError)
    assert output.text == "a"


# --- what is streamed -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 5, 40])
def test_the_last_common_ancestor(size):
    tree = Tree()
    nodes = [tree.add(ROOT, 0)]
    for step in range(400):
        nodes.append(tree.add(nodes[(step * 7919) % len(nodes)], step))
    for start in range(0, 400, 23):
        chosen = [nodes[(start + step * 37) % len(nodes)] for step in range(size)]
        paths = [tree.nodes(node) for node in chosen]
        common = [level[0] for level in zip(*paths) if len(set(level)) == 1]
        assert last_in_common(tree, chosen) == common[-1]


NAMES = [b"", b"ab", b"b", b"ca", b"\xe2\x82", b"\xac", b"a"]
ENDINGS = {
    "stop token": {"stop_ids": frozenset({STOP})},
    "stop string": {"stop_ids": frozenset(), "stop": (b"bc", "€".encode(), b"aab")},
    "late": {"min_tokens": 5, "stop": (b"b",)},
    "context": {"context": 9, "max_tokens": 30},
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", BEAMS)
def test_what_is_committed_early_begins_every_later_best_text(name, ending):
    early, overtaken = 0, 0
    for seed in range(12):
        leaders = []
        request = asked([1, seed % VOCAB], seed=seed, token_bytes=NAMES, **ENDINGS[ending])
        committed, ends = [], []
        for event in by_reference(BEAMS[name], request):
            if isinstance(event, Token):
                committed.append(event.token)
            elif isinstance(event, Beams):
                early += len(committed) > 0
                best = request.tree.path((event.finished or event.live)[0].node, above=request.prompt)
                assert best[: len(committed)] == committed
                assert all(request.ending(each.node) for each in event.finished)
                assert not any(request.ending(each.node) for each in event.live)
                ends = event.finished
                leader = max((*event.finished, *event.live), key=lambda beam: beam.score)
                leaders.append(request.tree.path(leader.node, above=request.prompt))
        assert committed == request.tokens == request.tree.path(ends[0].node, above=request.prompt)
        assert request.finish_reason == request.ending(ends[0].node)
        overtaken += any(leader != committed[: len(leader)] for leader in leaders)
    if name == "stochastic beam":
        assert overtaken == 0  # the largest G stays the largest
    else:
        assert early > 0
        assert overtaken > 0 or name == "beam 1"  # the negative control: to commit the best beam would be wrong


SEVERAL = {
    "one": nt.Beam(3),
    "n best": nt.Beam(4, n=3, length_penalty=0.0),
    "drawn": nt.Beam(3, sampling=nt.Sample(top_k=4), n=2),
    "diverse": nt.DiverseBeam(4, 2, 1.0, n=3),
    "stochastic": nt.StochasticBeam(3),
}


@pytest.mark.parametrize("stop", [(), ("ae", "é"), ("xy", "q")], ids=str)
@pytest.mark.parametrize("name", SEVERAL)
def test_pieces_join_to_the_text_that_is_returned(name, stop):
    lm = letters()
    for seed in range(8):
        stream = lm.stream(f"ab{seed}", SEVERAL[name], max_tokens=9, seed=seed, stop=stop)
        pieces = [piece.text for piece in stream]
        assert "".join(pieces) == stream.output().text
        assert not any(each in choice.text for each in stop for choice in stream.output().choices)


def joined(stream):
    """The text of the pieces that wait to be read."""
    return "".join(text for text, _, _ in stream._generation._writers[0].pieces)


@pytest.mark.parametrize("name", SEVERAL)
def test_a_stream_cut_short_takes_nothing_back(name):
    lm = letters()
    for steps in range(1, 9):
        stream, pieces = lm.stream("abc", SEVERAL[name], max_tokens=9, seed=4, stop=("zz",)), []
        for _ in range(steps):
            lm.engine.step()
        pieces = joined(stream)
        lm.engine.cancel(stream._generation._jobs[0])
        assert joined(stream).startswith(pieces)
        assert stream.output().text.startswith(joined(stream))


def letters():
    """A model of random texts over few letters and two halves of one character."""
    scores = make_scores(259, 5)
    likely = {ord("a"), ord("e"), ord("q"), ord("x"), ord("y"), ord("z"), 0xC3, 0xA9, 257}
    return tiny_lm(lambda path: [each + 12 * (token in likely) for token, each in enumerate(scores(path))])


def test_text_that_is_certain_is_shown_while_the_search_goes_on():
    lm = tiny_lm(saying("A sure thing."))
    stream = lm.stream("x\n", nt.Beam(3), max_tokens=13, ignore_eos=True)
    shown = ""
    while not stream.finished:
        lm.engine.step()
        shown = joined(stream)
        if shown.startswith("A sure"):
            break
    assert not stream.finished
    assert stream.wait().text == "A sure thing."


# --- scores and log-probabilities -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "strategy",
    [
        nt.Beam(4, n=3, length_penalty=0.0),
        nt.Beam(3, n=3, length_penalty=0.0, sampling=nt.Sample(temperature=0.6, top_k=30)),
        nt.Beam(3, n=2, length_penalty=0.0, sampling=nt.Greedy(repetition_penalty=1.4, frequency_penalty=0.5)),
        nt.Beam(2, n=2, length_penalty=0.0, sampling=nt.Chain((TopK(9), nt.Mirostat(tau=2.0)), draw=False)),
        nt.DiverseBeam(4, 2, 0.8, n=4, length_penalty=0.0, sampling=nt.Greedy(presence_penalty=1.0)),
        nt.Beam(3, n=2, length_penalty=0.0, sampling=nt.Sample(xtc=nt.XTC(0.5, 0.001))),
        nt.StochasticBeam(3, nt.Sample(temperature=1.5, xtc=nt.XTC(0.5, 0.001))),
    ],
    ids=repr,
)
def test_processed_logprobs_add_up_and_raw_ones_are_the_models(strategy):
    lm, ids = tiny_lm(), [97, 98, 99]
    stream = lm.stream(ids, strategy, max_tokens=7, seed=3, logprobs=2, forbidden_token_ids=[5])
    output = stream.wait()
    ends = stream._generation._writers[0]._beams.finished
    assert len(output.choices) == min(strategy.texts(), len(ends))
    for choice, hypothesis in zip(output.choices, ends):
        assert [each.token for each in choice.logprobs] == choice.tokens
        assert sum(each.processed for each in choice.logprobs) == pytest.approx(hypothesis.logprob, abs=1e-5)
        raw = lm.score([*ids, *choice.tokens]).logprobs[len(ids) :]
        assert [each.logprob for each in choice.logprobs] == pytest.approx(raw, abs=1e-6)
        assert choice.score == hypothesis.score
        if not isinstance(strategy, nt.StochasticBeam):
            assert choice.score == hypothesis.logprob  # no length penalty


@pytest.mark.parametrize("strategy", SEVERAL.values(), ids=SEVERAL)
def test_n_is_for_a_beam_search_to_say(strategy):
    lm = tiny_lm()
    with pytest.raises(ValueError, match="n counts samples, got n=2"):
        lm.generate("x", strategy, n=2)
    assert len(lm.generate("x", strategy, max_tokens=4, seed=1).choices) == strategy.texts()
    with pytest.raises(ValueError, match="sampling must be"):
        nt.Speculate(nt.PromptLookup(), strategy)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: nt.Beam(2, patience=0), "patience must be above 0"),
        (lambda: nt.Beam(2, patience=math.inf), "patience must be a finite"),
        (lambda: nt.Beam(4, n=3, patience=0.5), r"n must be from 1 to patience \* width \(2\)"),
        (lambda: nt.Beam(4, sampling=nt.Beam(2)), "sampling must be Greedy"),
        (lambda: nt.Beam(4, sampling=nt.Sample), "sampling must be Greedy"),
        (lambda: nt.DiverseBeam(4, 3, 1.0), "multiple of groups"),
        (lambda: nt.DiverseBeam(4, 0, 1.0), "groups must be"),
        (lambda: nt.DiverseBeam(4, 2, -1.0), "diversity must be"),
        (lambda: nt.DiverseBeam(4, 2, 1.0, n=5), "n must be from 1 to 4"),
        (lambda: nt.DiverseBeam(4, 2, 1.0, sampling=nt.Sample()), "does not draw"),
        (lambda: nt.StochasticBeam(0), "width must be"),
        (lambda: nt.StochasticBeam(2, nt.Sample(temperature=0)), "a stochastic beam draws"),
        (lambda: nt.StochasticBeam(2, nt.Greedy()), "a stochastic beam draws"),
    ],
)
def test_impossible_settings_are_refused_by_name(build, says):
    with pytest.raises(ValueError, match=says):
        build()


def test_sampling_changes_what_beams_find():
    plain, shaped = asked(PROMPT, max_tokens=6), asked(PROMPT, max_tokens=6)
    by_engine(Beam(3), plain)
    by_engine(Beam(3, sampling=Sample(temperature=3.0)), shaped)
    assert plain.tokens != shaped.tokens
