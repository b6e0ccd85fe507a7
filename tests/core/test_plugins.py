"""Rows of other packages are read once, and again when there are others."""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path

import pytest

from meteor_bench.core import plugins

GROUP = "meteor_bench.methods"


def install(folder: Path, name: str) -> None:
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{name} = {name}:Mine\n")


def names() -> set[str]:
    return {point.name for point in plugins.added(GROUP)}


def test_packages_that_come_and_go_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = names()
    install(tmp_path, "first_come")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert names() == before | {"first_come"}
    install(tmp_path, "second_come")
    os.utime(tmp_path, (0, 0))  # the clock of a disk may stand still for a moment
    assert names() == before | {"first_come", "second_come"}
    (point,) = plugins.added(GROUP).select(name="second_come")
    assert point.dist is not None and point.dist.name == "second_come"
    monkeypatch.undo()
    assert names() == before


def test_nothing_is_read_twice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    reads: list[str] = []
    monkeypatch.setattr(
        plugins, "entry_points", lambda group: reads.append(group) or metadata.entry_points(group=group)
    )
    assert names() == names() == {point.name for point in metadata.entry_points(group=GROUP)}
    assert reads == [GROUP]
