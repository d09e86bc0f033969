"""The other commands in this process: chat, compare, tokenize, models, doctor, and the help."""

import json
import subprocess
import sys

import pytest

import nextok
from nextok import hub
from nextok.cli import turns as turns_of_a_person
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


def test_chat_goes_back(run):  # noqa: F811
    piped = "/retry\n"
    assert run("chat", piped=piped)[1:] == ("nextok: nothing has been said yet\n", 2)
    out, err, code = run("chat", "--max-tokens", "6", piped="Hi\nHo\n/retry\n/edit Hu\n")
    first, second = turns("Hi", "Ho", max_tokens=6)
    *_, third = turns("Hi", "Hu", max_tokens=6)
    assert (out, err, code) == (f"{first}\n{second}\n{second}\n{third}\n", "", 0)


def test_a_turn_of_several_lines(run):  # noqa: F811
    piped = '"""one\n/help\ntwo"""\nHi\n"""three"""\n'
    out, err, code = run("chat", "--max-tokens", "6", piped=piped)
    assert (out, err, code) == (
        "".join(text + "\n" for text in turns("one\n/help\ntwo", "Hi", "three", max_tokens=6)),
        "",
        0,
    )


def test_the_system_message_of_a_chat_can_be_changed(run):  # noqa: F811
    talk = nextok.Conversation(tiny_lm(context=400), "Be short.")
    first = talk.ask("Hi", max_tokens=6).wait().text
    talk.change_system("Be long.")
    second = talk.ask("Hi", max_tokens=6).wait().text
    talk.change_system(None)
    assert [message["role"] for message in talk.messages] == ["user", "assistant"] * 2
    third = talk.ask("Hi", max_tokens=6).wait().text
    piped = "Hi\n/system Be long.\nHi\n/system\nHi\n"
    out, err, code = run("chat", "--system", "Be short.", "--max-tokens", "6", piped=piped)
    assert (out, code) == (f"{first}\n{second}\n{third}\n", 0)
    assert err == "another system message\nno system message\n"


def test_a_chat_is_saved_and_goes_on_another_day(run, tmp_path):  # noqa: F811
    file = tmp_path / "talk.json"
    first, second = turns("Hi", "Ho", max_tokens=6)
    out, err, code = run("chat", "--max-tokens", "6", piped=f"Hi\n/save {file}\n/save {file}\n")
    assert (out, code) == (first + "\n", 0)
    assert err == f"2 messages in {file}\n" * 2
    assert json.loads(file.read_text())[0] == {"role": "user", "content": "Hi"}
    out, err, code = run("chat", "--max-tokens", "6", piped=f"/load {file}\nHo\n")
    assert (out, err, code) == (second + "\n", f"2 messages from {file}\n", 0)
    assert "exists and is not this conversation" in run("chat", piped=f"/save {file}\n")[1]
    assert json.loads(file.read_text())[1]["content"] == first


def test_tools_and_thinking_in_a_chat(run, tmp_path):  # noqa: F811
    file = tmp_path / "tools.json"
    file.write_text('[{"type": "function", "function": {"name": "look"}}]')
    out, err, code = run("chat", "--max-tokens", "6", piped=f"/think on\n/tools\n/tools {file}\n")
    assert (out, code) == ("", 3)
    assert err.splitlines()[:2] == ["this model's template has no switch", "0 tools"]
    assert "takes no tools" in err
    assert "none" in run("chat", piped=f"/tools {tmp_path / 'none'}\n")[1]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "holds no conversation, a JSON list of messages"),
        ("[" * 100_000, "holds no conversation, a JSON list of messages"),
        ('{"role": "user"}', "it must be a JSON list of messages"),
        ("[3]", "message 0 is 3"),
        ('[{"role": "user", "content": 3}]', "message 0: content must be a text"),
        (" " * (16 << 20) + "[]", "has more than 16 MB"),
    ],
)
def test_a_file_that_is_no_conversation_is_refused(run, tmp_path, content, says):  # noqa: F811
    file = tmp_path / "talk.json"
    file.write_text(content)
    out, err, code = run("chat", piped=f"/load {file}\n")
    assert (out, code) == ("", 2)
    assert says in err
    assert len(err.splitlines()) == 1
    assert run("chat", piped=f"/load {tmp_path / 'none'}\n")[2] != 0


def test_what_a_person_said_is_remembered(monkeypatch, tmp_path):
    readline = pytest.importorskip("readline")
    file = tmp_path / "folder" / "history"
    monkeypatch.setenv("NEXTOK_HISTORY", str(file))
    readline.clear_history()
    readline.add_history("Why is the sky blue?")
    turns_of_a_person._keep_history(readline, turns_of_a_person.find_history())
    assert "sky blue" in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    readline.clear_history()
    monkeypatch.setenv("NEXTOK_HISTORY", "")
    assert turns_of_a_person.find_history() is None
    monkeypatch.delenv("NEXTOK_HISTORY")
    monkeypatch.setenv("NEXTOK_CACHE", str(tmp_path))
    assert turns_of_a_person.find_history() == tmp_path / "chat_history"


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
