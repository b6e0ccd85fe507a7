"""`doctor` goes on after a check that fails, and says what to do."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from meteor_bench.core.errors import DataError, ModelError, NotInstalledError
from meteor_bench.runs import doctor
from meteor_bench.runs.doctor import Finding, examine


def only(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(doctor, "_CHECKS", {name: doctor._CHECKS[name] for name in names})


def test_what_works_is_ok(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    only(monkeypatch, "python", "packages", "methods", "data", "results")
    findings = examine()
    assert {f.what for f in findings if f.state == "ok"} == {"python", "packages", "methods", "data", "results"}
    assert not [f for f in findings if f.state == "fails"]
    assert not list(tmp_path.iterdir()), "looking changes nothing"


def test_a_failing_check_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> doctor.Said:
        yield "ok", "half of it"
        raise DataError("the file x is\ncorrupted")

    only(monkeypatch, "python")
    monkeypatch.setattr(doctor, "_CHECKS", {"data": broken, **doctor._CHECKS})
    findings = examine()
    assert Finding("data", "fails", "the file x is corrupted") in findings
    assert findings[-1].what == "python"


def test_missing_packages_and_broken_weights_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "package_version", lambda name: "missing" if name == "datasets" else "1")
    only(monkeypatch, "packages")
    assert examine()[0] == Finding("packages", "fails", "not installed: datasets; install meteor-bench again")


def test_models_whose_weights_are_not_shipped_are_optional(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Card(SimpleNamespace):
        def build(self, *_: object) -> None:
            raise ModelError("shard 2 is corrupted")

    class Apart(SimpleNamespace):
        def build(self, *_: object) -> None:
            raise NotInstalledError("package x is not installed; it comes with: y")

    rows = {
        "near": Card(weights=str(tmp_path), published=True),
        "far": Card(weights="some/where", published=True),
        "own": Card(weights=None, published=True),
        "none": Card(weights=None, published=False),
        "apart": Apart(weights=None, published=True),
    }
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr(doctor, "MODELS", SimpleNamespace(names=lambda: list(rows), load=rows.get))
    only(monkeypatch, "models")
    assert [(f.state, f.said) for f in examine()] == [
        ("ok", f"near: weights in {tmp_path}, not read"),
        ("fails", "own: shard 2 is corrupted"),
        ("optional", "apart: package x is not installed; it comes with: y"),
        ("optional", "need weights that are not here (--source takes their folder): far, none"),
    ]


def test_a_glance_finds_what_is_missing_without_torch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert not [f for f in examine(full=False) if f.state == "fails"]
    ours = ("pocket", "pocket-clips", "pocket-comp", "pocket-independent", "pocket-through")
    for name in (*ours, "natural", "natural-independent"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    header = b'{"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}'
    whole = len(header).to_bytes(8, "little") + header + b"1234"
    (tmp_path / "pocket" / "model.safetensors").write_bytes(whole)
    (tmp_path / "pocket-independent" / "model.safetensors").write_bytes(whole[:-1])
    monkeypatch.setattr(doctor, "_SHIPPED", tmp_path)
    failed = [f.said for f in examine(full=False) if f.state == "fails"]
    assert failed == ["pocket-independent: model.safetensors cut or missing; install meteor-bench again"]
