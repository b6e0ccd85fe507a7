"""Packages that are not there, or are other ones, are one line with the command; made here, none is needed."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest

from meteor_bench.core.errors import ModelError
from meteor_bench.models.natural.onnx_weights import read_graph
from meteor_bench.models.natural.packages import Package, installed, weights_file

WEIGHTS = b"weights"
PACKAGE = Package("some-encoder", "1.2.0", "some_encoder/it.onnx", hashlib.sha256(WEIGHTS).hexdigest())


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages."""
    about = tmp_path / "some_encoder-1.2.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: some-encoder\nVersion: 1.2.0\n")
    (tmp_path / "some_encoder").mkdir()
    # Importing it would show.
    (tmp_path / "some_encoder" / "__init__.py").write_text("raise RuntimeError('its code was run')\n")
    (tmp_path / PACKAGE.file).write_bytes(WEIGHTS)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_the_file_is_found_and_no_code_is_run(site: Path) -> None:
    assert weights_file(PACKAGE).read_bytes() == WEIGHTS
    assert installed(PACKAGE).version == "1.2.0"


def said(package: Package) -> str:
    with pytest.raises(ModelError) as raised:
        weights_file(package)
    (line,) = str(raised.value).splitlines()
    assert line.endswith("make natural")
    return line


def test_one_that_is_missing() -> None:
    assert said(PACKAGE) == "package some-encoder 1.2.0 is not installed; it comes with: make natural"


def test_without_the_reader_of_graphs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ModelError, match=r"^package onnx.* is not installed; it comes with: make natural$"):
        read_graph(tmp_path / "any.onnx")


def test_one_of_another_version(site: Path) -> None:
    assert "some-encoder is 1.2.0 here, expected 1.3.0" in said(PACKAGE._replace(version="1.3.0"))


def test_one_without_its_file(site: Path) -> None:
    assert "lacks some_encoder/other.onnx" in said(PACKAGE._replace(file="some_encoder/other.onnx"))


def test_one_whose_file_is_another(site: Path) -> None:
    (site / PACKAGE.file).write_bytes(b"weightz")
    assert f"expected {PACKAGE.sha256[:12]}" in said(PACKAGE)
