"""Digests and fingerprints: equal for equal things, different for anything that matters."""

from __future__ import annotations

from pathlib import Path

from meteor_bench.core.version import __version__
from meteor_bench.records import provenance


def test_a_fingerprint_does_not_depend_on_the_order_of_keys() -> None:
    assert provenance.fingerprint({"a": 1, "b": {"c": (1, 2)}}) == provenance.fingerprint({"b": {"c": [1, 2]}, "a": 1})
    assert provenance.fingerprint({"a": 1}) != provenance.fingerprint({"a": 2})


def test_hash_files_sees_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("2")
    files = [tmp_path / "b", tmp_path / "a"]
    first = provenance.hash_files(files, tmp_path)
    assert first == provenance.hash_files(reversed(files), tmp_path)
    (tmp_path / "a").write_text("3")
    assert provenance.hash_files(files, tmp_path) != first
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").rename(tmp_path / "c")
    assert provenance.hash_files([tmp_path / "a", tmp_path / "c"], tmp_path) != first


def test_environment() -> None:
    env = provenance.environment("cpu", "sdpa", "float32", 2, "c" * 64)
    assert env.meteor_bench == __version__ and env.lmms_eval == "0.7.3" and env.threads == 2
    assert env.processor and env.code == "c" * 64
    assert provenance.package_version("no-such-distribution") == "missing"
    assert provenance.total_memory() > 2**28
