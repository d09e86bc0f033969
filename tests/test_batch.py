"""Files of requests: what each line is answered with, in which order, and what is left after any end of a run."""

import gzip
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import nextok as nt
from batches import ask, chat, mixed, write_model
from nextok.api.json_body import MOST_BYTES
from nextok.api.served import Served
from nextok.batch import run_batch
from nextok.batch.entries import read_entries
from nextok.batch.inputs import InFile
from nextok.batch.outputs import open_output
from nextok.cli import main
from nextok.drafts.prompt_lookup import PromptLookup
from nextok.errors import NextokError
from tiny import saying, tiny_lm

ROUNDS = int(os.environ.get("NEXTOK_ROUNDS", "4"))


@pytest.fixture(scope="module")
def served():
    with tiny_lm() as lm:
        yield Served(lm, "tiny", {"lookup": PromptLookup()})


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "small.gguf")


def answered(served, text, **options):
    """The lines of answers to a text of requests."""
    written = []
    data = text if isinstance(text, bytes) else text.encode()
    tally = run_batch(served, data.splitlines(keepends=True), written.append, **options)
    assert tally.lines == len(written)
    return written


def told(served, text, **options):
    return [json.loads(line) for line in answered(served, text, **options)]


def texts(answers):
    """The text of each answer that is a completion, by its custom_id."""
    return {each["custom_id"]: each["response"]["body"]["choices"][0]["text"] for each in answers}


def run_files(served, source, target, overwrite=False, **options):
    """What the command does once the model is loaded; the number of lines that were answered."""
    requests = InFile(str(source))
    with open_output(str(target), requests, overwrite) as output:
        output.begin()
        return run_batch(served, requests, output.write, done=output.done.keys, **options).lines


def test_a_line_is_answered_in_the_form_of_openai(served):
    [answer] = told(served, chat("a", seed=1))
    assert answer["custom_id"] == "a"
    assert answer["id"].startswith("batch_req_")
    assert answer["error"] is None
    assert answer["response"]["status_code"] == 200
    assert answer["response"]["request_id"].startswith("req_")
    body = answer["response"]["body"]
    assert body["object"] == "chat.completion"
    assert body["choices"][0]["message"]["role"] == "assistant"
    assert body["usage"].keys() == {"prompt_tokens", "completion_tokens", "total_tokens"}


def test_a_text_is_that_of_the_library_with_the_same_seed(served):
    [answer] = told(served, ask("a", prompt="to be", seed=5))
    output = served.lm.generate("to be", nt.Sample(), seed=5, max_tokens=12)
    assert texts([answer]) == {"a": output.text}


def test_two_runs_write_the_same_bytes_and_the_seed_of_a_line_is_its_own(served):
    lines = mixed(30).splitlines(keepends=True)
    assert answered(served, "".join(lines)) == answered(served, "".join(lines))
    assert answered(served, "".join(lines[::-1])) == answered(served, "".join(lines))[::-1]
    same = [ask(name, prompt="same") for name in "abcdef"]
    assert len(set(texts(told(served, "".join(same))).values())) > 1
    assert texts(told(served, same[0], seed=1)) != texts(told(served, same[0], seed=2))
    fixed = ask("a", prompt="same", seed=3)
    assert texts(told(served, fixed, seed=1)) == texts(told(served, fixed, seed=2))


def test_a_seed_of_minus_one_is_none(served):
    assert answered(served, ask("a", seed=-1)) == answered(served, ask("a"))


def test_a_draft_changes_nothing_that_is_written(served):
    plain, drafted = told(served, ask("a", prompt="ababab")), told(served, ask("a", prompt="ababab", draft="lookup"))
    assert plain == drafted


def test_ids_of_tool_calls_are_the_same_in_every_run():
    call = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'
    template = "{{ tools }}{% for m in messages %}<user>{{ m.content or '<tool_call></tool_call>' }}\n{% endfor %}"
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
    with tiny_lm(saying(call), template=template) as lm:
        line = chat("a", tools=tools, temperature=0, max_tokens=100)
        first, second = (told(Served(lm, "tiny"), line) for _ in range(2))
        assert first == second
        [called] = first[0]["response"]["body"]["choices"][0]["message"]["tool_calls"]
        assert called["function"]["name"] == "f"
        assert called["id"].startswith("call_")


def test_answers_come_in_the_order_of_the_lines_or_as_they_are_done(served):
    lines = [ask("long", max_tokens=200, ignore_eos=True), *(ask(f"short-{i}", max_tokens=1) for i in range(8))]
    ordered = answered(served, "".join(lines))
    loose = answered(served, "".join(lines), ordered=False)
    assert [json.loads(line)["custom_id"] for line in ordered] == ["long", *(f"short-{i}" for i in range(8))]
    assert sorted(loose) == sorted(ordered)
    assert loose != ordered


@pytest.mark.parametrize("ordered", [True, False])
def test_lines_are_read_as_they_are_needed(ordered, monkeypatch):
    monkeypatch.setattr("nextok.batch.window.MOST_AHEAD", 16)
    taken, written = [], []

    def lines():
        for number in range(200):
            taken.append(number)
            assert len(taken) - len(written) <= 16 + 2
            yield ask(f"{number}", max_tokens=20 if number % 50 == 0 else 1).encode()

    with tiny_lm() as lm:
        run_batch(Served(lm, "tiny"), lines(), written.append, ordered=ordered)
    assert len(written) == 200


def test_a_request_of_more_rows_than_there_are_seats_is_answered(served):
    wide = ask("wide", prompt=["a", "b"], n=16, max_tokens=2)
    assert len(told(served, wide + mixed(3))[0]["response"]["body"]["choices"]) == 32


WRONG = {
    "temperature": (ask("a", temperature=7), "temperature"),
    "stream": (ask("a", stream=True), "stream"),
    "model": (ask("a", model="gpt-5"), "model"),
    "body": ('{"custom_id": "a", "url": "/v1/completions", "body": [1]}', None),
    "no body": ('{"custom_id": "a", "url": "/v1/completions"}', None),
    "prompt": (ask("a", prompt=[-1]), "prompt"),
    "half a character": (ask("a", prompt="\ud800"), "prompt"),
    "schema": (ask("a", json_schema={"$ref": "#"}), None),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_body_is_answered_with_the_error_of_the_api(served, name):
    line, field = WRONG[name]
    answer, after = told(served, line.strip() + "\n" + ask("b"))
    assert answer["custom_id"] == "a"
    assert 400 <= answer["response"]["status_code"] < 500
    assert answer["response"]["body"]["error"]["param"] == field
    assert after["response"]["status_code"] == 200


NO_REQUESTS = {
    "no json": (b"{bad", "invalid_json"),
    "garbage": (bytes(range(128, 256)).replace(b"\n", b""), "invalid_json"),
    "zeros": (b"\0" * 100, "invalid_json"),
    "NaN": (b'{"custom_id": "a", "url": "/v1/completions", "body": {"prompt": NaN}}', "invalid_json"),
    "deep": (b'{"custom_id": "a", "body": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "invalid_json"),
    "not so deep": (b'{"custom_id": "a", "body": ' + b"[" * 100 + b"]" * 100 + b"}", "invalid_json"),
    "a member twice": (b'{"custom_id": "a", "custom_id": "b"}', "invalid_json"),
    "a long number": (b'{"custom_id": ' + b"1" * 10_000 + b"}", "invalid_json"),
    "too long": (b'{"custom_id": "a", "body": "' + b"x" * MOST_BYTES + b'"}', "line_too_long"),
    "no object": (b"[1]", "invalid_request"),
    "no custom_id": (b'{"url": "/v1/completions", "body": {"prompt": "a"}}', "invalid_custom_id"),
    "a number as custom_id": (b'{"custom_id": 1}', "invalid_custom_id"),
    "an empty custom_id": (b'{"custom_id": ""}', "invalid_custom_id"),
    "half a character": (b'{"custom_id": "\\ud800"}', "invalid_custom_id"),
    "url": (b'{"custom_id": "a", "url": "/v1/embeddings", "body": {}}', "invalid_url"),
    "no url": (b'{"custom_id": "a", "url": ["/v1/completions"], "body": {}}', "invalid_url"),
    "method": (b'{"custom_id": "a", "method": "GET", "url": "/v1/completions"}', "invalid_method"),
}


@pytest.mark.parametrize("name", NO_REQUESTS)
def test_a_line_that_is_no_request_is_an_error_and_the_run_goes_on(served, name):
    line, code = NO_REQUESTS[name]
    answer, after = told(served, line + b"\n" + ask("b").encode())
    assert answer["response"] is None
    assert answer["error"]["code"] == code
    assert len(answer["error"]["message"]) < 500
    assert after["response"]["status_code"] == 200


def test_of_two_lines_with_one_custom_id_the_second_is_an_error(served):
    first, second, third = told(served, ask("a") + ask("a", prompt="other") + ask("b"))
    assert first["response"]["status_code"] == third["response"]["status_code"] == 200
    assert second["error"]["code"] == "duplicate_custom_id"
    assert second["custom_id"] == "a"
    assert len({first["id"], second["id"], third["id"]}) == 3


@pytest.mark.parametrize("change", ["a mark at the start", "carriage returns", "no last newline", "blank lines"])
def test_files_of_other_programs_are_read_alike(served, tmp_path, change):
    text = mixed(4)
    data = {
        "a mark at the start": b"\xef\xbb\xbf" + text.encode(),
        "carriage returns": text.replace("\n", "\r\n").encode(),
        "no last newline": text.rstrip("\n").encode(),
        "blank lines": ("\n \t\n" + text.replace("\n", "\n\r\n")).encode(),
    }[change]
    (tmp_path / "in").write_bytes(data)
    assert run_files(served, tmp_path / "in", tmp_path / "out") == 4
    assert (tmp_path / "out").read_bytes() == b"".join(answered(served, text))


def test_an_empty_file_has_no_answers(served, tmp_path):
    (tmp_path / "in").write_bytes(b"")
    assert run_files(served, tmp_path / "in", tmp_path / "out") == 0
    assert (tmp_path / "out").read_bytes() == b""


def test_of_a_line_without_end_only_a_part_is_held(tmp_path):
    (tmp_path / "in").write_bytes(b"x" * (3 * MOST_BYTES) + b"\n" + ask("a").encode())
    first, second = InFile(str(tmp_path / "in"))
    assert MOST_BYTES < len(first) < MOST_BYTES + 10
    assert second == ask("a").encode()
    assert [entry.error and entry.error.code for entry in read_entries([first, second])] == ["line_too_long", None]


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("end", ["", ".gz"])
def test_a_file_that_was_cut_anywhere_is_completed_to_the_same_content(served, tmp_path, ordered, end, monkeypatch):
    monkeypatch.setattr("nextok.batch.outputs.MEMBER", 1500)
    source, target = tmp_path / "in", tmp_path / f"out{end}"
    source.write_text("{bad\n" + mixed(12) + ask("line-3") + ask("wrong", n=99))
    assert run_files(served, source, target, ordered=ordered) == 15
    whole, read = target.read_bytes(), gzip.decompress if end else bytes
    for cut in {0, 1, 5, len(whole) - 1, len(whole), *random.Random(1).sample(range(len(whole)), 25)}:
        target.write_bytes(whole[:cut])
        lines = run_files(served, source, target, ordered=ordered)
        assert (lines == 0) == (cut == len(whole))
        if ordered:
            assert read(target.read_bytes()) == read(whole)
        assert sorted(read(target.read_bytes()).splitlines()) == sorted(read(whole).splitlines())


def test_requests_can_be_packed(served, tmp_path):
    source, target = tmp_path / "in.gz", tmp_path / "out"
    packed = [gzip.compress(line.encode()) for line in mixed(6).splitlines(keepends=True)]
    source.write_bytes(b"".join(packed))
    assert run_files(served, source, target) == 6
    assert target.read_bytes() == b"".join(answered(served, mixed(6)))
    source.write_bytes(b"".join(packed)[:-9])
    target.unlink()
    with pytest.raises(NextokError, match="damaged"):
        run_files(served, source, target)
    source.write_bytes(b"no gzip")
    with pytest.raises(NextokError, match="no gzip file"):
        run_files(served, source, target)


FOREIGN = {
    "a text": b"Dear diary",
    "lines": b"Dear diary\nToday\n",
    "other json": b'{"id": "batch_req_abc", "custom_id": "a", "response": null, "error": null}\n',
    "half an answer": b'{"id":"batch_req_%s","custom_id":null,"response":{"status_code":200},"error":null}\n'
    % (b"a" * 24),
    "a list": b"[1]\n",
    "a number as id": b'{"id": 1, "custom_id": null, "response": null, "error": null}\n',
    "requests": ask("line-1").encode(),
    "zeros": b"\0" * 1000,
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("end", ["", ".gz"])
def test_a_file_with_something_else_is_never_touched(served, tmp_path, name, end):
    source, target = tmp_path / "in", tmp_path / f"out{end}"
    source.write_text(mixed(3))
    for data in (FOREIGN[name], gzip.compress(FOREIGN[name])):
        target.write_bytes(data)
        with pytest.raises(ValueError, match="--overwrite"):
            run_files(served, source, target)
        assert target.read_bytes() == data
    assert run_files(served, source, target, overwrite=True) == 3
    read = gzip.decompress if end else bytes
    assert read(target.read_bytes()) == b"".join(answered(served, mixed(3)))


def test_answers_to_other_requests_and_of_another_model_are_refused(served, tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_text(mixed(3))
    run_files(served, source, target)
    source.write_text(mixed(2))
    with pytest.raises(ValueError, match="has answers to 1 requests"):
        run_files(served, source, target)
    source.write_text(mixed(3))
    with (
        open_output(str(target), InFile(str(source)), False) as output,
        pytest.raises(ValueError, match="has answers of tiny, and the model is big"),
    ):
        output.done.check_model("big", str(target))


def test_answers_are_not_written_over_the_requests(served, tmp_path):
    (tmp_path / "in").write_text(mixed(3))
    (tmp_path / "link").symlink_to(tmp_path / "in")
    for target in ("in", "link"):
        with pytest.raises(ValueError, match="OUT is IN"):
            open_output(str(tmp_path / target), InFile(str(tmp_path / "in")), True)


def test_two_runs_do_not_write_to_one_file(served, tmp_path):
    pytest.importorskip("fcntl")
    (tmp_path / "in").write_text(mixed(3))
    files = str(tmp_path / "out"), InFile(str(tmp_path / "in")), False
    with open_output(*files), pytest.raises(NextokError, match="another process"):
        open_output(*files)
    assert run_files(served, tmp_path / "in", tmp_path / "out") == 3


def test_remote_files_are_read_and_written_and_not_gone_on_with(served):
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory")
    files.pipe("/batch/in", mixed(3).encode())
    assert run_files(served, "memory://batch/in", "memory://batch/out.gz") == 3
    assert gzip.decompress(files.cat("/batch/out.gz")) == b"".join(answered(served, mixed(3)))
    with pytest.raises(ValueError, match="--overwrite"):
        run_files(served, "memory://batch/in", "memory://batch/out.gz")
    assert run_files(served, "memory://batch/in", "memory://batch/out.gz", overwrite=True) == 3
    with pytest.raises(NextokError, match="cannot open"):
        InFile("memory://batch/nothing")
    with pytest.raises(NextokError, match="cannot open"):
        InFile("nonsense://batch")


def test_what_reading_and_writing_raise_ends_the_run(served):
    def lines():
        yield ask("a").encode()
        raise OSError("the disk has gone")

    def full(line):
        raise OSError("no space left")

    with pytest.raises(OSError, match="has gone"):
        run_batch(served, lines(), lambda line: None)
    with pytest.raises(OSError, match="no space"):
        run_batch(served, [line.encode() for line in mixed(9).splitlines()], full)
    assert len(answered(served, mixed(3))) == 3  # the model is as it was


CHILD = """
import os, signal, sys, threading
from nextok.batch import run
from nextok.cli import main

number, delay = int(sys.argv[1]), float(sys.argv[2])
original = run.run_batch

def begin(*given, **named):
    timer = threading.Timer(delay, os.kill, (os.getpid(), number))
    timer.daemon = True
    timer.start()
    return original(*given, **named)

run.run_batch = begin
sys.exit(main(sys.argv[3:]))
"""
"""A command whose process gets a signal so many seconds after its model was loaded."""


def interrupt(number, delay, *arguments):
    """How such a process ends."""
    command = [sys.executable, "-c", CHILD, str(int(number)), str(delay), "batch", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(("end", "ordered"), [("", True), ("", False), (".gz", True)])
def test_after_a_kill_at_any_moment_the_result_is_that_of_an_undisturbed_run(model, tmp_path, end, ordered):
    source, target = tmp_path / "in", tmp_path / f"out{end}"
    source.write_text(mixed(150))
    flags = ["-m", model, "--threads", "1", "--quiet", *([] if ordered else ["--as-they-come"])]
    assert main([*map(str, ["batch", source, tmp_path / "whole", *flags])]) == 0
    whole = (tmp_path / "whole").read_bytes()
    chance, kills = random.Random(7), 0
    for _ in range(20 * ROUNDS):
        done = interrupt(signal.SIGKILL, chance.uniform(0, 0.25), source, target, *flags)
        kills += done.returncode == -signal.SIGKILL
        if done.returncode == 0 or kills == ROUNDS:
            assert main([*map(str, ["batch", source, target, *flags])]) == 0
            found = gzip.decompress(target.read_bytes()) if end else target.read_bytes()
            assert found == whole if ordered else sorted(found.splitlines()) == sorted(whole.splitlines())
            target.unlink()
        if kills == ROUNDS:
            break
    assert kills == ROUNDS


def test_ctrl_c_keeps_what_was_answered_and_says_how_to_go_on(model, tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_text("".join(ask(f"{i}", max_tokens=150, ignore_eos=True) for i in range(400)))
    done = interrupt(signal.SIGINT, 0.3, source, target, "-m", model, "--threads", "1")
    assert done.returncode == 130
    assert "the same command goes on" in done.stderr
    assert "Traceback" not in done.stderr
    lines = target.read_bytes().splitlines(keepends=True)
    assert all(line.endswith(b"\n") for line in lines)
    assert len(lines) < 400


def test_the_exit_code_says_whether_all_lines_were_answered(model, tmp_path, capfd):
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_text(mixed(3))
    command = [*map(str, ["batch", source, target, "-m", model])]
    assert main(command) == 0
    assert "3 lines answered, no errors" in capfd.readouterr().err
    source.write_text(mixed(3) + ask("wrong", n=0))
    assert main(command) == 1
    assert "1 lines answered (3 before), 1 of them errors" in capfd.readouterr().err
    assert main([*command, "--quiet"]) == 1  # the line is an error still
    assert capfd.readouterr().err == ""
    assert main([*map(str, ["batch", tmp_path / "nothing", target, "-m", model])]) == 1
    assert main([*command, "--seats", "0"]) == 2
    assert main([*command, "--draft", "=x"]) == 2


def test_pipes_on_both_sides(model, tmp_path):
    (tmp_path / "in").write_text(mixed(5))
    assert main([*map(str, ["batch", tmp_path / "in", tmp_path / "out", "-m", model, "-q"])]) == 0
    command = [sys.executable, "-m", "nextok", "batch", "-", "-", "-m", str(model)]
    done = subprocess.run(command, input=mixed(5).encode(), capture_output=True, timeout=120)
    assert done.returncode == 0
    assert done.stdout == Path(tmp_path / "out").read_bytes()
    onto = [*command[:5], str(tmp_path / "out"), *command[6:]]
    done = subprocess.run(onto, input=mixed(5).encode(), capture_output=True, timeout=120)
    assert done.returncode == 2
    assert b"a pipe cannot be read again" in done.stderr


@pytest.mark.filterwarnings("ignore")
def test_over_ray_two_processes_write_what_one_does(model, tmp_path):
    ray = pytest.importorskip("ray")
    from nextok.batch.cluster import run_on_ray

    def load():  # a function inside a function travels to other processes as it is
        import os

        import nextok
        from nextok.api.served import Served

        (tmp_path / f"process-{os.getpid()}").touch()
        return Served(nextok.load(model, threads=1), "small")

    source, target = tmp_path / "in", tmp_path / "out"
    source.write_text("{bad\n\r\n" + mixed(40) + ask("line-3", prompt="twice") + ask("wrong", n=99))
    with nt.load(model, threads=1) as lm:
        assert run_files(Served(lm, "small"), source, target) == 43
    whole, requests = target.read_bytes(), InFile(str(source))
    written, loose, rest = [], [], []
    ray.init(num_cpus=2, log_to_driver=False, logging_level="ERROR")
    tally = run_on_ray(load, requests, written.append, actors=2)
    assert (tally.lines, tally.errors) == (43, 3)
    assert b"".join(written) == whole
    assert len(list(tmp_path.glob("process-*"))) == 2
    run_on_ray(load, requests, loose.append, actors=2, ordered=False)
    assert sorted(loose) == sorted(written)
    done = [json.loads(line)["id"].removeprefix("batch_req_") for line in written[:20]]
    assert run_on_ray(load, requests, rest.append, actors=2, done=done).skipped == 20
    assert rest == written[20:]
    ray.shutdown()


def test_without_ray_the_error_says_what_to_install_and_drops_nothing(tmp_path, model, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "in").write_text(mixed(3))
    (tmp_path / "out").write_text("something")
    command = ["batch", *map(str, [tmp_path / "in", tmp_path / "out", "-m", model]), "--ray", "2", "--overwrite"]
    assert main(command) == 1
    assert "pip install 'nextok[ray]'" in capsys.readouterr().err
    assert (tmp_path / "out").read_text() == "something"


def test_the_model_has_the_name_that_requests_use(model, tmp_path):
    (tmp_path / "in").write_text(ask("a", model="gpt-4o-mini"))
    command = ["batch", *map(str, [tmp_path / "in", tmp_path / "out", "-m", model]), "--overwrite"]
    assert main(command) == 1
    assert json.loads((tmp_path / "out").read_text())["response"]["status_code"] == 404
    assert main([*command, "--name", "gpt-4o-mini"]) == 0


def test_folders_are_refused_before_a_model_is_loaded(model, tmp_path, capsys):
    (tmp_path / "in").write_text(mixed(1))
    for files in ((tmp_path, tmp_path / "out"), (tmp_path / "in", tmp_path)):
        assert main(["batch", *map(str, files), "-m", "no-such-model"]) == 1
        assert "Is a directory" in capsys.readouterr().err


def test_a_bar_is_drawn_where_stderr_is_a_terminal(model, tmp_path):
    pty = pytest.importorskip("pty")
    (tmp_path / "in").write_text(mixed(3))
    mine, other = pty.openpty()
    command = [sys.executable, "-m", "nextok", "batch", *map(str, [tmp_path / "in", tmp_path / "out", "-m", model])]
    assert subprocess.run(command, stderr=other, timeout=120).returncode == 0
    os.close(other)
    shown = b""
    while part := _read(mine):
        shown += part
    os.close(mine)
    assert b"\xe2\x94\x81" in shown  # a bar
    assert b"3 lines answered, no errors" in shown


def _read(descriptor):
    try:
        return os.read(descriptor, 1 << 16)
    except OSError:  # the other side is closed
        return b""


def test_over_ray_requests_are_neither_packed_nor_a_pipe(tmp_path, model):
    (tmp_path / "in.gz").write_bytes(gzip.compress(mixed(3).encode()))
    command = ["batch", str(tmp_path / "in.gz"), str(tmp_path / "out"), "-m", str(model), "--ray", "2"]
    assert main(command) == 2
    assert main([*command[:-1], "0"]) == 2
