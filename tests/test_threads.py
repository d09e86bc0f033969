"""How many threads there are: cores instead of hyperthreads, what a container leaves of them, and `--threads`."""

import json

import pytest

import nextok
from nextok import hub
from nextok.hub import Source
from nextok.models.processors import check_threads, count_cores, count_default_threads, list_processors
from nextok.tools import bench
from nextok.tools.laws import NotCheckedError
from test_cli import run  # noqa: F401  # a fixture
from tiny import tiny_lm


def machine(root, siblings, **files):
    """A tree of /sys and /proc: who shares a core with whom, and further files by their path."""
    for processor, shared in enumerate(siblings):
        topology = root / f"sys/devices/system/cpu/cpu{processor}/topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(shared + "\n")
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


HYPERTHREADED = ["0,4", "1,5", "2,6", "3,7"] * 2


@pytest.mark.parametrize(
    ("siblings", "usable", "cores"),
    [
        (HYPERTHREADED, range(8), 4),
        (HYPERTHREADED, [0, 4], 1),
        (HYPERTHREADED, [0, 1, 4], 2),
        (["0-1", "0-1", "2-3", "2-3"], range(4), 2),
        (["0", "1", "2"], range(3), 3),
        ([], range(3), 3),  # a system that does not say
        (["0,1", "0,1"], range(4), 3),
    ],
)
def test_hyperthreads_of_a_core_count_once(tmp_path, siblings, usable, cores):
    assert count_cores(machine(tmp_path, siblings), usable) == cores


@pytest.mark.parametrize(
    ("files", "threads"),
    [
        ({}, 8),
        ({"sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
        ({"sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
        ({"sys/fs/cgroup/cpu.max": "250000 100000\n"}, 2),
        ({"sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        ({"sys/fs/cgroup/cpu.max": "9900000 100000\n"}, 8),
        ({"sys/fs/cgroup/cpu.max": "nonsense"}, 8),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 3),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "500000 100000"}, 5),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/cpu.max": "500000 100000",
                "sys/fs/cgroup/a/cpu.max": "400000 100000",
            },
            4,
        ),
        (
            {
                "proc/self/cgroup": "9:memory:/x\n3:cpuacct,cpu:/x\n",
                "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "600000",
                "sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000",
            },
            6,
        ),
        ({"proc/self/cgroup": "0::/elsewhere\n"}, 8),
        ({"proc/self/cgroup": "nonsense\n"}, 8),
    ],
    ids=str,
)
def test_a_container_may_allow_fewer(tmp_path, monkeypatch, files, threads):
    monkeypatch.setattr("nextok.models.processors.list_processors", lambda: list(range(8)))
    assert count_default_threads(machine(tmp_path, map(str, range(8)), **files)) == threads


def test_here_there_is_at_least_one():
    assert 1 <= count_default_threads() <= count_cores() <= len(list_processors())
    assert check_threads(None) == count_default_threads()
    assert check_threads(256) == 256


def test_systems_without_affinity(monkeypatch):
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert list_processors() == [0]


@pytest.mark.parametrize("threads", [0, -1, 257, 2.0, True, "2"])
def test_what_is_no_number_of_threads(threads):
    with pytest.raises(ValueError, match=f"threads must be a whole number from 1 to 256, got {threads!r}; leave it"):
        check_threads(threads)


# --- the option


def unfit(*asked):
    raise NotCheckedError("there are no weights")


@pytest.fixture
def loads(monkeypatch, tmp_path):
    """The options of every load."""
    options = []
    monkeypatch.setattr(bench, "MEGABYTES", 8)
    monkeypatch.delenv("NEXTOK_THREADS", raising=False)
    monkeypatch.setattr(nextok, "load", lambda name, **given: options.append(given) or tiny_lm(context=400))
    monkeypatch.setattr(hub, "resolve", lambda name, **options: Source(tmp_path, name, "a test"))
    monkeypatch.setattr(hub, "list_models", list)
    monkeypatch.setattr("nextok.formats.open_model", lambda path: None)
    monkeypatch.setattr("nextok.tools.laws.build_reference", unfit)
    monkeypatch.setattr(bench, "measure_footprint", lambda **options: {"load": 1.0, "first token": 2.0})
    return options


COMMANDS = [
    ("Hi", "--max-tokens", "3"),
    ("Hi", "--max-tokens", "3", "--draft", "tiny", "--quiet"),
    ("compare", "Hi", "--max-tokens", "3", "--draft", "tiny"),
    ("chat", "--max-tokens", "3"),
    ("doctor",),
    ("bench", "--quick", "--rounds", "1"),
]


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_every_command_that_loads_a_model_takes_threads(run, loads, monkeypatch, arguments):  # noqa: F811
    assert run(*arguments, "--threads", "3", piped="Hi\n")[2] == 0
    assert {each["threads"] for each in loads} == {3}
    loads.clear()
    assert run(*arguments, piped="Hi\n")[2] == 0
    assert {each["threads"] for each in loads} == {None}
    loads.clear()
    monkeypatch.setenv("NEXTOK_THREADS", "2")
    assert run(*arguments, piped="Hi\n")[2] == 0
    assert {each["threads"] for each in loads} == {2}


@pytest.mark.parametrize("value", ["0", "-3", "257"])
@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_bad_number_of_threads_is_refused_before_loading(run, loads, arguments, value):  # noqa: F811
    out, err, code = run(*arguments, "--threads", value, piped="Hi\n")
    assert (out, code, loads, err.count("\n")) == ("", 2, [], 1)
    assert f"--threads must be a whole number from 1 to 256, got {value}; leave it out" in err


def test_words_are_no_number_of_threads(run, loads, monkeypatch):  # noqa: F811
    assert "got 'all'; see nextok generate --help" in run("Hi", "--threads", "all")[1]
    monkeypatch.setenv("NEXTOK_THREADS", "all")
    out, err, code = run("Hi")
    assert (out, code, loads, err.count("\n")) == ("", 2, [], 1)
    assert "'all'" in err


def test_doctor_says_how_many_threads_there_are(run, loads):  # noqa: F811
    facts = json.loads(run("doctor", "--json")[0])["environment"]
    assert facts["threads"] <= facts["cores"] <= facts["processors"]
    assert json.loads(run("doctor", "--json", "--threads", "5")[0])["environment"]["threads"] == 5
    assert "threads" in run("doctor")[0]
