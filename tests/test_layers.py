"""Packages know each other one way: those below do not import those above."""

from __future__ import annotations

import ast

import pytest

from meteor_bench.records.code_digest import _imports
from meteor_bench.records.provenance import PACKAGE

ABOVE = {
    "models": ("methods", "data", "lmms", "report"),
    "methods": ("data", "lmms", "report"),
    "core": ("data", "lmms", "report"),
    "data": ("lmms",),  # lmms-eval reads a data root; what a root holds is known without it
    "lmms": ("report",),
}


@pytest.mark.parametrize("package", ABOVE)
def test_a_package_does_not_know_those_above_it(package: str) -> None:
    found = {
        (file.relative_to(PACKAGE).as_posix(), name)
        for file in (PACKAGE / package).rglob("*.py")
        for name in _imports(ast.parse(file.read_text(encoding="utf-8")))
    }
    assert found, "no such package"
    above = tuple(f"{PACKAGE.name}.{name}." for name in ABOVE[package])
    assert not [(file, name) for file, name in sorted(found) if f"{name}.".startswith(above)]
