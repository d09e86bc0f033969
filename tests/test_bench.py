"""`nextok bench` and `--threads`: figures are there and fit together; how large they are is not asked here."""

import json
import math
import statistics
import subprocess
import sys
from dataclasses import replace

import pytest

import nextok
from gguf_writer import gguf, tiny_metadata, tiny_tensors
from nextok import hub
from nextok.errors import LimitError, NextokError
from nextok.hub import Source
from nextok.models.llama_numpy import LlamaNumpy
from nextok.models.native import NativeModel
from nextok.tools import bench
from nextok.tools.footprint import measure_footprint, read_peak_memory
from test_cli import run  # noqa: F401  # a fixture
from test_native import checkpoint
from tiny import tiny_lm

SHORT = ("--quick", "--rounds", "2")
FIGURES = {
    *("bandwidth", "greedy 1", "greedy 4", "greedy 16", "pass 1", "pass 2", "pass 4", "pass 8", "pass 16"),
    *("beam", "prefill", "load", "first token", "memory"),
}


@pytest.fixture
def file(tmp_path):
    """A model of 8 tokens with a context of 128."""
    path = tmp_path / "tiny.gguf"
    path.write_bytes(gguf(tiny_metadata() | {"tokenizer.ggml.model": "llama"}, tiny_tensors()))
    return str(path)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(bench, "MEGABYTES", 8)
    monkeypatch.delenv("NEXTOK_THREADS", raising=False)
    monkeypatch.delenv("NEXTOK_MODEL", raising=False)


def numbers(value):
    """All numbers in a JSON value."""
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from numbers(each)
    elif type(value) in (int, float):
        yield value


@pytest.mark.parametrize("backend", ["native", "numpy"])
def test_every_figure_is_there(run, file, backend):  # noqa: F811
    out, err, code = run("bench", file, "--json", "--backend", backend, *SHORT)
    assert (err, code, out.count("\n")) == ("", 0, 1)
    facts = json.loads(out)
    assert set(facts) == {
        *("date", "model", "origin", "versions", "backend", "precision", "threads", "rounds", "quick", "work"),
        "load_average",
        *("bandwidth_gb_per_second", "bytes_per_token", "limit_tokens_per_second", "share_of_limit", "greedy"),
        *("passes", "beam", "prefill", "load_seconds", "seconds_to_first_token", "peak_memory_bytes"),
        *("samples", "machine"),
    }
    assert all(
        number > 0 and math.isfinite(number) for number in numbers({**facts, "machine": {}, "load_average": None})
    )
    assert {figure: len(values) for figure, values in facts["samples"].items()} == dict.fromkeys(FIGURES, 2)
    assert (facts["backend"], facts["precision"]) == (backend, "fast" if backend == "native" else "exact")
    assert facts["threads"] == (facts["machine"]["threads"] if backend == "native" else None)
    assert [each["texts"] for each in facts["greedy"]] == [1, 4, 16]
    assert [each["rows"] for each in facts["passes"]] == [1, 2, 4, 8, 16]
    assert facts["prefill"]["tokens"] == facts["work"]["prefill"] == 127  # of a context of 128
    assert facts["peak_memory_bytes"] > facts["bytes_per_token"]
    assert facts["machine"]["nextok"] == facts["versions"]["nextok"] == nextok.__version__


def test_the_figures_fit_together(run, file):  # noqa: F811
    facts = json.loads(run("bench", file, "--json", "--threads", "1", *SHORT)[0])
    assert "error" not in facts, facts
    medians = {figure: statistics.median(values) for figure, values in facts["samples"].items()}
    limit = facts["limit_tokens_per_second"]
    assert limit == pytest.approx(medians["bandwidth"] * 1e9 / facts["bytes_per_token"])
    assert facts["share_of_limit"] == pytest.approx(facts["greedy"][0]["tokens_per_second"] / limit)
    for each in facts["passes"]:
        assert each["milliseconds"] == pytest.approx(1000 * medians[f"pass {each['rows']}"])
        assert each["ratio_to_one_row"] == pytest.approx(medians[f"pass {each['rows']}"] / medians["pass 1"])
    assert facts["seconds_to_first_token"] > facts["load_seconds"]
    assert (facts["threads"], facts["machine"]["threads"]) == (1, 1)


@pytest.mark.parametrize("rounds", [1, 2])
def test_the_table_fits_a_terminal_and_has_every_figure(run, file, monkeypatch, rounds):  # noqa: F811
    monkeypatch.setenv("COLUMNS", "80")
    out, err, code = run("bench", file, "--quick", "--rounds", str(rounds), "--precision", "exact")
    assert (err, code) == ("", 0)
    assert max(map(len, out.splitlines())) <= 80
    assert len(out.splitlines()) == 3 + 16  # no line is broken
    for words in (
        *("native, exact", "one round" if rounds == 1 else "median of 2", "memory bandwidth", "weights of a token"),
        *("limit of one text", "greedy, 1 text ", "of the limit", "greedy, 16 texts", "beam search, width 4"),
        *("pass of 1 row ", "pass of 16 rows", "x one row", "prompt of 127 tokens", "loading"),
        *("start to first token", "memory at the peak"),
    ):
        assert words in out


def test_a_person_sees_how_far_it_is(run, file, monkeypatch):  # noqa: F811
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    err = run("bench", file, *SHORT)[1]
    for words in ("round 1 of 2: memory bandwidth ...", "round 2 of 2: passes of 16 rows ..."):
        assert words in err
    assert err.endswith("\r\x1b[K")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--rounds", "0"), "nextok: --rounds must be from 1 to 1000, got 0; "),
        (("--rounds", "many"), "got 'many'; see nextok bench --help"),
        (("--threads", "0"), "nextok: --threads must be a whole number from 1 to 256, got 0; leave it out"),
        (("--backend", "cuda"), "'cuda' is not one of"),
        (("--precision", "half"), "'half' is not one of"),
        (("--backend", "numpy", "--threads", "2"), "OPENBLAS_NUM_THREADS"),
        (("another",), "another"),
    ],
    ids=" ".join,
)
def test_what_is_wrong_is_said_before_anything_is_loaded(run, monkeypatch, arguments, says):  # noqa: F811
    monkeypatch.setattr(nextok.loading, "open_model", lambda path: pytest.fail("loaded"))
    out, err, code = run("bench", "smollm2", *arguments)
    assert (out, code, err.count("\n")) == ("", 2, 1)
    assert says in err


def test_a_model_that_is_not_there(run):  # noqa: F811
    out, err, code = run("bench", "no-such-model")
    assert (out, code, err.count("\n")) == ("", 3, 1)


# --- the measuring itself


def test_rounds_go_through_all_figures_in_turn():
    taken, said = [], []

    class During:
        def __init__(self, text):
            said.append(text)

        def __enter__(self):
            taken.append("(")

        def __exit__(self, *exception):
            taken.append(")")

    def measure(name):
        return lambda: taken.append(name) or {name: len(taken)}

    samples = bench.measure_rounds({"one": measure("a"), "two": measure("b")}, 2, During)
    assert "".join(taken) == "(a)(b)(a)(b)"
    assert said == ["round 1 of 2: one", "round 1 of 2: two", "round 2 of 2: one", "round 2 of 2: two"]
    assert samples == {"a": [2, 8], "b": [5, 11]}


@pytest.mark.parametrize("context", [8, 12, 20, 400])
def test_small_contexts_are_enough(context):
    lm = tiny_lm(context=context)
    work = bench.QUICK.fit(context)
    figures = bench.list_measures(lm, work, model="tiny")
    del figures["a process of its own"]
    samples = bench.measure_rounds(figures, 1) | {"load": [1.0], "first token": [2.0]}
    facts = bench.summarize(samples, None, work.prefill)
    unknown = ("bytes_per_token", "limit_tokens_per_second", "share_of_limit", "peak_memory_bytes")
    assert [facts.pop(each) for each in unknown] == [None] * 4
    assert all(number > 0 and math.isfinite(number) for number in numbers(facts))
    assert [each["rows"] for each in facts["passes"]] == [
        rows for rows in bench.ROWS if work.prompt + rows <= context
    ]


def test_every_round_reads_prompts_that_are_new(monkeypatch):
    lm, prompts = tiny_lm(), []
    start = lm.start
    monkeypatch.setattr(lm, "start", lambda ids, *given: prompts.append(tuple(ids)) or start(ids, *given))
    measure = bench.list_measures(lm, bench.QUICK, model="tiny")["a prompt of 128 tokens"]
    for count in (1, 2, 3):
        measure()
        assert lm.engine.tokens_read == count * 128
    assert len(set(prompts)) == 3  # or the engine could know the beginning of one from another


def test_a_context_may_be_too_small():
    with pytest.raises(LimitError, match="context is 7 tokens"):
        bench.FULL.fit(7)


def test_a_model_that_fails_is_an_error_and_no_figure():
    def broken(path):
        return [float("nan")] * 259

    lm = tiny_lm(broken)
    with pytest.raises(NextokError, match="no token can be chosen"):
        bench.list_measures(lm, bench.QUICK.fit(512))["greedy, 4 at once"]()


def test_a_table_without_a_limit_says_unknown(run, monkeypatch, tmp_path):  # noqa: F811
    lm = tiny_lm()
    lm.model.bytes_per_token = 0  # a model that states none
    monkeypatch.setattr(nextok, "load", lambda name, **options: lm)
    monkeypatch.setattr(hub, "resolve", lambda name, **options: Source(tmp_path, name, "a test"))
    monkeypatch.setattr(bench, "measure_footprint", lambda **options: {"load": 1.0, "first token": 2.0})
    out, err, code = run("bench", "tiny", *SHORT)
    assert (err, code) == ("", 0)
    assert out.count("unknown") == 3


def test_bandwidth_with_and_without_the_core(monkeypatch):
    assert 0 < bench.measure_bandwidth(2) < math.inf
    monkeypatch.setitem(sys.modules, "nextok._native", None)
    assert 0 < bench.measure_bandwidth(2) < math.inf
    monkeypatch.undo()
    for threads, megabytes in ((0, 8), (257, 8), (1, 0)):
        with pytest.raises(ValueError, match="read_bandwidth needs"):
            nextok._native.read_bandwidth(threads, megabytes)
    assert nextok._native.read_bandwidth(7, 1) > 0


@pytest.mark.parametrize("kind", ["F32", "Q4_1", "Q8_0"])
@pytest.mark.parametrize("model", [NativeModel, LlamaNumpy])
def test_an_embedding_that_is_only_looked_up_is_not_read(model, kind):
    tied = checkpoint(kind)
    head = replace(tied.tensors["token_embd.weight"], name="output.weight")
    untied = replace(tied, tensors={**tied.tensors, "output.weight": head})
    read = model(tied).bytes_per_token
    assert model(untied).bytes_per_token == pytest.approx(read, rel=0.03)
    if model is NativeModel:
        assert read == model(tied)._core.weight_bytes < 0.95 * model(untied)._core.weight_bytes
    else:
        assert read == 4 * sum(
            tensor.shape[0] * tensor.shape[1] for tensor in tied.tensors.values() if len(tensor.shape) > 1
        )


def test_a_process_of_its_own(file):
    facts = measure_footprint(model=file, backend="auto", precision="fast", threads=1)
    assert set(facts) == {"first token", "load", "memory"}
    with pytest.raises(NextokError, match=r"could not run no-such-model: .*ModelNotFoundError"):
        measure_footprint(model="no-such-model")


def test_the_peak_is_the_process_own(monkeypatch):
    own = "import nextok.tools.footprint as it; print(it.read_peak_memory())"
    ballast = bytearray(b"x") * (200 << 20)
    child = int(subprocess.run([sys.executable, "-c", own], capture_output=True, text=True, check=True).stdout)
    assert read_peak_memory() > len(ballast) > child > 1 << 20
    monkeypatch.setattr("nextok.tools.footprint.Path.read_text", lambda path: "")
    assert read_peak_memory() > len(ballast)
