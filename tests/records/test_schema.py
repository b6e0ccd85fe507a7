"""Records of older versions say what a ratio was of, and what they tell of the other measures."""

from __future__ import annotations

from pathlib import Path

import pytest

from meteor_bench.core.match import left, realised
from meteor_bench.records.reader import read_run, read_samples
from meteor_bench.records.schema import migrated

REFERENCE = Path(__file__).parents[2] / "results" / "reference" / "pocket"


@pytest.mark.parametrize("method", ["fastv-0.76", "meteor-0.76"])
def test_a_record_of_version_2(method: str) -> None:
    folder = next(REFERENCE.glob(f"*-{method}-*"))
    record = read_run(folder)
    assert record.config.match == "tokens" and record.tokens is not None
    samples = read_samples(folder)
    expected = realised(left(sample.tokens, sample.flops) for sample in samples)
    assert set(record.tokens.realised) == {"tokens", "layer-mean", "kv"} == set(expected)
    for measure, share in expected.items():
        assert record.tokens.realised[measure] == pytest.approx(share, abs=1e-6)


def test_broken_counts_are_left_for_the_reader_to_refuse() -> None:
    assert migrated({"schema": 2, "tokens": {"final": 3}}) == {"schema": 3, "tokens": {"final": 3}}
    assert migrated({"schema": 4}) is None
