"""The command line's options of the chat template: tools, values, and control tokens in messages."""

import json

import pytest

import nextok as nt
from test_cli import run  # noqa: F401  # a fixture
from tiny import tiny_lm

TOOL = {
    "type": "function",
    "function": {"name": "weather", "description": "Tells it.", "parameters": {"type": "object", "properties": {}}},
}


@pytest.fixture
def tools_file(tmp_path, monkeypatch):
    """A folder to stand in, with two files of tools."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tools.json").write_text(json.dumps([TOOL]))
    (tmp_path / "bad.json").write_text('[{"type": "function"}]')
    (tmp_path / "none.json").write_text("[")
    monkeypatch.setattr(nt, "load", lambda name, **options: tiny_lm(template=TOOL_TEMPLATE))


TOOL_TEMPLATE = "{{ tools | tojson }}{{ x }}{% for m in messages %}{{ m.content }}{% endfor %}<eos>"


@pytest.mark.usefixtures("tools_file")
def test_the_command_line_gives_tools_and_values_to_the_template(run):  # noqa: F811
    values = ("--chat-template-kwargs", '{"x": "brief"}')
    out, _, code = run("<eos>", "--tools", "tools.json", *values, "--max-tokens", "9")
    lm = tiny_lm(template=TOOL_TEMPLATE)
    options = {"tools": [TOOL], "chat_template_kwargs": {"x": "brief"}, "max_tokens": 9}
    assert (out, code) == (lm.chat("<eos>", **options).text + "\n", 0)
    assert out != lm.chat("<eos>", max_tokens=9).text + "\n"
    out, _, _ = run("<eos>", "--allow-special", "--max-tokens", "9")
    assert out == lm.chat("<eos>", allow_special=True, max_tokens=9).text + "\n"
    out, _, code = run("chat", "--tools", "tools.json", *values, "--max-tokens", "9", "--quiet", piped="<eos>\n")
    assert (out, code) == (lm.chat("<eos>", **options).text + "\n", 0)


@pytest.mark.usefixtures("tools_file")
@pytest.mark.parametrize("command", [("generate", "Hi"), ("chat",)])
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--tools", "missing.json"), "--tools takes a file, but 'missing.json' cannot be read"),
        (("--tools", "none.json"), "--tools takes JSON, and this is none"),
        (("--tools", "bad.json"), "tool 0: a tool is"),
        (("--chat-template-kwargs", "[1]"), "--chat-template-kwargs must be a mapping"),
        (("--chat-template-kwargs", "{"), "--chat-template-kwargs takes JSON, and this is none"),
        (("--chat-template-kwargs", '{"tools": 1}'), "tools belongs to the renderer"),
    ],
)
def test_the_command_line_refuses_wrong_tools_and_values(run, command, arguments, reason):  # noqa: F811
    out, err, code = run(*command, *arguments, piped="Hi\n")
    assert (out, code) == ("", 2)
    assert reason in err
    assert len(err.splitlines()) == 1


@pytest.mark.usefixtures("tools_file")
@pytest.mark.parametrize("arguments", [("--tools", "tools.json"), ("--chat-template-kwargs", "{}")])
def test_raw_text_has_no_template_for_tools_and_values(run, arguments):  # noqa: F811
    _, err, code = run("Hi", "--raw", *arguments)
    assert code == 2
    assert f"--raw and {arguments[0]} contradict each other" in err


@pytest.mark.usefixtures("tools_file")
def test_an_answer_that_is_begun_goes_on(run):  # noqa: F811
    out, _, code = run("Hi", "--begin", "Sure, ", "--max-tokens", "9")
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Sure, "}]
    wanted = tiny_lm(template=TOOL_TEMPLATE).chat(messages, continue_final_message=True, max_tokens=9).text
    assert (out.rstrip("\n"), code) == (wanted.rstrip("\n"), 0)
    _, err, code = run("Hi", "--begin", "Sure", "--raw")
    assert (code, "--raw and --begin contradict each other" in err) == (2, True)
