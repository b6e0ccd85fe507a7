"""A package that another can do without is left out of its import, and of nothing else."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pytest

from meteor_bench.utils.left_out import left_out

WITH = "try:\n    import heavy_one\nexcept ImportError:\n    heavy_one = None\n"


@pytest.fixture(autouse=True)
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "heavy_one.py").write_text("")
    (tmp_path / "light_one.py").write_text(WITH)
    (tmp_path / "light_two.py").write_text(WITH)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("heavy_one", "light_one", "light_two"):
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.delitem(sys.modules, name)


def test_it_is_missing_inside_and_there_afterwards() -> None:
    with left_out("heavy_one"):
        assert import_module("light_one").heavy_one is None
    assert "heavy_one" not in sys.modules
    assert import_module("light_two").heavy_one is import_module("heavy_one")


def test_what_is_loaded_stays() -> None:
    heavy = import_module("heavy_one")
    with left_out("heavy_one"):
        assert import_module("light_one").heavy_one is heavy
    assert sys.modules["heavy_one"] is heavy


def test_an_import_that_fails_leaves_nothing_behind() -> None:
    with pytest.raises(ZeroDivisionError), left_out("heavy_one"):
        1 / 0  # noqa: B018
    assert import_module("heavy_one").__name__ == "heavy_one"
