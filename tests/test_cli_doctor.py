"""`nextok doctor` in this process: what it says of sound and of lying models, and with which exit code."""

import json

import pytest

import nextok
from nextok import hub
from test_cli import run, tiny  # noqa: F401  # fixtures
from test_doctor import NAMES, in_a_batch, lying, truth


@pytest.fixture
def doctor(run, monkeypatch):  # noqa: F811
    monkeypatch.setattr(hub, "list_models", list)
    monkeypatch.setattr("nextok.formats.open_model", lambda path: None)
    monkeypatch.setattr("nextok.tools.laws.build_reference", lambda checkpoint, available: truth())
    return lambda *arguments: run("doctor", "tiny", *arguments)


def test_doctor_passes_what_is_sound(doctor):
    out, err, code = doctor("--json")
    facts = json.loads(out)
    assert (code, err) == (0, "")
    assert [check["name"] for check in facts["checks"]] == ["model file", *NAMES]
    assert {check["passed"] for check in facts["checks"]} == {True}
    assert {*facts["checks"][-1]} == {"name", "passed", "detail"}
    assert facts["environment"]["nextok"] == nextok.__version__
    out, _, code = doctor()
    assert code == 0
    assert out.count("pass  ") == len(NAMES) + 1
    assert max(map(len, out.splitlines())) <= 80


def test_doctor_names_what_is_broken(doctor, monkeypatch):
    monkeypatch.setattr(nextok, "load", lambda name, **options: lying(in_a_batch))
    out, _, code = doctor()
    assert code == 1
    assert "in a batch = alone        FAIL  after '" in out
    assert "cache = no cache          pass" in out
    out, _, code = doctor("--json")
    check = next(check for check in json.loads(out)["checks"] if check["name"] == "in a batch = alone")
    assert (code, check["passed"]) == (1, False)
    assert {*check["difference"]} == {"prompt", "way", "position", "expected", "found", "gap", "precision"}


def test_doctor_refuses_a_time_that_is_none(doctor):
    for seconds in ("0", "-1", "nan"):
        out, err, code = doctor("--seconds", seconds)
        assert (out, code) == ("", 2)
        assert err.startswith("nextok: --seconds must be above 0")
