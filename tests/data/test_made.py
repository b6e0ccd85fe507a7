"""Benchmarks that a command makes: until then a run says which command, and nothing else needs them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from meteor_bench.core.errors import DataError
from meteor_bench.data import suites
from meteor_bench.data.made import check_made, unmade


def test_what_is_not_made_is_one_line_with_the_command(tmp_path: Path) -> None:
    row = replace(suites.benchmark("natural_gqa"), tasks=tmp_path)
    assert unmade(row)
    with pytest.raises(DataError) as raised:
        check_made([suites.benchmark("pocket_gqa"), row])
    assert str(raised.value) == "natural_gqa has no questions here; they come with: make natural"
    made = tmp_path / "natural_gqa" / "data"
    made.mkdir(parents=True)
    (made / "test-0.parquet").touch()
    check_made([row])


def test_what_is_shipped_or_fetched_is_none_of_them(tmp_path: Path) -> None:
    for name in ("pocket_gqa", "gqa"):
        assert not unmade(replace(suites.benchmark(name), tasks=tmp_path))
    assert all(row.dataset == "natural" for row in suites.resolve("natural"))
