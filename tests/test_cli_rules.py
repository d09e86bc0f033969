"""The options for what a text may be, for beams, and for what is told of it: from the command line to the library."""

import json

import pytest

import nextok
from nextok.grammar import Grammar
from nextok.strategies.beam import Beam
from test_cli import run, tiny  # noqa: F401  # fixtures
from tiny import saying, tiny_lm

SHORT = ("--max-tokens", "9")


class Beams(Beam):
    """A stand-in for every kind of beam search: it writes as `Beam` does and shows how it was made."""

    def __init__(self, *values, **named):
        super().__init__(max(values[0], 1))
        object.__setattr__(self, "made", (values, named))

    def __repr__(self):
        return repr(self.made)


@pytest.fixture
def beams(monkeypatch):
    for name in ("Beam", "DiverseBeam", "StochasticBeam"):
        monkeypatch.setattr(nextok, name, type(name, (Beams,), {}), raising=False)


@pytest.mark.parametrize(
    ("arguments", "values", "named"),
    [
        (("--num-beams", "4"), (4,), {}),
        (("--num-beams", "4", "--seed", "1"), (4,), {"sampling": nextok.Sample()}),
        (("--num-beams", "4", "--temp", "0.7", "--top-k", "9"), (4,), {"sampling": nextok.Sample(0.7, 9)}),
        (
            ("--num-beams", "4", "--repetition-penalty", "1.2", "--patience", "2"),
            (4,),
            {"patience": 2.0, "sampling": nextok.Greedy(repetition_penalty=1.2)},
        ),
        (
            ("--num-beams", "4", "-n", "3", "--early-stopping", "false", "--length-penalty", "0"),
            (4,),
            {"length_penalty": 0.0, "early_stopping": False, "n": 3},
        ),
        (("--num-beams", "4", "--beam-groups", "2", "--diversity", "0.5"), (4, 2, 0.5), {}),
        (("--num-beams", "4", "--beam-groups", "2", "--diversity", "0", "-n", "2"), (4, 2, 0.0), {"n": 2}),
        (
            ("--num-beams", "4", "--beam-groups", "2", "--diversity", "1", "--dry", "1"),
            (4, 2, 1.0),
            {"sampling": nextok.Greedy(dry=nextok.DRY(1))},
        ),
        (("--stochastic-beams", "3"), (3, nextok.Sample()), {}),
        (("--stochastic-beams", "3", "--seed", "1", "--top-k", "9"), (3, nextok.Sample(top_k=9)), {}),
        (("--stochastic-beams", "3", "--dry", "1"), (3, nextok.Sample(dry=nextok.DRY(1))), {}),
    ],
    ids=str,
)
def test_flags_make_a_search(run, beams, arguments, values, named):  # noqa: F811
    out, _, code = run("Hi", "--json", *SHORT, *arguments)
    assert code == 0
    assert json.loads(out)["strategy"] == repr((values, named))


def test_all_texts_of_a_stochastic_search_are_shown(run, monkeypatch):  # noqa: F811
    both = nextok.Beam(2, n=2)
    monkeypatch.setattr(nextok, "StochasticBeam", lambda width, sampling: both, raising=False)
    out, err, code = run("Hi", "--stochastic-beams", "2", *SHORT)
    assert (out, code) == (run("Hi", "--num-beams", "2", "-n", "2", *SHORT)[0], 0)
    assert err.startswith("── 1 of 2 · score -")


def test_a_search_that_is_refused_is_named_as_it_was_typed(run, monkeypatch):  # noqa: F811
    monkeypatch.setattr(nextok, "StochasticBeam", lambda width, sampling: nextok.Beam(width), raising=False)
    err = run("Hi", "--stochastic-beams", "0")[1]
    assert err.startswith("nextok: --stochastic-beams 0: width must be")


@pytest.fixture
def grammars(monkeypatch):
    """How grammars were made; none of them restricts anything."""
    made = []

    class Free:
        def begin(self):
            return self

        def at(self, past):
            return None

    for kind in ("choices", "regex", "json_schema", "lark"):

        def make(source, kind=kind):
            made.append((kind, source))
            return Grammar("regex", "a")

        monkeypatch.setattr(Grammar, kind, staticmethod(make), raising=False)
    monkeypatch.setattr(Grammar, "compiled", lambda self, *asked: Free())
    return made


SCHEMA = '{"type": "object"}'


@pytest.mark.parametrize(
    ("arguments", "made"),
    [
        ((), []),
        (("--choice", "yes", "--choice", "no"), [("choices", ["yes", "no"])]),
        (("--regex", r"\d+"), [("regex", r"\d+")]),
        (("--json-schema", SCHEMA), [("json_schema", SCHEMA)]),
        (("--json-schema", "schema.json"), [("json_schema", SCHEMA)]),
        (("--grammar", "a.lark"), [("lark", 'start: "é"')]),
    ],
    ids=str,
)
@pytest.mark.parametrize("command", ["generate", "chat"])
def test_grammars(run, grammars, monkeypatch, tmp_path, command, arguments, made):  # noqa: F811
    (tmp_path / "schema.json").write_text(SCHEMA)
    (tmp_path / "a.lark").write_bytes(b"\xef\xbb\xbf" + 'start: "é"'.encode())
    monkeypatch.chdir(tmp_path)
    out, err, code = run(command, *arguments, *SHORT, piped="Hi\n")
    assert (grammars, err, code) == (made, "", 0)
    assert out == tiny_lm().chat("Hi", max_tokens=9).text + "\n"


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"\xff\xfe\x00", "takes a text in UTF-8"), (b"x" * (1 << 20) + b"x", "at most 1 MB")],
    ids=["no text", "too large"],
)
def test_a_file_that_is_no_grammar(run, tmp_path, content, says):  # noqa: F811
    file = tmp_path / "file"
    file.write_bytes(content)
    for option in ("--grammar", "--json-schema"):
        out, err, code = run("Hi", option, str(file))
        assert (out, code) == ("", 2)
        assert f"nextok: {option} takes a" in err
        assert says in err


def test_rules_hold(run, monkeypatch):  # noqa: F811
    monkeypatch.setattr(nextok, "load", lambda name, **options: tiny_lm(saying("one two")))
    said = ("\n", "--raw", "--max-tokens", "7")
    assert run(*said)[0] == "one two\n"
    assert "t" not in run(*said, "--logit-bias", f"{ord('t')}=-inf")[0]
    assert run(*said, "--logit-bias", f"{ord('z')}=99", "--logit-bias", "9=0")[0] == "zzzzzzz\n"
    assert "two" not in run(*said, "--bad-word", "two", "--bad-word", "xyz")[0]
    assert run("chat", *said[2:], "--logit-bias", f"{ord('z')}=99", piped="Hi\n")[0] == "zzzzzzz\n"


def test_processed_log_probabilities_are_shown_where_they_differ(run):  # noqa: F811
    sharp = ("Hi", *SHORT, "--logprobs", "2", "--temperature", "0.5", "--seed", "1")
    each = json.loads(run(*sharp, "--json")[0])["logprobs"][0]
    output = tiny_lm().chat("Hi", nextok.Sample(0.5), max_tokens=9, seed=1, logprobs=2)
    told = output.logprobs[0]
    assert (each["logprob"], each["processed_logprob"]) == (told.logprob, told.processed)
    assert told.logprob != told.processed
    assert [(top["token_id"], top["logprob"]) for top in each["processed_top"]] == [*told.processed_top]
    err = run(*sharp)[1]
    assert "the most probable when processed" in err
    assert f"{told.logprob:.4f}" in err
    assert f"{told.processed:.4f}" in err


def test_the_prompt_has_log_probabilities_too(run):  # noqa: F811
    asked = ("Hi", "--raw", *SHORT, "--prompt-logprobs")
    facts = json.loads(run(*asked, "--logprobs", "1", "--json")[0])["prompt_logprobs"]
    scores = tiny_lm().score("Hi", top=1)
    assert [(each["token_id"], each["logprob"]) for each in facts] == [*zip(scores.tokens, scores.logprobs)]
    assert facts[0] == {"token_id": ord("H"), "logprob": None, "top": []}
    assert facts[1]["top"][0]["token_id"] == scores.top[1][0][0]
    out, err, code = run(*asked)
    assert (out, code) == (tiny_lm().generate("Hi", max_tokens=9).text + "\n", 0)
    assert [line.split() for line in err.splitlines()] == [
        ["prompt", "log-probability"],
        ["H"],
        ["i", f"{scores.logprobs[1]:.4f}"],
    ]
    assert run(*asked, "--quiet")[1] == ""


def test_drafts_are_accounted_for_in_words(run, monkeypatch):  # noqa: F811
    monkeypatch.setattr(nextok, "load", lambda name, **options: tiny_lm(saying("ab" * 12)))
    arguments = ("\n", "--raw", "--max-tokens", "24", "--draft", "prompt-lookup", "--max-draft", "3")
    facts = json.loads(run(*arguments, "--json")[0])
    lengths = facts["accepted_lengths"]
    assert sum(length * count for length, count in enumerate(lengths)) == facts["accepted"] > 0
    assert len(lengths) == 4  # a text that repeats itself is guessed on and on, 3 at a time
    assert lengths[-1] > 0
    err = run(*arguments, "--stats")[1]
    passes = sum(lengths)
    assert f"accepted {facts['accepted']} (" in err
    assert f"%), {facts['accepted'] / passes:.2f} a pass" in err
    assert f"3: {lengths[3]}×" in err
    assert json.loads(run("Hi", *SHORT, "--json")[0])["accepted_lengths"] == []
