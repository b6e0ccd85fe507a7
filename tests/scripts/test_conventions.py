"""The table of docs/conventions.md is what its script writes, and says what the papers print."""

from __future__ import annotations

import pytest

from scripts import conventions


@pytest.mark.slow  # builds the real model's modules, without weights
def test_the_page_holds_todays_table() -> None:
    page = conventions.PAGE.read_text(encoding="utf-8")
    assert conventions.page(page) == page


@pytest.mark.parametrize("row", conventions.ROWS, ids=lambda row: f"{row.method} {row.says}")
def test_schedules_only_fall(row: conventions.Published) -> None:
    counts = conventions.layers(row, 32)
    assert len(counts) == 32 and counts == sorted(counts, reverse=True)


def test_what_is_printed_is_a_mean_over_the_layers_or_the_input() -> None:
    """FastV's and SparseVLM's numbers within one token (the authors' are rounded), VisionZip's to the token."""
    for row in conventions.ROWS:
        mean = sum(conventions.layers(row, 32)) / 32
        if row.method.startswith(("FastV in", "the same")):
            assert mean == pytest.approx(float(row.says), abs=1)
        if row.method == "VisionZip":
            assert mean == float(row.says)
