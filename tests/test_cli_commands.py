"""The other commands in this process: chat, compare, tokenize, models, doctor, and the help."""

import json
import subprocess
import sys

import pytest

import nextok
from nextok import hub
from nextok.hub import Entry
from nextok.models.toy import make_scores
from test_cli import run, tiny  # noqa: F401  # fixtures
from tiny import VOCAB, tiny_lm


def turns(*questions, **options):
    """What the library says in the same conversation."""
    talk = nextok.Conversation(tiny_lm(context=400))
    for question in questions:
        yield talk.ask(question, **options).wait().text


def test_each_piped_line_is_a_turn(run):  # noqa: F811
    out, err, code = run("chat", "--max-tokens", "6", piped="Hi\n\n /help\n")
    assert (out, err, code) == ("".join(text + "\n" for text in turns("Hi", "/help", max_tokens=6)), "", 0)


def test_chat_commands(run):  # noqa: F811
    piped = "/stats\nHi\n/stats\n/clear\n/seed 5\nHi\n/seed\n/help\n/quit\nnever read\n"
    out, err, code = run("chat", "--max-tokens", "6", "--temperature", "1", "--seed", "4", piped=piped)
    sample = nextok.Sample()
    first, second = (next(turns("Hi", strategy=sample, max_tokens=6, seed=seed)) for seed in (4, 5))
    assert (out, code) == (f"{first}\n{second}\n", 0)
    for words in ("nothing has been said", "of 400 tokens of context", "forgotten", "seed 5", "/clear "):
        assert words in err


def test_a_full_conversation_says_the_way_out(run):  # noqa: F811
    out, err, code = run("chat", "--max-tokens", "6", piped="Hi\n" + "x" * 400 + "\n")
    assert (out, code) == (next(turns("Hi", max_tokens=6)) + "\n", 4)
    assert "/clear begins a new one" in err


def test_ctrl_c_keeps_what_was_said_and_leaves_a_pipe(run, monkeypatch):  # noqa: F811
    def scores(path):
        if len(path) > 25:
            raise KeyboardInterrupt
        return make_scores(VOCAB, 5)(path)

    monkeypatch.setattr(nextok, "load", lambda name, **options: tiny_lm(scores))
    out, err, code = run("chat", piped="Hi\nagain\n")
    assert (code, err) == (130, "nextok: interrupted\n")
    assert out.endswith("\n")
    assert len(out) > 3


def test_chat_with_a_person(run, monkeypatch):  # noqa: F811
    monkeypatch.setattr("builtins.input", lambda prompt: pytest.fail("stdout is no terminal"))
    monkeypatch.setattr("sys.stdin", Person(["Hi", KeyboardInterrupt, "x" * 400, ""]))
    out, err, code = run("chat", "--max-tokens", "6")
    assert (out, code) == (next(turns("Hi", max_tokens=6)) + "\n", 0)
    assert err.count("> ") == 4
    assert "the conversation is full" in err
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", Person([]))
    lines = iter(["Hi"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(lines, None) or end())
    assert run("chat", "--max-tokens", "6")[::2] == (next(turns("Hi", max_tokens=6)) + "\n", 0)


def end():
    raise EOFError


class Person:
    """Someone at a terminal who types these lines; an exception is a key."""

    def __init__(self, lines):
        self.lines = iter(lines)

    def isatty(self):
        return True

    def readline(self):
        line = next(self.lines)
        if isinstance(line, type):
            raise line
        return line and line + "\n"


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_compare_shows_the_strategies_side_by_side(run, monkeypatch, columns):  # noqa: F811
    monkeypatch.setenv("COLUMNS", str(columns))
    out, err, code = run("compare", "Hi", "--max-tokens", "12", "--draft", "tiny")
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) == columns
    for words in ("greedy", "T 0.8, top-k 50", "seed 0", "width 4", "prompt lookup", "tiny"):
        assert words in out
    assert out.count("= greedy") == 2


def test_compare_as_json(run):  # noqa: F811
    facts = json.loads(run("compare", "Hi", "--max-tokens", "12", "--json", "--seed", "3", "--raw")[0])
    assert [each["same_as_greedy"] for each in facts["results"]] == [True, False, False, True]
    for each in facts["results"]:
        assert each["usage"]["generated_tokens"] == len(each["token_ids"])
    assert facts["results"][1]["text"] == tiny_lm().generate("Hi", nextok.Sample(0.8, 50), max_tokens=12, seed=3).text


def test_tokenize_and_back(run):  # noqa: F811
    assert run("tokenize", "--ids", "a b<eos>")[0] == "97 32 98 257\n"
    assert run("tokenize", "--ids", "--no-special", "<eos>")[0] == "60 101 111 115 62\n"
    assert run("tokenize", "--decode", "97", "256", "98", "257")[0] == "a  b<eos>\n"
    assert run("tokenize", "--decode", "[97, 98, 257]", "--no-special")[0] == "ab\n"
    assert run("tokenize", "--decode", piped="97 98\n")[0] == "ab\n"
    facts = json.loads(run("tokenize", "--json", "é")[0])
    assert [token["bytes"] for token in facts["tokens"]] == ["c3", "a9"]
    out = run("tokenize", "hé\x1b<eos>")[0]
    assert "\x1b" not in out
    assert out.endswith("5 tokens, 8 characters, 9 bytes\n")


def test_models_list_and_remove(run, monkeypatch, tmp_path):  # noqa: F811
    monkeypatch.setattr(hub, "list_models", lambda: [Entry("known"), Entry("own/er", tmp_path, 3_000_000)])
    for arguments in (("models",), ("models", "list")):
        out, _, code = run(*arguments)
        assert code == 0
        assert "nextok models pull known" in out
        assert "3.0 MB" in out
    assert len(json.loads(run("models", "list", "--json")[0])["models"]) == 2
    monkeypatch.setattr(hub, "remove", {"known": 0, "own/er": 3_000_000}.get)
    assert run("models", "rm", "own/er")[0] == "own/er: 3.0 MB freed\n"
    assert run("models", "rm", "known")[0] == "known: nothing was fetched\n"


MODELS = ("list", "pull", "info", "verify", "rm")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("generate",),
        ("chat",),
        ("compare",),
        ("tokenize",),
        ("doctor",),
        ("bench",),
        ("models",),
        *(("models", name) for name in MODELS),
    ],
)
def test_help_is_there_and_loads_nothing_heavy(arguments):
    script = (
        "import sys, nextok.cli\n"
        f"assert nextok.cli.main([*{arguments!r}, '--help']) == 0\n"
        "heavy = {'numpy', 'tokenizers', 'jinja2', 'huggingface_hub', 'safetensors'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "Exit codes" in done.stdout
    assert "--help" in done.stdout


def test_version(run):  # noqa: F811
    assert run("--version") == (f"nextok {nextok.__version__}\n", "", 0)
