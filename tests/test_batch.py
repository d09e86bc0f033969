"""Batches: what a file of requests is answered with, whatever its lines hold and whenever the process is killed."""

import asyncio
import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

import nextok as nt
from nextok.api.served import Served
from nextok.batch.files import open_output, read_lines
from nextok.batch.lines import read_requests
from nextok.batch.resume import find_answers
from nextok.batch.run import Batch
from nextok.cli import main
from tiny import saying, tiny_lm
from tiny_file import write_tiny_file

ROUNDS = int(os.environ.get("NEXTOK_ROUNDS", "4"))
CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"


def line(name, body, url=COMPLETION, **more):
    return json.dumps({"custom_id": name, "method": "POST", "url": url, "body": body} | more).encode()


def ask(name, **body):
    return line(name, {"prompt": "abc", "max_tokens": 8} | body)


def answer_all(lines, lm=None, ordered=True, done=(), **served):
    """The answers of the library to these lines."""
    told = []
    batch = Batch(Served(lm or tiny_lm(), "tiny", **served), told.append, ordered)
    asyncio.run(batch.run(read_requests(lines, 0, done)))
    assert all(each.endswith(b"\n") and each.count(b"\n") == 1 for each in told)
    return [json.loads(each) for each in told]


def text_of(answer):
    [choice] = answer["response"]["body"]["choices"]
    return choice["text"]


MIXED = [ask(f"r{index}", max_tokens=1 + 17 * index % 40, temperature=index % 3 / 2) for index in range(40)]


# --- the answers ---------------------------------------------------------------------------------------------------


def test_each_line_has_its_answer_in_the_order_of_the_lines():
    answers = answer_all(
        [*MIXED, line("chat", {"messages": [{"role": "user", "content": "a"}], "max_tokens": 3}, CHAT)]
    )
    assert [each["custom_id"] for each in answers] == [*(f"r{index}" for index in range(40)), "chat"]
    first, last = answers[0], answers[-1]
    assert first.keys() == {"id", "custom_id", "response", "error"}
    assert (first["response"]["status_code"], first["error"]) == (200, None)
    assert first["response"]["body"]["object"] == "text_completion"
    assert last["response"]["body"]["choices"][0]["message"]["role"] == "assistant"
    assert len({each["id"] for each in answers}) == 41
    came = answer_all(MIXED, ordered=False)
    assert sorted(came, key=lambda each: each["id"]) == sorted(answers[:-1], key=lambda each: each["id"])


def test_an_answer_depends_on_its_line_alone():
    together = answer_all(MIXED)
    for place in (0, 7, 39):
        assert answer_all([MIXED[place]]) == [together[place]]
    assert answer_all(MIXED[::-1])[::-1] == together
    lm, answer = tiny_lm(), answer_all([ask("x", seed=5)])[0]
    assert text_of(answer) == lm.generate("abc", nt.Sample(), max_tokens=8, seed=5).text
    texts = [text_of(each) for each in answer_all([ask(f"n{index}", max_tokens=30) for index in range(4)])]
    assert len(set(texts)) == 4  # each has a seed of its own
    drafts = {"lookup": nt.PromptLookup()}
    plain, drafted = (
        answer_all([ask("x", max_tokens=40, **more)], drafts=drafts) for more in ({}, {"draft": "lookup"})
    )
    assert plain == drafted


def test_calls_have_ids_that_stay():
    template = "{{ tools }}<tool_call>{% for m in messages %}{{ m.content }}{% endfor %}:\n\n"
    lm = tiny_lm(saying('<tool_call>{"name": "look", "arguments": {}}</tool_call>'), template=template)
    tools = [{"type": "function", "function": {"name": "look"}}]
    body = {"messages": [{"role": "user", "content": "a"}], "tools": tools, "temperature": 0, "max_tokens": 99}
    one, two = (answer_all([line("x", body, CHAT)], lm) for _ in range(2))
    assert one == two
    [call] = one[0]["response"]["body"]["choices"][0]["message"]["tool_calls"]
    assert call["id"].startswith("call_")


def test_a_line_that_takes_long_does_not_hold_up_more_than_a_window(monkeypatch):
    monkeypatch.setattr("nextok.batch.run.AHEAD", 6)
    answers = answer_all([ask("long", max_tokens=400, ignore_eos=True), *MIXED])
    assert [each["custom_id"] for each in answers][:2] == ["long", "r0"]


WRONG_LINES = [
    (b"nonsense", "the line must be JSON"),
    (b"\xff\xfe\x00", "the line must be JSON"),
    (b'{"custom_id": "x", "custom_id": "y"}', "two members of one name"),
    (b"[]", "must be a JSON object"),
    (b"[" * 100_000, "may be nested"),
    (b'{"custom_id": NaN}', "NaN is no number"),
    (b"{}", "custom_id must be a text"),
    (b'{"custom_id": ""}', "custom_id must be a text"),
    (b'{"custom_id": 7}', "custom_id must be a text"),
    (json.dumps({"custom_id": "x" * 600}).encode(), "1 to 512 characters"),
    (line("x", {}, "/v1/embeddings"), "url must be one of"),
    (line("x", {}, method="GET"), "method must be POST"),
    (line("x", []), "body must be an object"),
    (line("x", {"prompt": "a" * (5 << 20)}), "a line may have"),
]
WRONG_BODIES = [
    ({"prompt": "abc", "temperature": 9}, "temperature must be"),
    ({"prompt": "abc", "stream": True}, "a batch has no streams"),
    ({"prompt": "abc", "model": "other"}, "there is no model"),
    ({"max_tokens": 3}, "the body needs prompt"),
    ({"prompt": "\ud800"}, "half a character"),
]


@pytest.mark.parametrize(("data", "says"), WRONG_LINES, ids=[says for _, says in WRONG_LINES])
def test_what_is_no_request_is_told_and_the_others_are_answered(data, says):
    before, wrong, after = answer_all([ask("a"), data, ask("b")])
    assert (before["custom_id"], after["custom_id"]) == ("a", "b")
    assert before["response"]["status_code"] == after["response"]["status_code"] == 200
    assert (wrong["response"], wrong["error"]["code"]) == (None, "invalid_line")
    assert says in wrong["error"]["message"]


@pytest.mark.parametrize(("body", "says"), WRONG_BODIES, ids=[says for _, says in WRONG_BODIES])
def test_a_wrong_body_is_told_as_the_server_tells_it(body, says):
    wrong, after = answer_all([line("x", body), ask("b")])
    assert wrong["response"]["status_code"] in (400, 404)
    assert says in wrong["response"]["body"]["error"]["message"]
    assert after["response"]["status_code"] == 200


def test_a_name_that_comes_twice_is_an_error_and_so_is_not_the_first():
    answers = answer_all([ask("a"), ask("a"), ask("a"), b"x", b"x"])
    assert [each["error"] is None for each in answers] == [True, False, False, False, False]
    assert "came before" in answers[1]["error"]["message"]
    assert len({each["id"] for each in answers}) == 5


def test_one_request_that_fails_inside_fails_alone(caplog):
    def failing(path):
        if path[0] == ord("x"):
            raise RuntimeError("the cable is loose")
        return [float(token == 97) for token in range(259)]

    answers = answer_all([ask("a"), ask("b", prompt="x"), ask("c")], tiny_lm(failing))
    assert [each["response"]["status_code"] for each in answers] == [200, 500, 200]
    assert "cable" not in json.dumps(answers)
    assert "the request b failed" in caplog.text


def test_lines_are_read_from_any_file(tmp_path):
    path = tmp_path / "in"
    path.write_bytes(
        b"\xef\xbb\xbf" + ask("a") + b"\r\n\n  \n" + ask("b") + b"\n" + b"z" * (6 << 20) + b"\n" + ask("c")
    )
    with path.open("rb") as file:
        lines = list(read_lines(file))
    assert (lines[0], lines[1], lines[3]) == (ask("a"), ask("b"), ask("c"))
    assert len(lines[2]) < 5 << 20


# --- going on ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with a model, a file of requests, and what they are answered with."""
    folder = tmp_path_factory.mktemp("batch")
    write_tiny_file(folder)
    (folder / "in.jsonl").write_bytes(b"\n".join([*MIXED, b"wrong", *(ask(f"s{index}") for index in range(99))]))
    assert run(folder, "in.jsonl", "whole.jsonl") == 1  # one line is wrong
    return folder


def run(folder, source, target, *flags):
    """The exit code of the command, in this process."""
    return main(["batch", f"{folder}/{source}", f"{folder}/{target}", "-m", f"{folder}/tiny.gguf", "--quiet", *flags])


@pytest.mark.parametrize("cut", [0, 1, 9, 700, 5000, -1, -9, -700])
@pytest.mark.parametrize("name", ["cut.jsonl", "cut.jsonl.gz"])
def test_a_file_that_was_cut_anywhere_is_completed(files, name, cut):
    whole = (files / "whole.jsonl").read_bytes()
    place = whole[:9000].rfind(b"\n") + 1
    packed = gzip.compress(whole[:place]) + gzip.compress(whole[place:])
    (files / name).write_bytes((packed if name.endswith(".gz") else whole)[:cut])
    assert run(files, "in.jsonl", name) == 1
    data = (files / name).read_bytes()
    assert (gzip.decompress(data) if name.endswith(".gz") else data) == whole


def test_a_batch_that_is_done_loads_no_model(files):
    before = (files / "whole.jsonl").read_bytes()
    arguments = [f"{files}/in.jsonl", f"{files}/whole.jsonl", "-m", "/nowhere.gguf", "--quiet"]
    assert main(["batch", *arguments]) == 1  # a line is wrong, as before
    assert (files / "whole.jsonl").read_bytes() == before


@pytest.mark.parametrize("name", ["notes.txt", "one_line.txt", "numbers.jsonl", "other.gz", "text.gz"])
def test_a_file_that_is_something_else_stays_as_it_is(files, name, capsys):
    contents = {
        "notes.txt": b"dear diary\nmore\n",
        "one_line.txt": b"dear diary",
        "numbers.jsonl": b'{"id": 3}\n',
        "other.gz": gzip.compress(b"dear diary"),
        "text.gz": b"dear diary",
    }
    (files / name).write_bytes(contents[name])
    assert run(files, "in.jsonl", name) == 2
    assert "is no answer of a batch" in capsys.readouterr().err
    assert (files / name).read_bytes() == contents[name]
    assert run(files, "in.jsonl", name, "--overwrite") == 1
    assert len(find_answers(f"{files}/{name}").ids) == 140


def test_answers_to_other_requests_are_not_mixed_in(files, capsys):
    (files / "short.jsonl").write_bytes(b"\n".join(MIXED[:5]))
    assert run(files, "short.jsonl", "whole.jsonl") == 2
    assert "135 answers to requests that are not in" in capsys.readouterr().err
    for arguments in (("in.jsonl", "in.jsonl"), ("missing.jsonl", "out.jsonl")):
        assert run(files, *arguments) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_another_seed_gives_other_texts_and_the_same_ids(files):
    assert run(files, "in.jsonl", "seed.jsonl", "--seed", "1") == 1
    assert (files / "seed.jsonl").read_bytes() != (files / "whole.jsonl").read_bytes()
    assert find_answers(f"{files}/seed.jsonl").ids == find_answers(f"{files}/whole.jsonl").ids


def test_pipes_and_other_disks(files):
    fsspec = pytest.importorskip("fsspec")
    command = [sys.executable, "-m", "nextok", "batch", "-", "-", "-m", f"{files}/tiny.gguf", "--quiet"]
    with (files / "in.jsonl").open("rb") as source:
        piped = subprocess.run(command, stdin=source, capture_output=True, timeout=60)
    whole = (files / "whole.jsonl").read_bytes()
    assert (piped.stdout, piped.returncode) == (whole, 1)
    with fsspec.open("memory://in.jsonl.gz", "wb", compression="gzip") as file:
        file.write((files / "in.jsonl").read_bytes())
    model = ["-m", f"{files}/tiny.gguf", "--quiet"]
    assert main(["batch", "memory://in.jsonl.gz", "memory://out.jsonl", *model]) == 1
    with fsspec.open("memory://out.jsonl", "rb") as file:
        assert file.read() == whole
    assert main(["batch", "memory://in.jsonl.gz", "memory://out.jsonl", *model]) == 2


@pytest.mark.parametrize("target", ["killed.jsonl", "killed.jsonl.gz"])
def test_a_batch_that_is_killed_at_any_moment_ends_as_if_it_had_not_been(files, target):
    """NEXTOK_ROUNDS is the number of kills."""
    path, whole, dice = files / target, (files / "whole.jsonl").read_bytes(), random.Random(1)
    command = [sys.executable, "-m", "nextok", "batch", f"{files}/in.jsonl", str(path), "-m", f"{files}/tiny.gguf"]
    for _ in range(ROUNDS):
        process = subprocess.Popen([*command, "--quiet"], stderr=subprocess.PIPE)
        before = path.stat().st_size if path.exists() else 0
        until = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < until:
            if (path.stat().st_size if path.exists() else 0) > before:
                break
            time.sleep(0.002)
        time.sleep(dice.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        assert process.communicate()[1] == b""
        size = path.stat().st_size if path.exists() else 0
        if dice.random() < 0.3 and size:
            os.truncate(path, size - dice.randrange(min(size, 40)))  # as if the disk had not had it all
    assert subprocess.run([*command, "--quiet"], timeout=120).returncode in (0, 1)
    data = path.read_bytes()
    assert (gzip.decompress(data) if target.endswith(".gz") else data) == whole


def test_what_was_written_is_in_the_file_at_once_and_nobody_else_writes_there(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old\nlonger")
    output = open_output(str(path), 4)
    output.write(b"x\n")
    assert path.read_bytes() == b"old\nx\n"
    with pytest.raises(ValueError, match="another process writes"):
        open_output(str(path))
    output.close()
    open_output(str(path)).close()
    assert path.read_bytes() == b""
    open_output("/dev/null").close()


def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(files):
    target = files / "stopped.jsonl"
    command = [sys.executable, "-m", "nextok", "batch", f"{files}/in.jsonl", str(target), "-m", f"{files}/tiny.gguf"]
    prepare = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)"
    start = f"{prepare}; from nextok.cli import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen([command[0], "-c", start, *command[3:]], stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while not (target.exists() and target.stat().st_size) and time.monotonic() < until:
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    if process.returncode == 130:  # else it was done before
        assert "the same command goes on" in said
        assert "Traceback" not in said
    run(files, "in.jsonl", "stopped.jsonl")
    assert target.read_bytes() == (files / "whole.jsonl").read_bytes()
