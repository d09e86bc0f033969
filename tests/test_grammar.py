"""Structured output: whatever the strategy, the text is in the language, and the mask removes nothing else."""

import itertools
import json
import re
import subprocess
import sys
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nextok as nt
from nextok.core.ending import Limits
from nextok.core.query import Pick, Query
from nextok.core.request import Request
from nextok.core.tree import ROOT, Tree
from nextok.engine.timing import FreeTiming
from nextok.errors import DeadEndError, NextokError
from nextok.grammar.matching import MOST_STATES
from nextok.lm import LM
from nextok.models.toy import ToyModel, make_scores
from nextok.sampling.sampler import Sampler
from nextok.text.from_folder import read_tokenizer
from nextok.text.from_gguf import build_tokenizer
from test_tokenizer import sentencepiece_folder, small
from tiny import EOS, USER, VOCAB, saying, tiny_lm, tiny_tokenizer
from toys import by_engine, by_reference

DATE = r"(19|20)[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "likes": {"type": "array", "items": {"enum": ["tea", "rain"]}, "maxItems": 2},
    },
    "required": ["name", "age", "likes"],
    "additionalProperties": False,
}
BALANCED = 'start: part part?\npart: "(" part? ")" | "[" part? "]" | "x"'
BALANCED_GBNF = 'root ::= part part?\npart ::= "(" part? ")" | "[" part? "]" | "x"'
CITIES = ["Rome", "Rome, Italy", "Île-de-France", "世界", 'the "old" town', "a/b\\c\n"]


def is_person(text):
    value = json.loads(text)
    return (
        list(value) == ["name", "age", "likes"]
        and isinstance(value["name"], str)
        and len(value["name"]) <= 12
        and type(value["age"]) is int
        and 0 <= value["age"] <= 120
        and len(value["likes"]) <= 2
        and set(value["likes"]) <= {"tea", "rain"}
    )


def is_balanced(text):
    return bool(text) and reduced(text, twice=True)


def reduced(text, twice=False):
    """Whether `text` is a part, or with `twice` one or two of them: taken apart by hand, as the grammar says."""
    if twice and any(reduced(text[:cut]) and reduced(text[cut:]) for cut in range(1, len(text))):
        return True
    return text == "x" or (
        len(text) > 1 and text[0] + text[-1] in ("()", "[]") and (len(text) == 2 or reduced(text[1:-1]))
    )


GRAMMARS = {
    "choices": (nt.Grammar.choices(CITIES), CITIES.__contains__),
    "regex": (nt.Grammar.regex(DATE), lambda text: re.fullmatch(DATE, text)),
    "json": (nt.Grammar.json_schema(PERSON), is_person),
    "lark": (nt.Grammar.lark(BALANCED), is_balanced),
    "gbnf": (nt.Grammar.gbnf(BALANCED_GBNF), is_balanced),
}


def strategies(lm):
    return {
        "greedy": nt.Greedy(),
        "warm": nt.Sample(temperature=0.7),
        "hot": nt.Sample(temperature=1.6, top_k=60),
        "penalised": nt.Sample(repetition_penalty=1.3, top_p=0.95),
        "beam": nt.Beam(3),
        "lookup": nt.Speculate(nt.PromptLookup(shortest=1)),
        "draft": nt.Speculate(nt.DraftModel(lm, max_draft=4), nt.Sample(temperature=0.7)),
        "tree": nt.Speculate(nt.TokenTree(lm, widths=(3, 2)), nt.Sample(temperature=1.6, top_k=60)),
    }


TINY = tiny_lm()
LETTERS = ["a", "b", "c", "ab", "bc", "abc", "ba", "é", "z"]


def lettered(scores=None, letters=LETTERS, ends=("<eos>",), eos=True, padding=2):
    """A model whose tokens are these letters, its end tokens, `<user>`, one that stands for nothing, and padding."""
    names = [*("".join(map(spelled, letter.encode())) for letter in letters), *ends, "<user>", "<unused>"]
    metadata = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": names,
        "tokenizer.ggml.token_type": [1] * len(letters) + [3] * (len(ends) + 1) + [5],
        "tokenizer.ggml.merges": ["a b"],
    }
    if eos:
        metadata["tokenizer.ggml.eos_token_id"] = len(letters)
    size = len(names) + padding
    model = ToyModel(size, scores or make_scores(size, 5), 64)
    return LM(model, build_tokenizer(metadata), "lettered", timing=FreeTiming())


def spelled(byte):
    return next(letter for letter, known in _alphabet().items() if known == byte)


def _alphabet():
    from nextok.text.vocabulary import build_byte_alphabet

    return build_byte_alphabet()


def asked(lm, grammar):
    """A request that follows a grammar, and how far it has come."""
    tree, progress = Tree(), compiled(lm, grammar).begin()
    limits = Limits(max_tokens=400, stop_ids=lm.tokenizer.eos_ids)
    return Request(tree, tree.extend(ROOT, [0, 1]), limits, masks=(progress,)), progress


@cache
def compiled(lm, grammar):
    return grammar.compile(lm.tokenizer, lm.model.vocab_size, lm.tokenizer.eos_ids)


def allowed(request, node):
    """The tokens that the grammar lets follow a node; None if it says nothing."""
    (mask,) = [each.at(request.past(node)) for each in request.masks]
    return mask and {token for token in range(8 * len(mask.mask)) if mask.mask[token >> 3] >> (token & 7) & 1}


# The language


@pytest.mark.parametrize("pattern", ["a|ab|abc", "(ab|c)*b?", "a?b?c?", "(a|b){2,3}", "é?a+", "[^b]*", "(ba)*|c+"])
def test_the_texts_that_can_be_written_are_the_language(pattern):
    lm, longest = lettered(), 4
    request, _ = asked(lm, nt.Grammar.regex(pattern))
    written, begun = set(), set()

    def explore(node, text):
        begun.add(text)
        for token in allowed(request, node):
            assert request.permits(node, token)
            if token in lm.tokenizer.eos_ids:
                written.add(text)
            elif len(longer := text + lm.tokenizer.token_bytes[token].decode()) <= longest:
                explore(request.tree.add(node, token), longer)

    explore(request.prompt, "")
    language = {
        text
        for length in range(longest + 3)
        for text in map("".join, itertools.product("abcéz", repeat=length))
        if re.fullmatch(pattern, text)
    }
    assert written == {text for text in language if len(text) <= longest}
    assert begun <= {text[:cut] for text in language for cut in range(len(text) + 1)}
    assert written != {text for text in language if len(text) <= longest and text != min(written)}


def test_every_end_token_ends_a_complete_text_and_nothing_else_may_follow_one_that_is_finished():
    lm = lettered(ends=("<eos>", "<|im_end|>"))
    first, second = sorted(lm.tokenizer.eos_ids)
    request, _ = asked(lm, nt.Grammar.choices(["a", "ab"]))
    a = request.tree.add(request.prompt, LETTERS.index("a"))
    assert allowed(request, request.prompt) == {LETTERS.index("a"), LETTERS.index("ab")}
    assert allowed(request, a) == {LETTERS.index("b"), first, second}
    assert allowed(request, request.tree.add(a, LETTERS.index("b"))) == {first, second}


def test_control_tokens_and_padding_never_appear():
    lm = lettered(padding=9)
    request, _ = asked(lm, nt.Grammar.regex("(.|\n)*"))
    assert allowed(request, request.prompt) == {*range(len(LETTERS))} | lm.tokenizer.eos_ids
    request, _ = asked(lm, nt.Grammar.lark("start: <[0-11]>"))
    assert allowed(request, request.prompt) <= {*range(len(LETTERS))}
    with pytest.raises(ValueError, match="unknown special token"):
        nt.Grammar.lark("start: <user>").compile(lm.tokenizer, lm.model.vocab_size, lm.tokenizer.eos_ids)


def test_a_model_with_fewer_rows_than_tokens_writes_only_those_it_has():
    lm = lettered()
    compiled = nt.Grammar.regex("[abc]+").compile(lm.tokenizer, 2, frozenset({9}))
    tree = Tree()
    request = Request(tree, tree.extend(ROOT, [0]), Limits(), masks=(compiled.begin(),))
    assert allowed(request, request.prompt) == {0, 1}


def vocabularies(path):
    """SentencePiece and byte-level, from GGUF metadata and from a folder."""
    yield sentencepiece_folder(path)
    yield read_tokenizer(path)
    yield small("qwen2")


def test_every_kind_of_vocabulary_writes_the_language(tmp_path):
    for tokenizer in vocabularies(tmp_path):
        size = tokenizer.vocab_size + 3
        lm = LM(ToyModel(size, make_scores(size, 5), 512), tokenizer)
        for kind, (grammar, fits) in GRAMMARS.items():
            outputs = lm.generate([[5], [6], [7]], nt.Sample(), grammar=grammar, max_tokens=80, seed=1)
            ended = [output.text for output in outputs if output.finish_reason == "stop"]
            assert ended, kind
            assert all(map(fits, ended)), ended


# Every strategy


@pytest.mark.parametrize("name", strategies(TINY))
@pytest.mark.parametrize("kind", GRAMMARS)
def test_every_text_follows_its_grammar(kind, name):
    grammar, fits = GRAMMARS[kind]
    strategy = strategies(TINY)[name]
    seen = set()
    for seed in range(4):
        output = TINY.generate(f"({seed}", strategy, grammar=grammar, max_tokens=90, seed=seed)
        if output.finish_reason == "stop":
            assert fits(output.text), output.text
            assert not {EOS, USER} & {*output.tokens[:-1]}
        seen.add((output.text, output.finish_reason))
    assert "stop" in {reason for _, reason in seen}
    free = TINY.generate("(0", strategy, max_tokens=90, seed=0)
    assert free.finish_reason != "stop" or not _fits(fits, free.text)  # the model by itself does not


def _fits(fits, text):
    try:
        return fits(text)
    except ValueError:
        return False


@pytest.mark.parametrize("kind", GRAMMARS)
def test_speculation_writes_what_plain_decoding_writes(kind):
    grammar, _ = GRAMMARS[kind]
    other = tiny_lm(make_scores(VOCAB, 8))
    drafts = [
        nt.PromptLookup(shortest=1),
        nt.DraftModel(TINY, max_draft=5),
        nt.DraftModel(other, max_draft=3),
        nt.TokenTree(other, widths=(3, 2)),
    ]
    accepted = 0
    for seed, sampling in enumerate([nt.Greedy(), nt.Sample(), nt.Sample(temperature=0.5, repetition_penalty=1.2)]):
        prompt = '{"name": "x", "age": 1} 2001-01-0 ((x))'
        plain = TINY.generate(prompt, sampling, grammar=grammar, max_tokens=60, seed=seed)
        for draft in drafts:
            guessed = TINY.generate(prompt, nt.Speculate(draft, sampling), grammar=grammar, max_tokens=60, seed=seed)
            assert (guessed.tokens, guessed.finish_reason) == (plain.tokens, plain.finish_reason)
            accepted += guessed.stats.accepted
    assert accepted > 20


def test_a_batch_and_a_stream_write_what_one_alone_writes():
    strategy = nt.Sample(temperature=0.9)
    grammar, fits = GRAMMARS["json"]
    prompts = [f"prompt {i}" for i in range(8)]
    together = TINY.generate(prompts, strategy, grammar=grammar, max_tokens=90, seed=5)
    for prompt, output in zip(prompts, together):
        alone = TINY.generate(prompt, strategy, grammar=grammar, max_tokens=90, seed=5)
        pieces = [piece.text for piece in TINY.stream(prompt, strategy, grammar=grammar, max_tokens=90, seed=5)]
        assert output.tokens == alone.tokens
        assert "".join(pieces) == alone.text
        assert alone.finish_reason == "length" or fits(alone.text)
    assert "stop" in {output.finish_reason for output in together}
    several = TINY.generate("many", strategy, grammar=GRAMMARS["regex"][0], seed=5, n=5)
    assert all(re.fullmatch(DATE, choice.text) for choice in several.choices)
    assert len({choice.text for choice in several.choices}) > 1


def test_two_grammars_in_one_batch_and_one_of_them_cancelled():
    wanted = {kind: TINY.generate("x", nt.Sample(), grammar=GRAMMARS[kind][0], seed=2).tokens for kind in GRAMMARS}
    streams = {kind: TINY.stream("x", nt.Sample(), grammar=GRAMMARS[kind][0], seed=2) for kind in GRAMMARS}
    free = TINY.stream("x", nt.Sample(), seed=2, max_tokens=20)
    next(streams["json"])
    streams["json"].close()
    for kind in ("lark", "regex", "choices"):
        assert streams[kind].wait().tokens == wanted[kind]
    cancelled = streams["json"].output()
    assert cancelled.finish_reason == "cancelled"
    assert cancelled.tokens == wanted["json"][: len(cancelled.tokens)]
    assert free.wait().tokens == TINY.generate("x", nt.Sample(), seed=2, max_tokens=20).tokens


@pytest.mark.parametrize("name", strategies(TINY))
def test_the_engine_writes_what_the_reference_writes(name):
    strategy = strategies(TINY)[name]
    for kind in GRAMMARS:
        (alone, _), (shared, _) = asked(TINY, GRAMMARS[kind][0]), asked(TINY, GRAMMARS[kind][0])
        events = by_reference(strategy, alone, TINY.model)
        assert by_engine(strategy, shared, TINY.model, budget=3) == events
        assert alone.tokens == shared.tokens != []


# With other wishes


def test_stop_strings_and_max_tokens_cut_a_text_that_follows_its_grammar():
    grammar = nt.Grammar.regex(DATE)
    whole = TINY.generate("d", grammar=grammar)
    assert re.fullmatch(DATE, whole.text)
    cut = TINY.generate("d", grammar=grammar, stop="-")
    assert (cut.text, cut.finish_reason) == (whole.text[:4], "stop")
    short = TINY.generate("d", grammar=grammar, max_tokens=6)
    assert (short.text, short.finish_reason) == (whole.text[:6], "length")


def test_log_probabilities_are_those_of_the_tokens_that_are_allowed():
    grammar = nt.Grammar.choices(["yes", "yellow", "no"])
    for strategy in (nt.Greedy(), nt.Beam(2), nt.Speculate(nt.DraftModel(TINY))):
        output = TINY.generate("q", strategy, grammar=grammar, logprobs=9)
        assert len(output.logprobs) == len(output.tokens)
        first = output.logprobs[0]
        assert {token for token, _ in first.processed_top} == {ord("y"), ord("n")}
        assert first.processed > first.logprob
        assert output.logprobs[-1].processed == 0  # only one token could end it


def test_bad_words_and_bias_choose_within_the_grammar():
    grammar = nt.Grammar.choices(["red", "green", "blue"])
    assert TINY.generate("q", grammar=grammar, bad_words=["r", "g"]).text == "blue"
    assert TINY.generate("q", grammar=grammar, logit_bias={ord("g"): 50.0}).text == "green"
    assert TINY.generate("q", grammar=grammar, allowed_token_ids=[*b"red", EOS]).text == "red"


def test_a_stop_token_may_end_a_complete_text_where_a_model_has_no_end_token():
    lm = lettered(eos=False, ends=())
    grammar = nt.Grammar.choices(["ab"])
    with pytest.raises(ValueError, match="ends with an end token"):
        lm.generate([0], grammar=grammar)
    output = lm.generate([0], grammar=grammar, stop_token_ids=[LETTERS.index("z")])
    assert (output.text, output.finish_reason) == ("ab", "stop")
    with pytest.raises(ValueError, match="ignore_eos"):
        TINY.generate("x", grammar=grammar, ignore_eos=True)


# Dead ends

LEADS_ASTRAY = nt.Grammar.regex("ab|a(bc){2}é?q")  # nothing spells the q


def prefers(*letters):
    """Scores that want these tokens one after the other, behind a prompt of four tokens."""

    def scores(path):
        logits = [0.0] * (len(LETTERS) + 5)
        logits[LETTERS.index(letters[len(path) - 4]) if len(path) - 4 < len(letters) else len(LETTERS)] = 9.0
        return logits

    return scores


def test_a_guess_that_leads_to_a_dead_end_does_no_harm():
    a, bc = LETTERS.index("a"), LETTERS.index("bc")
    straight, astray = lettered(prefers("a", "b")), lettered(prefers("a", "bc", "bc"))
    prompt = [a, bc, bc, a]  # prompt lookup guesses what followed the first a
    plain = straight.generate(prompt, grammar=LEADS_ASTRAY)
    assert plain.text == "ab"
    for draft in (nt.PromptLookup(shortest=1), nt.DraftModel(astray), nt.TokenTree(astray, widths=(3, 2, 2, 2))):
        guessed = straight.generate(prompt, nt.Speculate(draft), grammar=LEADS_ASTRAY)
        assert guessed.tokens == plain.tokens
        assert guessed.stats.drafted > 0 or isinstance(draft, nt.PromptLookup)  # that asks the grammar first
    for strategy in (nt.Greedy(), nt.Speculate(nt.PromptLookup(shortest=1)), nt.Speculate(nt.DraftModel(astray))):
        stream = astray.stream(prompt, strategy, grammar=LEADS_ASTRAY, allowed_token_ids=[a, bc])
        output = stream.wait()
        assert (output.finish_reason, output.tokens[:3]) == ("error", [a, bc, bc])
        assert isinstance(output.error, DeadEndError)


def test_a_dead_end_ends_its_own_request_alone():
    contradiction = TINY.stream("x", grammar=nt.Grammar.choices(["yes"]), allowed_token_ids=[*b"ye", EOS])
    fine = TINY.stream("x", grammar=nt.Grammar.choices(["yes"]))
    assert fine.wait().text == "yes"
    output = contradiction.wait()
    assert isinstance(output.error, DeadEndError)
    assert output.text == "ye"
    with pytest.raises(DeadEndError, match="grammar"):
        TINY.generate("x", grammar=nt.Grammar.choices(["yes"]), min_tokens=9)


def test_a_grammar_that_grows_too_complex_ends_its_own_request_alone():
    lm = lettered(letters=["a" * 64, "ab", "a", "b"])
    grammar = nt.Grammar.regex("b" + "(" * 20 + "a" + "){1,100}" * 20)
    heavy = lm.stream([0], grammar=grammar)
    fine = lm.stream([0], grammar=nt.Grammar.choices(["aba"]))
    assert fine.wait().text == "aba"
    output = heavy.wait()
    assert output.text == "b"
    assert isinstance(output.error, DeadEndError)
    assert "too complex" in str(output.error)


def test_a_custom_transform_that_brings_back_a_removed_token_is_told():
    with pytest.raises(DeadEndError, match="custom transform"):
        TINY.generate("x", nt.Greedy(custom=lambda row: [0.0] * len(row)), grammar=nt.Grammar.choices(["yes"]))


def test_a_grammar_that_no_token_can_begin_is_refused_before_the_model_runs():
    lm = lettered()
    with pytest.raises(ValueError, match="no token of this vocabulary can begin"):
        lm.generate([0], grammar=nt.Grammar.choices(["quite"]))
    with pytest.raises(ValueError, match="no token of this vocabulary can begin"):
        lm.generate([0], grammar=nt.Grammar.lark("start: a\na: a"))
    assert lm.engine.passes == 0


# How a text is followed


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_however_nodes_are_asked_for_the_answer_is_that_of_a_walk_from_the_start(data):
    lm, grammar = TINY, nt.Grammar.regex("([ab]{2}c|[ac]b?)*")
    request, _ = asked(lm, grammar)
    nodes = [request.prompt]
    for _ in range(data.draw(st.integers(5, 60))):
        if data.draw(st.integers(0, 5)) == 0:
            token = data.draw(st.sampled_from(sorted(allowed(request, request.tip) - {EOS})))
            list(request.commit([token]))
            nodes = [request.prompt, request.tip]
        node = data.draw(st.sampled_from(nodes))
        if data.draw(st.booleans()):
            node = request.tree.extend(node, data.draw(st.lists(st.sampled_from([*b"abc"]), max_size=3)))
            nodes.append(node)
        fresh, _ = asked(lm, grammar)
        path = request.tree.path(node, above=request.prompt)
        assert allowed(request, node) == allowed(fresh, fresh.tree.extend(fresh.prompt, path))


def test_few_states_are_kept_of_a_long_text():
    grammar = nt.Grammar.regex("[abc]*")
    request, progress = asked(TINY, grammar)
    for step in range(300):
        guesses = [request.tree.extend(request.tip, each) for each in (b"ab", b"b", b"c", b"x")]
        for node in (request.tip, *guesses):
            request.permits(node, ord("a"))
        list(request.commit([b"abc"[step % 3]]))
        assert len(progress._states) < 20
    request, progress = asked(TINY, grammar)
    beams = [request.prompt]
    for _ in range(300):
        assert all(request.permits(node, ord("c")) for node in beams)
        beams = [request.tree.add(node, token) for node in beams for token in b"abc"][:40]
        assert len(progress._states) <= MOST_STATES + 2 * 40


def test_a_request_without_a_grammar_permits_everything():
    tree = Tree()
    request = Request(tree, tree.extend(ROOT, [1]), Limits())
    assert request.permits(request.prompt, 12345)
    guided, _ = asked(TINY, nt.Grammar.choices(["yes"]))
    assert guided.permits(guided.prompt, ord("y"))
    assert not guided.permits(guided.prompt, ord("n"))
    assert not guided.permits(guided.prompt, 12345)
    assert not guided.permits(guided.tree.add(guided.prompt, ord("n")), ord("o"))


def test_a_wrong_guess_is_not_masked_and_changes_nothing_for_the_others():
    request, _ = asked(TINY, nt.Grammar.choices(["yes"]))
    query = Query((request.prompt,), (Pick(Sampler()),))
    wrong = request.tree.extend(request.prompt, b"no")
    assert request.row(0, wrong, query, 0).read.transforms == ()
    assert allowed(request, request.tree.extend(request.prompt, b"ye")) == {ord("s")}
    assert allowed(request, request.prompt) == {ord("y")}


# What is refused


def chained(rules):
    return "start: a0\n" + "".join(f"a{i}: a{i + 1}\n" for i in range(rules)) + f'a{rules}: "x"\n'


def definitions(count):
    nested = {f"d{i}": {"properties": {"x": {"$ref": f"#/$defs/d{i + 1}"}}} for i in range(count)}
    return {"$ref": "#/$defs/d0", "$defs": nested | {f"d{count}": {"type": "string"}}}


def deep(levels):
    return '{"items": ' * levels + "{}" + "}" * levels


WRONG = {
    "no choice": (lambda: nt.Grammar.choices([]), "choices must be"),
    "a text for a list": (lambda: nt.Grammar.choices("yes"), "choices must be"),
    "an empty choice": (lambda: nt.Grammar.choices(["a", ""]), "none of them empty"),
    "numbers": (lambda: nt.Grammar.choices([1, 2]), "choices must be"),
    "many choices": (lambda: nt.Grammar.choices(map(str, range(20_000))), "at most 10,000"),
    "long choices": (lambda: nt.Grammar.choices(["x" * 300_000]), "at most 262,144 characters"),
    "half a character": (lambda: nt.Grammar.choices(["\ud800"]), "surrogate"),
    "no regex": (lambda: nt.Grammar.regex(""), "not empty"),
    "not text": (lambda: nt.Grammar.regex(3), "must be text"),
    "broken regex": (lambda: nt.Grammar.regex("(a|"), "unclosed group"),
    "back-reference": (lambda: nt.Grammar.regex(r"(a)\1"), "backreferences are not supported"),
    "lookahead": (lambda: nt.Grammar.regex("(?=a)b"), "look-around"),
    "long regex": (lambda: nt.Grammar.regex("ab" * 6000), "at most 10,000"),
    "deep regex": (lambda: nt.Grammar.regex("(" * 4000 + "a" + ")" * 4000), "cannot be used"),
    "not JSON": (lambda: nt.Grammar.json_schema("{"), "must be JSON"),
    "not a schema": (lambda: nt.Grammar.json_schema("[1]"), "must be an object"),
    "not for JSON": (lambda: nt.Grammar.json_schema({"enum": {1}}), "JSON can hold"),
    "NaN": (lambda: nt.Grammar.json_schema({"const": float("nan")}), "JSON can hold"),
    "unknown type": (lambda: nt.Grammar.json_schema({"type": "person"}), "no type is called 'person'"),
    "nothing fits": (lambda: nt.Grammar.json_schema(False), "unsatisfiable"),
    "many items": (lambda: nt.Grammar.json_schema({"type": "array", "minItems": 10**9}), "at most 10,000"),
    "remote schema": (lambda: nt.Grammar.json_schema({"$ref": "https://example.com/a.json"}), "does not fetch"),
    "local file": (lambda: nt.Grammar.json_schema({"$ref": "file:///etc/passwd"}), "does not fetch"),
    "deep schema": (lambda: nt.Grammar.json_schema(deep(80)), "nested 60 deep"),
    "very deep schema": (lambda: nt.Grammar.json_schema(deep(5000)), "nested 60 deep"),
    "wide schema": (lambda: nt.Grammar.json_schema({"properties": {f"p{i}": {} for i in range(1200)}}), "1,000"),
    "divisor": (lambda: nt.Grammar.json_schema({"type": "integer", "multipleOf": 9999991}), "a minimum and a max"),
    "product": (lambda: nt.Grammar.json_schema({"allOf": [
        {"anyOf": [{"required": [f"p{i}"]}, {"properties": {f"q{i}": {"const": i}}}]} for i in range(20)
    ]}), "over 400 combinations"),
    "no such rule": (lambda: nt.Grammar.lark("start: word"), 'unknown name: "word"'),
    "no start": (lambda: nt.Grammar.lark('word: "a"'), "cannot be used"),
    "not Lark": (lambda: nt.Grammar.lark("}{"), "cannot be used"),
    "long Lark": (lambda: nt.Grammar.lark("# " + "x" * 70_000), "at most 65,536"),
    "deep Lark": (lambda: nt.Grammar.lark("start: " + "(" * 9000 + '"a"' + ")" * 9000), "too deeply nested"),
    "intersections": (lambda: nt.Grammar.lark(
        "start: A\nA: " + " & ".join(f"/(.|\\n)*{letter}(.|\\n){{9}}/" for letter in "abcdefghijkl")
    ), "cannot be used"),
    "no rule in GBNF": (lambda: nt.Grammar.gbnf("root ::= word"), "Rule 'word' not found"),
    "no root": (lambda: nt.Grammar.gbnf('word ::= "a"'), "No 'root' rule found"),
    "deep GBNF": (lambda: nt.Grammar.gbnf("root ::= " + "(" * 9000 + '"a"' + ")" * 9000), "nested too deeply"),
    "long GBNF": (lambda: nt.Grammar.gbnf("# " + "x" * 70_000), "at most 65,536"),
    "endless GBNF": (lambda: nt.Grammar.gbnf("root ::= root"), "no token of this vocabulary can begin"),
    "no such kind": (lambda: nt.Grammar("xml", "<a/>"), "must be made by"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_grammar_is_refused_in_one_line(name):
    make, reason = WRONG[name]
    with pytest.raises(ValueError) as caught:
        make().compile(TINY.tokenizer, VOCAB, frozenset({EOS}))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_something_else_than_a_grammar_is_refused():
    with pytest.raises(ValueError, match="grammar must be Grammar"):
        TINY.generate("x", grammar=r"\d+")


HEAVY = {
    "long repetition": nt.Grammar.regex("((a|b|c|d|e){1,1000}){1,1000}"),
    "looks far back": nt.Grammar.regex("(.|\n)*a(.|\n){2000}"),
    "nested stars": nt.Grammar.regex("((a*)*)*b"),
    "many words": nt.Grammar.choices(f"{i * 7919 % 100_003} {i}" for i in range(5000)),
    "many properties": nt.Grammar.json_schema({"properties": {f"p{i}": {"type": "string"} for i in range(900)}}),
    "itself": nt.Grammar.json_schema({"type": "object", "properties": {"next": {"$ref": "#"}}}),
    "many items": nt.Grammar.json_schema({"type": "array", "maxItems": 10**9}),
    "ambiguous": nt.Grammar.lark('start: a\na: a a | "x" | ""'),
}


@pytest.mark.parametrize("name", HEAVY)
def test_a_heavy_grammar_is_followed_or_given_up(name):
    output = TINY.stream("x", nt.Sample(), grammar=HEAVY[name], max_tokens=20, seed=1).wait()
    assert output.finish_reason in ("stop", "length") or isinstance(output.error, DeadEndError)


def test_rules_that_refer_to_each_other_in_a_long_chain_do_not_end_the_process():
    program = (
        "import json, nextok as nt; from tiny import tiny_lm; lm = tiny_lm()\n"
        "for grammar in (nt.Grammar.lark(json.loads(input())), nt.Grammar.json_schema(input())):\n"
        "    print(lm.stream('x', grammar=grammar, max_tokens=5).wait().finish_reason)"
    )
    source = json.dumps(chained(4000)) + "\n" + json.dumps(definitions(990)) + "\n"
    done = subprocess.run([sys.executable, "-c", program], input=source, capture_output=True, text=True, cwd="tests")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split()[0] == "stop"


def test_without_the_library_the_way_out_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(NextokError, match=r"pip install 'nextok\[grammar\]'"):
        nt.Grammar.regex("a")


def test_equal_grammars_are_equal():
    assert nt.Grammar.choices(["a", "b", "a"]) == nt.Grammar.choices(["a", "b"])
    assert len({nt.Grammar.regex("a"), nt.Grammar.regex("a"), nt.Grammar.lark('start: "a"')}) == 2
    assert nt.Grammar.json_schema({"type": "null"}) == nt.Grammar.json_schema('{"type": "null"}')


def test_json_is_spaced_as_the_standard_library_does_it_unless_the_schema_says_otherwise():
    schema = {"type": "object", "properties": {"a": {"enum": [[1, 2]]}}, "required": ["a"]}
    schema["additionalProperties"] = False
    assert TINY.generate("x", grammar=nt.Grammar.json_schema(schema)).text == json.dumps({"a": [1, 2]})
    schema["x-guidance"] = {"item_separator": ",", "key_separator": ":"}
    assert TINY.generate("x", grammar=nt.Grammar.json_schema(schema)).text == '{"a":[1,2]}'


def test_a_text_starts_afresh_behind_every_prompt():
    lm = tiny_lm(saying("maybe"))
    grammar = nt.Grammar.choices(["yes", "no", "maybe"])
    for prompt in ("y\n", "yes\n", "no, maybe\n"):
        assert lm.generate(prompt, grammar=grammar).text == "maybe"
    assert tiny_tokenizer().vocab_size == VOCAB


# The real model


@pytest.fixture(scope="module")
def model():
    return nt.load("smollm2")


@pytest.mark.model
@pytest.mark.parametrize("kind", ["regex", "json"])
def test_the_real_model_follows_its_grammar_in_every_strategy(model, kind):
    grammar, fits = GRAMMARS[kind]
    prompt = 'Born on 1987-06-05: {"name": "Anna", "age": 31, "likes": ["tea"]} Born on 2001-02-03: '
    plain = {}
    for name, strategy in strategies(model).items():
        output = model.generate(prompt, strategy, grammar=grammar, max_tokens=45, seed=3)
        assert output.finish_reason == "stop"
        assert fits(output.text), (name, output.text)
        plain[name] = output.tokens
    assert plain["lookup"] == plain["greedy"]
    assert plain["draft"] == plain["warm"]
    assert plain["tree"] == plain["hot"]


@pytest.mark.model
def test_eight_texts_of_the_real_model_in_one_batch(model):
    grammar, fits = GRAMMARS["regex"]
    prompts = [f"In the year {year}, on " for year in range(1901, 1909)]
    outputs = model.generate(prompts, nt.Sample(), grammar=grammar, seed=3)
    assert all(fits(output.text) for output in outputs)
    assert outputs[2].tokens == model.generate(prompts[2], nt.Sample(), grammar=grammar, seed=3).tokens
