"""Loading: its progress, its limits, what it says before it begins, and that the library itself writes nothing."""

import json
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest

import nextok as nt
from happy_folder import write_book, write_export
from happy_llm import random_transformer
from nextok.cli import main
from nextok.cli.bar import show_progress
from nextok.errors import LimitError, ModelFileError, NextokError
from nextok.formats import Checkpoint, open_model
from nextok.formats.quants import KINDS
from nextok.formats.suggested import SETTINGS, read_suggested
from nextok.formats.tensor import WatchedTensors
from nextok.hub import Progress
from nextok.loading import GROWTH
from nextok.models.memory import MARGIN, available_memory, check_memory
from nextok.models.native import NativeModel

SIZES = {"vocab_size": 320, "dim": 64, "n_layers": 2, "n_kv_heads": 4}
BACKENDS = [("numpy", None), ("native", None), ("torch", "cpu")]


@pytest.fixture(scope="module")
def eight():
    """A model of 8 heads: not the book's 16."""
    return random_transformer(1, **SIZES, n_heads=8)


@pytest.fixture(scope="module")
def path(eight, tmp_path_factory):
    return write_book(tmp_path_factory.mktemp("book"), eight)


@pytest.fixture(scope="module")
def folder(eight, tmp_path_factory):
    return write_export(tmp_path_factory.mktemp("export"), eight)


# --- progress


@pytest.mark.parametrize(("backend", "device"), BACKENDS)
@pytest.mark.parametrize("quantize", [None, "q8_0"])
def test_progress_counts_the_bytes_of_the_file_to_the_end(folder, capfd, backend, device, quantize):
    heard = []
    nt.load(folder, backend=backend, device=device, quantize=quantize, progress=heard.append)
    stages = list(dict.fromkeys(each.stage for each in heard))
    assert stages == ([f"quantizing {folder.name}"] if quantize else []) + [f"loading {folder.name}"]
    for stage in stages:
        parts = [each for each in heard if each.stage == stage]
        assert {each.brief for each in parts} == {True}
        assert [each.done for each in parts] == sorted(each.done for each in parts)
        assert parts[0].done == 0
        assert parts[-1].done == parts[-1].total > 0
        assert len(parts) > 10
    tensors = open_model(folder).tensors.values()
    assert heard[0].total == sum(tensor.data.nbytes for tensor in tensors)
    assert capfd.readouterr() == ("", "")


def test_a_tensor_counts_once_and_only_when_it_is_looked_up(folder):
    tensors, heard = open_model(folder).tensors, []
    watched = WatchedTensors(tensors, heard.append)
    assert {**dict(watched.items())} == dict(tensors)
    assert list(watched) == list(tensors)
    assert len(watched) == len(list(watched.values())) == len(tensors)
    assert "token_embd.weight" in watched
    assert "nothing" not in watched
    assert watched.get("nothing") is None
    assert heard == []
    first, second = list(tensors)[:2]
    for name in (first, first, second, first):
        assert watched[name] is tensors[name]
    assert heard == [0, tensors[first].data.nbytes]


def test_a_model_that_fails_is_not_reported_as_done(folder, monkeypatch):
    heard = []
    monkeypatch.setattr("nextok.models.memory.available_memory", lambda: 1000)
    with pytest.raises(LimitError):
        nt.load(folder, backend="numpy", progress=heard.append)
    assert heard == []


def test_the_command_line_draws_a_bar_only_when_loading_takes_long(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    now = [0.0]
    monkeypatch.setattr("nextok.cli.bar.time.monotonic", lambda: now[0])

    def load(seconds):
        now[0] = 0.0
        with show_progress() as report:
            for done in range(5):
                report(Progress("loading x", done, 4, brief=True))
                now[0] += seconds / 4
        return capsys.readouterr().err

    assert load(0.4) == ""
    assert "loading x" in load(2.0)


def test_loading_is_no_line_in_a_log_and_quiet_has_no_report(capsys):
    with show_progress() as report:
        report(Progress("loading x", 1, 2, brief=True))
        report(Progress("fetching x", 1, 2))
    assert capsys.readouterr().err == "fetching x\n"
    with show_progress(quiet=True) as report:
        assert report is None


# --- options


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"context": 0}, "context must be a whole number from 1 up, got 0"),
        ({"context": 2.0}, "context must be a whole number from 1 up, got 2.0"),
        ({"context": True}, "context must be a whole number from 1 up, got True"),
        ({"heads": "8"}, "heads must be a whole number from 1 up, got '8'"),
        ({"progress": True}, "progress must be a function that takes a Progress, got True"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_fetched(options, says, monkeypatch):
    monkeypatch.setattr("nextok.loading.resolve", lambda *args, **options: pytest.fail("fetched"))
    with pytest.raises(ValueError, match=says):
        nt.load("smollm2", **options)


SUGGESTED = [
    ({"temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": 0, "repetition_penalty": 1.05},) * 2,
    ({"do_sample": False, "temperature": 0.6}, {}),
    ({"temperature": float("nan"), "top_k": 1.5, "top_p": "0.9", "min_p": -1, "repetition_penalty": True}, {}),
    ({"temperature": 1e9, "top_k": 10**30, "top_p": [1]}, {}),
    ({"eos_token_id": 2}, {}),
]


@pytest.mark.parametrize(("settings", "found"), SUGGESTED, ids=str)
def test_the_settings_that_a_models_makers_suggest_are_read_and_not_believed_blindly(settings, found, tmp_path):
    (tmp_path / "generation_config.json").write_text(json.dumps(settings))
    assert read_suggested(Checkpoint(None, {}, {}), tmp_path) == found
    if "do_sample" not in settings:  # a GGUF file has no such thing
        keys = {name: f"general.sampling.{key}" for name, (key, _, _) in SETTINGS.items()}
        metadata = {keys.get(name, name): value for name, value in settings.items()}
        assert read_suggested(Checkpoint(None, {}, metadata), tmp_path / "a.gguf") == found


def test_a_broken_file_of_settings_is_named(folder, tmp_path):
    (tmp_path / "generation_config.json").write_text("[" * 9999)
    with pytest.raises(ModelFileError, match=r"generation_config\.json: the file is not JSON"):
        read_suggested(Checkpoint(None, {}, {}), tmp_path)
    assert read_suggested(Checkpoint(None, {}, {}), folder.parent) == {}


def test_context_limits_prompt_and_text(folder):
    lm = nt.load(folder, backend="numpy", context=20)
    assert lm.model.context == 20
    output = lm.generate([1] * 15, max_tokens=50, ignore_eos=True)
    assert (len(output.tokens), output.finish_reason) == (5, "context")
    with pytest.raises(LimitError, match="20"):
        lm.generate([1] * 21)
    whole = nt.load(folder, backend="numpy")
    assert output.tokens == whole.generate([1] * 15, max_tokens=5, ignore_eos=True).tokens
    with pytest.raises(ValueError, match=r"context must be a whole number from 1 to 512, got 513; .*model's own"):
        nt.load(folder, context=513)


def test_heads_that_are_assumed_are_warned_of_and_can_be_said(path, folder):
    expected = nt.load(folder, backend="numpy").generate([1, 2, 3], max_tokens=8, ignore_eos=True).tokens
    with pytest.warns(UserWarning, match=r"'pretrain\.pth'.*16, the book's.*config\.json.*heads= \(--heads\)"):
        guessed = nt.load(path, backend="numpy")
    assert guessed.generate([1, 2, 3], max_tokens=8, ignore_eos=True).tokens != expected
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        said = nt.load(path, backend="numpy", heads=np.int64(8))
    assert said.generate([1, 2, 3], max_tokens=8, ignore_eos=True).tokens == expected
    assert open_model(path, heads=8).config == open_model(folder).config


def test_heads_that_contradict_the_file_are_refused(path, folder, eight, tmp_path):
    with pytest.raises(ModelFileError, match="n_heads is 7, which does not divide the width 64"):
        open_model(path, heads=7)
    with pytest.raises(ValueError, match=r"heads must be a whole number from 1 to 1,024, got 2000"):
        open_model(path, heads=2000)
    with pytest.raises(ValueError, match=r"heads is for Happy-LLM \.pth files, but .* leave heads out"):
        open_model(folder, heads=8)
    configured = write_book(tmp_path, eight, {"n_heads": 8})
    assert open_model(configured, heads=8).config.heads == 8
    with pytest.raises(ModelFileError, match="n_heads is 8 in its configuration, but heads=16 was given"):
        open_model(configured, heads=16)


def test_an_exported_folder_without_heads_is_warned_of_too(tmp_path):
    export = write_export(tmp_path / "export", random_transformer(1, **SIZES, n_heads=16), n_heads=None)
    with pytest.warns(UserWarning, match="'export' does not say how many heads"):
        assert open_model(export).config.heads == 16


def test_the_command_line_says_heads_context_and_warnings(path, capfd):
    short = ("--raw", "--max-tokens", "4", "--backend", "numpy", "--model", str(path))
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert main(["x", *short]) == 0
        assert capfd.readouterr().err.startswith("nextok: 'pretrain.pth' does not say how many heads")
        assert main(["x", *short, "--quiet"]) == 0
        assert capfd.readouterr().err == ""
    assert main(["x", *short, "--heads", "8"]) == 0
    assert "heads" not in capfd.readouterr().err
    assert main(["x", *short, "--heads", "8", "--context", "2"]) == 0
    assert "context of 2 tokens" in capfd.readouterr().err
    assert main(["x", *short, "--heads", "8", "--context", "513"]) == 2


# --- the core


def test_a_missing_core_is_warned_of_and_refused_when_asked_for(folder, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "nextok._native", None)
    monkeypatch.delitem(sys.modules, "nextok.models.native", raising=False)
    with pytest.warns(UserWarning, match=r"was not built, so numpy does its work, slowly; .*C\+\+17") as caught:
        assert nt.load(folder).model.backend == "numpy"
    assert caught[0].filename == __file__
    with pytest.raises(NextokError, match="the native core was not built"):
        nt.load(folder, backend="native")
    nt.load(folder, backend="numpy")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("backend", ["auto", "native"])
def test_another_import_error_is_not_blamed_on_a_compiler(folder, monkeypatch, backend):
    pytest.importorskip("nextok._native")
    monkeypatch.setitem(sys.modules, "nextok.models.native", None)
    with pytest.raises(
        NextokError, match=r"cannot be imported \(.*nextok\.models\.native.*install nextok again"
    ) as e:
        nt.load(folder, backend=backend)
    assert "compiler" not in str(e.value)


# --- memory


def tree(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


MEMINFO = {"proc/meminfo": "MemTotal:  9000 kB\nMemFree: 100 kB\nMemAvailable:   4000 kB\n"}
TWO = {"sys/fs/cgroup/memory.max": "3000000\n", "sys/fs/cgroup/memory.current": "1000000\n"}
STATISTIC = {"sys/fs/cgroup/memory.stat": "anon 5\nactive_file 3\ninactive_file 500000\n"}
ONE = "sys/fs/cgroup/memory/docker/x/"
OLD = {f"{ONE}memory.limit_in_bytes": "2000000", f"{ONE}memory.usage_in_bytes": "1500000"}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"proc/meminfo": "MemAvailable: many kB\n"}, None),
        (MEMINFO, 4000 * 1024),
        ({**MEMINFO, **TWO}, 2_000_000),
        ({**MEMINFO, **TWO, **STATISTIC}, 2_500_000),
        ({**MEMINFO, **TWO, "sys/fs/cgroup/memory.max": "max\n"}, 4000 * 1024),
        ({**MEMINFO, **TWO, "sys/fs/cgroup/memory.current": "3000001\n"}, 0),
        ({"proc/self/cgroup": "5:cpu,memory:/docker/x\n", **OLD}, 500_000),
        (
            {"proc/self/cgroup": "5:memory:/docker/x\n", **OLD, f"{ONE}memory.stat": "total_inactive_file 7\n"},
            500_007,
        ),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/memory.max": "9\n", **MEMINFO}, 4000 * 1024),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/memory.max": "9\n",
                "sys/fs/cgroup/a/memory.current": "2\n",
            },
            7,
        ),
    ],
)
def test_available_memory_is_the_least_of_system_and_control_groups(tmp_path, files, expected):
    assert available_memory(tree(tmp_path, files)) == expected


def needs(folder, available, monkeypatch, **options):
    """What loading says where so many bytes are available; None if it loads."""
    monkeypatch.setattr("nextok.models.memory.available_memory", lambda: available)
    try:
        nt.load(folder, **options)
    except LimitError as error:
        return str(error)
    return None


@pytest.mark.parametrize(("backend", "device"), BACKENDS)
def test_a_model_that_does_not_fit_is_refused_before_a_tensor_is_read(folder, monkeypatch, backend, device):
    tensors = open_model(folder).tensors.values()
    sizes = [tensor.data.nbytes for tensor in tensors]  # all of them float32
    enough = round(1.05 * (sum(sizes) + (0 if backend == "native" else max(sizes)))) + 1
    options = {"backend": backend, "device": device}
    assert needs(folder, enough, monkeypatch, **options) is None
    assert needs(folder, None, monkeypatch, **options) is None
    said = needs(folder, enough - 2, monkeypatch, **options)
    assert said.startswith(
        f"{folder.name} on the {backend} backend needs 0.00 GB of memory, and 0.00 GB are available"
    )
    assert said.endswith("free some, or choose a smaller model or one in fewer bits")


def test_both_figures_are_in_gigabytes_and_the_margin_is_in_them(monkeypatch):
    monkeypatch.setattr("nextok.models.memory.available_memory", lambda: 2_100_000_000)
    check_memory("x", 2_000_000_000, "free some")
    with pytest.raises(LimitError, match=r"^x needs 2\.73 GB of memory, and 2\.10 GB are available: free some$"):
        check_memory("x", 2_600_000_000, "free some")


def test_numpy_and_torch_need_room_for_float32_and_native_for_what_is_in_the_file(folder, monkeypatch):
    tensors = open_model(folder).tensors.values()
    floats = sum(tensor.data.nbytes for tensor in tensors)
    assert needs(folder, floats, monkeypatch, backend="native", quantize="q4_1") is None
    assert "on the numpy backend" in needs(folder, floats, monkeypatch, backend="numpy", quantize="q4_1")
    assert "in q4_1 needs" in needs(folder, 1000, monkeypatch, backend="native", quantize="q4_1")
    assert needs(folder, 1000, monkeypatch, backend="native").count("\n") == 0


@pytest.mark.parametrize(
    "kind", ["Q4_0", "Q5_0", "Q4_1", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K", "F16", "BF16", "F32"]
)
def test_what_native_is_said_to_need_is_what_it_holds(tmp_path, kind):
    model = random_transformer(1, vocab_size=320, dim=256, n_layers=1, n_heads=16, n_kv_heads=16, hidden_dim=512)
    checkpoint = open_model(write_book(tmp_path, model), heads=16)
    tensors, stored = dict(checkpoint.tensors), KINDS[kind]
    for name, tensor in tensors.items():
        if len(tensor.shape) == 2:
            tensors[name] = stored.make_tensor(
                name, tensor.shape, np.zeros(stored.count_bytes(tensor.shape), np.uint8)
            )
    held = NativeModel(replace(checkpoint, tensors=tensors))._core.weight_bytes
    needed = sum(each.data.nbytes * GROWTH.get(each.kind, 1) for each in tensors.values() if len(each.shape) == 2)
    assert held <= needed * MARGIN
    assert needed <= held * MARGIN
