"""Records of older versions say what a ratio was of, and what they tell of the other measures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from meteor_bench.core.match import left, realised
from meteor_bench.records.reader import read_run, read_samples
from meteor_bench.records.schema import migrated

REFERENCE = Path(__file__).parents[2] / "results" / "reference" / "pocket"


@pytest.mark.parametrize("method", ["fastv-0.76", "meteor-0.76"])
def test_a_record_of_version_2(method: str, tmp_path: Path) -> None:
    """It lacks what version 3 added; what was removed of each measure but FLOPs is worked out from its means."""
    folder = next(REFERENCE.glob(f"*-{method}-*"))
    data = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    del data["config"]["match"], data["config"]["deterministic"], data["tokens"]["realised"], data["method_files"]
    (tmp_path / "run.json").write_text(json.dumps({**data, "schema": 2}), encoding="utf-8")
    record = read_run(tmp_path)
    assert record.config.match == "tokens" and record.tokens is not None
    expected = realised(left(sample.tokens, sample.flops) for sample in read_samples(folder))
    assert set(record.tokens.realised) == {"tokens", "layer-mean", "kv"} == set(expected) - {"flops"}
    for measure, share in record.tokens.realised.items():
        assert share == pytest.approx(expected[measure], abs=1e-6)


def test_broken_counts_are_left_for_the_reader_to_refuse() -> None:
    assert migrated({"schema": 2, "tokens": {"final": 3}}) == {"schema": 3, "tokens": {"final": 3}}
    assert migrated({"schema": 4}) is None
