"""Token and latency frames of made-up runs against arithmetic done by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from meteor_bench.config.run_config import RunConfig
from meteor_bench.report.counts import tokens
from meteor_bench.report.runs import load
from meteor_bench.report.sections import Section, sections
from meteor_bench.report.times import latency, median_interval
from meteor_bench.utils.structuring import plain
from tests import synthetic

Pick = Callable[..., dict[str, Any]]


def test_tokens(section: Section, pick: Pick) -> None:
    frame = tokens(section)
    got = pick(frame, "meteor", 0.76, name="final")
    assert (got["mean"], got["min"], got["max"], got["sd"], got["unpruned"]) == (61, 61, 61, 0, 256)
    assert pick(frame, "meteor", 0.76, name="encoder c")["mean"] == 64
    assert pick(frame, "meteor", 0.76, name="requested ratio")["mean"] == 0.76
    realised = pick(frame, "meteor", 0.76, name="realised ratio")
    assert realised["mean"] == pytest.approx(1 - 61 / 256)
    assert (realised["min"], realised["max"], realised["sd"]) == pytest.approx((1 - 61 / 256, 1 - 61 / 256, 0))
    assert pick(frame, "random", 0.76, name="missed")["mean"] == 0


def test_the_realised_ratio_of_an_adaptive_method(tmp_path: Path) -> None:
    """Questions of different size: the mean is that of all tokens, the range that of the questions."""
    config = RunConfig(method="meteor", ratio=0.5, out=tmp_path)
    kept, whole = (100, 156, 640), (256, 256, 1024)
    rows = [
        replace(s, tokens={**s.tokens, "final": kept[s.doc_id % 3], "reference": whole[s.doc_id % 3]})
        for s in synthetic.samples(config, n=6)
    ]
    synthetic.write(config, rows=rows)
    (got,) = [r for r in tokens(sections(load(tmp_path))[0]).to_dict("records") if r["name"] == "realised ratio"]
    each = [1 - k / n for k, n in zip(kept, whole, strict=True)]
    assert got["mean"] == pytest.approx(1 - sum(kept) / sum(whole))
    assert (got["min"], got["max"], got["sd"]) == pytest.approx((min(each), max(each), np.std(each)))


def test_latency(section: Section, pick: Pick) -> None:
    frame = latency(section)
    got = pick(frame, "meteor", 0.5, name="end to end", unit="ms")
    ours = np.array([40 * 0.75 + 0.01 * i for i in range(8)])
    theirs = np.array([40 + 0.01 * i for i in range(8)])
    assert (got["p50"], got["p90"]) == pytest.approx(tuple(np.percentile(ours, [50, 90])))
    assert (got["p50_low"], got["p50_high"]) == (ours[0], ours[-1]), "all that eight values say at 95 %"
    assert (got["unpruned_p50"], got["unpruned_p90"]) == pytest.approx(tuple(np.percentile(theirs, [50, 90])))
    assert got["speedup"] == pytest.approx(np.median(theirs / ours))
    assert (got["speedup_low"], got["speedup_high"]) == pytest.approx((min(theirs / ours), max(theirs / ours)))
    assert got["n"] == 8 and got["source"] == "measured"
    encode = pick(frame, "meteor", 0.5, name="encode", unit="ms")
    assert encode["p50"] == pytest.approx(4.0 + 0.035 + 5.0 + 1.0)
    first = pick(frame, "meteor", 0.5, name="to first token", unit="GFLOPs")
    assert first["p50"] == pytest.approx(1 + 1 + 0.1 + 0.001 + 4 * 0.75)
    assert first["source"] == "inferred"
    assert pick(frame, "meteor", 0.5, name="prune", unit="GFLOPs")["source"] == "measured"
    assert math.isnan(pick(frame, "unpruned", 0.0, name="prune", unit="ms")["speedup"])


def test_requests_are_paired_by_name_and_seed(tmp_path: Path) -> None:
    """Another order of the other session's lines changes nothing; a request it lacks leaves no speed-up."""
    config = RunConfig(method="fastv", ratio=0.5, out=tmp_path / "a")
    path = synthetic.write(config)
    straight = latency(sections(load(path))[0])
    lines = (path / "latency.jsonl").read_text(encoding="utf-8").splitlines()
    (path / "latency.jsonl").write_text("\n".join(lines[7::-1] + lines[8:]) + "\n", encoding="utf-8")
    np.testing.assert_allclose(latency(sections(load(path))[0])["speedup"], straight["speedup"])
    assert straight["speedup"].notna().any()
    (path / "latency.jsonl").write_text("\n".join(lines[1:]) + "\n", encoding="utf-8")
    assert latency(sections(load(path))[0])["speedup"].isna().all()


def test_memory_is_that_of_the_record(tmp_path: Path) -> None:
    synthetic.write(RunConfig(out=tmp_path), peak_memory=3 * 2**30)
    synthetic.write(RunConfig(method="fastv", ratio=0.5, out=tmp_path), peak_memory=2**30)
    rows = latency(sections(load(tmp_path))[0]).to_dict("records")
    got = [r for r in rows if r["name"] == "peak memory"]
    assert [(r["unit"], r["p50"], r["row"]) for r in got] == [("MiB", 3072, 0), ("MiB", 1024, 1)]
    assert got[1]["unpruned_p50"] == 3072


def test_the_fastest_is_marked_only_where_intervals_are_apart(tmp_path: Path) -> None:
    for method, scale in {"none": 1.0, "fastv": 0.9, "meteor": 0.5, "tome": 0.9001}.items():
        config = RunConfig(method=method, ratio=0.0 if method == "none" else 0.5, out=tmp_path)
        path = synthetic.write(config)
        sessions = [("run", scale)] if method == "none" else [("unpruned", 1.0), ("run", scale)]
        lines = [json.dumps(plain(s)) for name, factor in sessions for s in synthetic.times(name, factor)]
        (path / "latency.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    section = sections(load(tmp_path))[0]
    frame = latency(section)
    best = {(section.labels[r["row"]], r["name"]) for r in frame[frame["best"]].to_dict("records") if r["unit"] == "ms"}
    assert ("meteor", "end to end") in best and ("meteor", "prefill") in best
    assert not [name for label, name in best if label != "meteor"]
    assert ("meteor", "encode a") not in best, "the same time in all"


@pytest.mark.parametrize("n", [6, 8, 24, 25, 200])
def test_the_interval_of_a_median(n: int) -> None:
    """Order statistics: the narrowest symmetric pair that a fair coin leaves out at most 2.5 % a side."""
    low, high = median_interval(np.arange(n, dtype=float))
    rank = int(low)
    assert high == n - 1 - rank
    assert stats.binom.cdf(rank, n, 0.5) <= 0.025 < stats.binom.cdf(rank + 1, n, 0.5)


def test_five_values_give_a_median_no_interval() -> None:
    assert np.isnan(median_interval(np.arange(5.0))).all()
