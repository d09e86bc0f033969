"""The options for what a text may be, for beams, and for what is told of it: from the command line to the library."""

import json

import pytest

import nextok
from nextok.grammar.grammar import Grammar
from test_cli import run, tiny  # noqa: F401  # fixtures
from tiny import saying, tiny_lm

SHORT = ("--max-tokens", "9")


@pytest.mark.parametrize(
    ("arguments", "strategy"),
    [
        (("--num-beams", "4"), nextok.Beam(4)),
        (("--num-beams", "4", "--seed", "1"), nextok.Beam(4, sampling=nextok.Sample())),
        (("--num-beams", "4", "--temp", "0.7", "--top-k", "9"), nextok.Beam(4, sampling=nextok.Sample(0.7, 9))),
        (
            ("--num-beams", "4", "--repetition-penalty", "1.2", "--patience", "2"),
            nextok.Beam(4, patience=2.0, sampling=nextok.Greedy(repetition_penalty=1.2)),
        ),
        (
            ("--num-beams", "4", "-n", "3", "--early-stopping", "never", "--length-penalty", "0"),
            nextok.Beam(4, 0.0, "never", 3),
        ),
        (("--num-beams", "4", "--beam-groups", "2", "--diversity", "0.5"), nextok.DiverseBeam(4, 2, 0.5)),
        (
            ("--num-beams", "4", "--beam-groups", "2", "--diversity", "0", "-n", "2"),
            nextok.DiverseBeam(4, 2, 0.0, n=2),
        ),
        (
            ("--num-beams", "4", "--beam-groups", "2", "--diversity", "1", "--dry", "1"),
            nextok.DiverseBeam(4, 2, 1.0, sampling=nextok.Greedy(dry=nextok.DRY(1))),
        ),
        (("--stochastic-beams", "3"), nextok.StochasticBeam(3)),
        (
            ("--stochastic-beams", "3", "--seed", "1", "--top-k", "9"),
            nextok.StochasticBeam(3, nextok.Sample(top_k=9)),
        ),
        (
            ("--stochastic-beams", "3", "--dry", "1"),
            nextok.StochasticBeam(3, nextok.Sample(dry=nextok.DRY(1))),
        ),
    ],
    ids=str,
)
def test_flags_make_a_search(run, arguments, strategy):  # noqa: F811
    out, _, code = run("Hi", "--json", *SHORT, *arguments)
    assert code == 0
    assert json.loads(out)["strategy"] == repr(strategy)


def test_all_texts_of_a_stochastic_search_are_shown(run):  # noqa: F811
    out, err, code = run("Hi", "--stochastic-beams", "2", "--seed", "4", *SHORT)
    choices = tiny_lm().chat("Hi", nextok.StochasticBeam(2), max_tokens=9, seed=4).choices
    assert (out, code) == ("".join(choice.text + "\n" for choice in choices), 0)
    assert err.startswith(f"── 1 of 2 · score {choices[0].score:.4f}")


def test_a_search_that_is_refused_is_named_as_it_was_typed(run):  # noqa: F811
    err = run("Hi", "--stochastic-beams", "0")[1]
    assert err.startswith("nextok: --stochastic-beams 0: width must be")


SCHEMA = '{"type": "object"}'


@pytest.mark.parametrize(
    ("arguments", "grammar"),
    [
        ((), None),
        (("--choice", "yes", "--choice", "no"), Grammar.choices(["yes", "no"])),
        (("--regex", r"[0-9]+"), Grammar.regex(r"[0-9]+")),
        (("--json-schema", SCHEMA), Grammar.json_schema(SCHEMA)),
        (("--json-schema", "schema.json"), Grammar.json_schema(SCHEMA)),
        (("--grammar", "a.lark"), Grammar.lark('start: "é"')),
    ],
    ids=str,
)
@pytest.mark.parametrize("command", ["generate", "chat"])
def test_grammars(run, monkeypatch, tmp_path, command, arguments, grammar):  # noqa: F811
    (tmp_path / "schema.json").write_text(SCHEMA)
    (tmp_path / "a.lark").write_bytes(b"\xef\xbb\xbf" + 'start: "é"'.encode())
    monkeypatch.chdir(tmp_path)
    out, err, code = run(command, *arguments, *SHORT, piped="Hi\n")
    assert (err, code) == ("", 0)
    assert out == tiny_lm().chat("Hi", max_tokens=9, grammar=grammar).text + "\n"


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
