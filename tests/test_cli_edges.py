"""What a review found: readers that leave, full disks, interruptions before the first token, names of options."""

import json
import os
import subprocess
import sys

import pytest

import nextok
from nextok import hub
from nextok.cli import main
from nextok.errors import DownloadError
from test_cli import run, tiny  # noqa: F401  # fixtures
from test_cli_commands import Person
from tiny import tiny_lm

PROGRAM = [sys.executable, "-m", "nextok"]


def interrupted(path):
    raise KeyboardInterrupt


@pytest.mark.parametrize("arguments", [("--help",), ("models", "list"), ("chat", "-h"), ("doctor", "/dev/null")])
def test_a_table_into_a_closed_pipe(arguments):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as output:
        done = subprocess.run([*PROGRAM, *arguments], stdout=output, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_an_error_that_cannot_be_written_as_json_is_said():
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*PROGRAM, "models", "list", "--json"], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert b"No space left" in done.stderr


def test_ctrl_c_while_importing(monkeypatch):
    monkeypatch.setitem(sys.modules, "nextok.cli.failures", Interrupting())
    assert main(["Hi"]) == 130


class Interrupting:
    """A module whose import is interrupted."""

    def __getattr__(self, name):
        raise KeyboardInterrupt


@pytest.mark.parametrize("line", ["/nope", "/seed x"])
def test_an_unknown_chat_command_ends_a_pipe_but_not_a_person(run, monkeypatch, line):  # noqa: F811
    out, err, code = run("chat", piped=f"{line}\nHi\n")
    assert (out, code, err.count("\n")) == ("", 2, 1)
    assert f"{line!r} is no command" in err
    monkeypatch.setattr("sys.stdin", Person([line, "Hi", ""]))
    out, err, code = run("chat", "--max-tokens", "6")
    assert (bool(out), code) == (True, 0)
    assert f"{line!r} is no command" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--num-beams", "0"), "nextok: --num-beams must be a whole number from 1 to 256, got 0"),
        (("--num-beams", "2", "-n", "3"), "nextok: -n 3 is more than --num-beams 2 can give"),
        (("-n", "0"), "nextok: -n must be a whole number from 1 to 256, got 0"),
        (("--top-p", "0"), "nextok: --top-p must be above 0"),
        (("--min-p", "2"), "nextok: --min-p must be a finite number, from 0 to 1"),
        (("--min-tokens", "-1"), "nextok: --min-tokens must be"),
        (("--logprobs", "-1"), "nextok: --logprobs must be"),
        (("--num-beams", "2", "--length-penalty", "11"), "nextok: --length-penalty must be"),
        (("--typical-p", "0"), "nextok: --typical-p must be above 0"),
        (("--epsilon-cutoff", "2"), "nextok: --epsilon-cutoff must be"),
        (("--eta-cutoff", "-1"), "nextok: --eta-cutoff must be"),
        (("--top-n-sigma", "-1"), "nextok: --top-n-sigma must be"),
        (("--repetition-penalty", "0"), "nextok: --repetition-penalty must be"),
        (("--presence-penalty", "inf"), "nextok: --presence-penalty must be"),
        (("--frequency-penalty", "nan"), "nextok: --frequency-penalty must be"),
        (("--no-repeat-ngram", "0"), "nextok: --no-repeat-ngram must be"),
        (("--temperature", "abc"), ", got 'abc'; see nextok generate --help"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_a_message_names_the_option_as_it_was_typed(run, arguments, says):  # noqa: F811
    out, err, code = run("Hi", *arguments)
    assert (out, code) == ("", 2)
    assert says in err


@pytest.mark.parametrize("arguments", [("Hi",), ("chat",), ("compare", "Hi")], ids=" ".join)
def test_a_template_that_writes_nothing(run, monkeypatch, arguments):  # noqa: F811
    monkeypatch.setattr(nextok, "load", lambda name, **options: tiny_lm(template="{% if false %}{% endif %}"))
    out, err, code = run(*arguments)
    assert (out, code) == ("", 3)
    assert "the chat template of tiny writes nothing: --raw" in err


def test_doctor_without_the_model_or_with_what_is_no_model(run, monkeypatch, tmp_path):  # noqa: F811
    out, _, code = run("doctor", "tiny", "--json")  # a folder without a model
    assert (code, [check["passed"] for check in json.loads(out)["checks"]]) == (1, [False])

    def absent(name, **options):
        raise DownloadError("offline was asked for")

    monkeypatch.setattr(hub, "resolve", absent)
    out, _, code = run("doctor", "tiny", "--json")
    check = {"name": "model file", "passed": None, "detail": "not fetched: nextok models pull tiny"}
    assert (code, json.loads(out)["checks"]) == (0, [check])


@pytest.mark.parametrize("arguments", [(), ("-n", "2"), ("--num-beams", "2")], ids=" ".join)
def test_nothing_is_invented_for_what_was_never_generated(run, monkeypatch, arguments):  # noqa: F811
    monkeypatch.setattr(nextok, "load", lambda name, **options: tiny_lm(interrupted))
    out, err, code = run("Hi", "--stats", *arguments)
    assert (out, code) == ("", 130)
    assert err.endswith("nextok: interrupted\n")
    assert not [words for words in ("first after", "tokens/s", "── 1 of 2") if words in err]
    out, _, code = run("Hi", "--json", *arguments)
    timings = json.loads(out)["timings"]
    assert (timings["seconds_to_first_token"], timings["tokens_per_second"], code) == (None, None, 130)
    assert run("chat", piped="Hi\n") == ("", "nextok: interrupted\n", 130)


@pytest.mark.parametrize(
    ("arguments", "drawn"),
    [
        ((), False),
        (("--num-beams", "2"), False),
        (("--temperature", "0"), False),
        (("--draft", "prompt-lookup"), False),
        (("--draft", "prompt-lookup", "--seed", "4"), True),
        (("--seed", "4"), True),
    ],
    ids=str,
)
def test_a_seed_is_reported_where_it_matters(run, arguments, drawn):  # noqa: F811
    assert ("seed" in run("Hi", "--max-tokens", "3", "--stats", *arguments)[1]) == drawn
    assert json.loads(run("Hi", "--max-tokens", "3", "--json", *arguments)[0])["seed"] == (4 if drawn else None)


def test_a_seed_in_a_greedy_chat_changes_nothing_and_says_so(run):  # noqa: F811
    out, err, code = run("chat", piped="/seed 4\n")
    assert (out, err, code) == ("", "Greedy() draws nothing: a seed changes nothing\n", 0)


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_a_comparison_that_never_began_says_so(run, monkeypatch, arguments):  # noqa: F811
    monkeypatch.setattr(nextok, "load", lambda name, **options: tiny_lm(interrupted))
    assert run("compare", "Hi", *arguments)[1:] == ("nextok: interrupted\n", 130)


def test_tokens_are_aligned_lines(run):  # noqa: F811
    out, _, code = run("tokenize", "a é<eos>")
    assert code == 0
    assert out.splitlines() == [
        " id  token  bytes  text",
        " 97  a      61     'a'",
        " 32  Ġ      20     ' '",
        "195  Ã      c3",
        "169  ©      a9",
        "257  <eos>",
        "5 tokens, 8 characters, 9 bytes",
    ]
