"""Everything with everything: strategies, drafts, samplers, masks, log-probabilities, stops, batches of 1 and 8."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nextok as nt
from nextok.core.events import Chosen
from nextok.core.request import Request
from nextok.engine.engine import Engine
from nextok.errors import NextokError
from nextok.sampling.edits import Add, Allow, Forbid
from nextok.sampling.penalties import BadWords
from nextok.strategies.rescore import Echo
from nextok.strategies.speculate import Speculate
from nextok.text.from_gguf import build_tokenizer
from nextok.text.vocabulary import build_byte_alphabet
from toys import BEAMS, DRAFTS, SAMPLINGS, SHAPED, STOP, TARGET, VOCAB, asked, by_reference

SAMPLERS = SAMPLINGS | SHAPED
STRATEGIES = SAMPLERS | BEAMS  # those that may be speculated on, and those that may not
MASKS = {
    "none": (),
    "bias": (Add((1, 4), (2.5, -2.5)),),
    "allowed": (Allow(bytes([0b1011011])),),
    "forbidden": (Forbid(frozenset({2, 5})),),
    "bad words": (BadWords(((3,), (1, 2), (4, 4), (6, 1, 6))),),
    "all": (Add((2,), (1.0,)), Allow(bytes([0b1110111])), BadWords(((5,), (1, 1), (2, 6)))),
    "dead end": (Forbid(frozenset(range(1, VOCAB))), BadWords(((0,),))),
}
NAMES = (b"", b"ab", b"b", b"ca", b"\xe2\x82", b"\xac", b"a")
PATTERN = "(ab|b|(ca){2}|€){0,5}a*"
STOPS = {"none": (), "short": (b"ca",), "across tokens": (b"bc", "€".encode(), b"aab")}
REQUESTS = st.fixed_dictionaries(
    {
        "strategy": st.sampled_from(sorted(STRATEGIES)),
        "draft": st.none() | st.sampled_from(sorted(DRAFTS)),
        "masks": st.sampled_from([*sorted(MASKS), "grammar", "grammar"]),
        "stop": st.sampled_from(sorted(STOPS)),
        "prompt": st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=8),
        "seed": st.integers(0, 5),
        "logprobs": st.none() | st.integers(0, 3),
        "prompt_logprobs": st.booleans(),
        "max_tokens": st.integers(3, 12),
        "min_tokens": st.integers(0, 3),
        "context": st.none() | st.integers(10, 16),
    }
)


def compiled(pattern):
    """A grammar over the toys' vocabulary."""
    letters = {byte: letter for letter, byte in build_byte_alphabet().items()}
    metadata = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": ["<eos>", *("".join(letters[byte] for byte in name) for name in NAMES[1:])],
        "tokenizer.ggml.token_type": [3] + [1] * (VOCAB - 1),
        "tokenizer.ggml.merges": ["a b"],
        "tokenizer.ggml.eos_token_id": STOP,
    }
    return nt.Grammar.regex(pattern).compile(build_tokenizer(metadata), VOCAB, frozenset({STOP}))


GRAMMAR = compiled(PATTERN)


def masks_of(name):
    """The masks of one request; how far it has come in a grammar is its own affair."""
    return (GRAMMAR.begin(),) if name == "grammar" else MASKS[name]


def asked_for(spec) -> Request:
    return asked(
        spec["prompt"],
        seed=spec["seed"],
        logprobs=spec["logprobs"],
        masks=masks_of(spec["masks"]),
        max_tokens=spec["max_tokens"],
        min_tokens=spec["min_tokens"],
        context=spec["context"],
        stop=STOPS[spec["stop"]],
        token_bytes=NAMES,
    )


def strategy_of(spec, draft):
    plain = STRATEGIES[spec["strategy"]]
    strategy = Speculate(DRAFTS[draft], plain) if draft and spec["strategy"] in SAMPLERS else plain
    return Echo(strategy) if spec["prompt_logprobs"] else strategy


def told(request, events):
    """What must not depend on who else is there: tokens, ending, and the log-probabilities of the text."""
    chosen = {(each.node, each.token): each for each in events if isinstance(each, Chosen)}
    nodes = request.tree.nodes(request.tip)
    keys = [(request.tree.parent[node], request.tree.token[node]) for node in nodes]
    figures = [
        (each.logprob, each.top, each.processed, each.processed_top) if (each := chosen.get(key)) else None
        for key in keys
    ]
    return request.tokens, request.finish_reason, type(request.error), figures


def in_engine(specs, budget=512, target=TARGET):
    engine, heard = Engine(target, budget=budget), []
    for spec in specs:
        request, events = asked_for(spec), []
        engine.submit(request, strategy_of(spec, spec["draft"]), events.append)
        heard.append((request, events))
    engine.run()
    return [told(request, events) for request, events in heard]


def by_definition(spec):
    """Alone, without engine, cache and draft."""
    request, events = asked_for(spec), []
    try:
        events = by_reference(strategy_of(spec, None), request)
    except (NextokError, IndexError) as error:
        request.finish("error", error)
        return request.tokens, "error", type(error), None
    return told(request, events)


def agree(found, expected):
    if expected[1] == "error":  # how far its figures came before is not promised
        return found[1:3] == expected[1:3]
    return found == expected


def keeps_its_rules(spec, tokens, reason):
    """What the text shows, without a second run."""
    masks, text = spec["masks"], [*spec["prompt"], *tokens]
    assert len(tokens) <= spec["max_tokens"]
    assert len(tokens) >= spec["min_tokens"] or reason in ("context", "error")
    assert 0 not in tokens[: spec["min_tokens"]]
    if masks == "forbidden":
        assert not {2, 5} & {*tokens}
    if masks == "allowed":
        assert not {2, 5} & {*tokens}
    if masks == "grammar":
        written = b"".join(NAMES[token] for token in tokens)
        complete = reason == "stop" and spec["stop"] == "none"
        assert not complete or re.fullmatch(PATTERN, written.decode())
    if masks == "bad words":
        for word in ((3,), (1, 2), (4, 4), (6, 1, 6)):
            for end in range(len(spec["prompt"]) + 1, len(text) + 1):
                assert tuple(text[max(0, end - len(word)) : end]) != word
    written = b"".join(NAMES[token] for token in tokens)
    if reason != "stop" and not spec["min_tokens"]:
        assert not any(stop in written for stop in STOPS[spec["stop"]])


@settings(max_examples=200, deadline=None)  # eight requests each
@given(st.lists(REQUESTS, min_size=8, max_size=8), st.sampled_from([1, 3, 512]))
def test_any_eight_requests_are_each_what_they_are_by_definition(specs, budget):
    together = in_engine(specs, budget)
    for spec, found in zip(specs, together):
        expected = by_definition(spec)
        assert agree(found, expected), (spec, found, expected)
        keeps_its_rules(spec, *found[:2])
    [alone] = in_engine(specs[:1], budget)
    assert agree(alone, together[0])


@pytest.mark.parametrize("sampling", SHAPED)
@pytest.mark.parametrize("draft", DRAFTS)
def test_speculation_never_changes_a_shaped_text(draft, sampling):
    for seed in range(6):
        spec = {
            "strategy": sampling,
            "draft": draft,
            "masks": ["none", "bias", "all"][seed % 3],
            "stop": "none",
            "prompt": [(seed * k) % VOCAB for k in range(1, 5)],
            "seed": seed,
            "logprobs": 2,
            "prompt_logprobs": False,
            "max_tokens": 20,
            "min_tokens": 12,
            "context": None,
        }
        [found] = in_engine([spec])
        assert agree(found, by_definition(spec))


@pytest.mark.model
def test_on_the_default_model_no_draft_and_no_neighbour_changes_a_shaped_text():
    lm = nt.load("smollm2")
    prompts = ["I like the sea. I like the sky. I like", "One, two, three, four; one, two, three,"] * 2
    wishes = {"max_tokens": 16, "min_tokens": 4, "seed": 3, "bad_words": ["like the sky"], "stop": ["zzz"]}
    for sampling in (SHAPED["all at once"], SHAPED["mirostat 2"]):
        plain = [lm.generate(prompt, sampling, **wishes).tokens for prompt in prompts[:2]]
        for draft in (nt.PromptLookup(), nt.DraftModel(lm, max_draft=3), nt.TokenTree(lm, widths=(2, 2))):
            outputs = lm.generate(prompts, Speculate(draft, sampling), **wishes)
            assert [output.tokens for output in outputs] == plain * 2


def test_the_samplers_do_something():
    """Each shaped sampler writes another text than the plain one of its kind, so that the laws are not empty."""
    for name, sampling in SHAPED.items():
        plain = SAMPLINGS["plain" if sampling.sampler.noise else "greedy"]
        differ = 0
        for seed in range(20):
            shaped, other = (asked([1, 2], seed=seed, max_tokens=20, stop_ids=frozenset()) for _ in range(2))
            by_reference(sampling, shaped)
            by_reference(plain, other)
            differ += shaped.tokens != other.tokens
        assert differ > 0, name


def test_negative_control_a_mu_that_is_not_remembered_is_noticed(monkeypatch):
    monkeypatch.setattr(Request, "learn", lambda *arguments: None)
    spec = {
        "strategy": "mirostat 2",
        "draft": None,
        "masks": "none",
        "stop": "none",
        "prompt": [1],
        "seed": 1,
        "logprobs": None,
        "prompt_logprobs": False,
        "max_tokens": 12,
        "min_tokens": 12,
        "context": None,
    }
    forgetful = by_definition(spec)
    monkeypatch.undo()
    assert forgetful != by_definition(spec)
