"""Benchmarks whose questions and pictures are made on the spot, by a command, instead of shipped or fetched."""

from __future__ import annotations

from collections.abc import Iterable

from meteor_bench.core.errors import DataError
from meteor_bench.data.suites import Benchmark

__all__ = ["MADE_BY", "check_made", "unmade"]

MADE_BY = {"natural": "make natural"}
"""A row's data set -> the command that makes it, in a checkout of this repository."""


def unmade(row: Benchmark) -> bool:
    """Whether a benchmark is one of those, and has yet to be made here."""
    return row.dataset in MADE_BY and not any((row.folder / "data").glob("*.parquet"))


def check_made(rows: Iterable[Benchmark]) -> None:
    """Find what has yet to be made.

    Raises:
        DataError: one of the benchmarks; the message names the command.
    """
    for row in rows:
        if unmade(row):
            raise DataError(f"{row.task} has no questions here; they come with: {MADE_BY[row.dataset]}")
