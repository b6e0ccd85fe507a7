"""Frames of synthetic runs against arithmetic done by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from meteor_bench.config import RunConfig
from meteor_bench.errors import RecordError
from meteor_bench.report import tables
from meteor_bench.report.cells import Cell, load
from meteor_bench.report.statistics import mean
from tests import synthetic


@pytest.fixture
def cells(tmp_path: Path) -> list[Cell]:
    synthetic.reference(tmp_path)
    return load(tmp_path)


def one(cells: list[Cell], label: str, ratio: float) -> Cell:
    return next(c for c in cells if c.label == label and c.record.config.ratio == ratio)


def row(frame: object, **where: object) -> dict[str, object]:
    found = [r for r in frame.to_dict("records") if all(r[k] == v for k, v in where.items())]
    assert len(found) == 1
    return found[0]


def test_seeds_become_one_cell_and_every_cell_finds_its_unpruned_run(cells: list[Cell]) -> None:
    assert [(c.label, c.record.config.ratio, c.seeds) for c in cells] == [
        ("unpruned", 0.0, [0]),
        ("meteor", 0.5, [0]),
        ("meteor", 0.76, [0]),
        ("random", 0.76, [0, 1, 2]),
    ]
    assert [c.unpruned is None for c in cells] == [True, False, False, False]


def test_accuracy_of_a_benchmark(cells: list[Cell]) -> None:
    cell = one(cells, "meteor", 0.76)
    ours, theirs = cell.scores["pocket_gqa"], cells[0].scores["pocket_gqa"]
    difference = [100 * (ours.score[d] - theirs.score[d]) for d in ours.score]
    expected = mean(difference, [ours.media[d] for d in ours.score])
    got = row(tables.accuracy(cells), method="meteor", ratio=0.76, name="pocket_gqa")
    assert got["score"] == pytest.approx(100 * np.mean(list(ours.score.values())))
    assert got["unpruned"] == pytest.approx(100 * np.mean(list(theirs.score.values())))
    assert got["difference"] == pytest.approx(expected.value)
    assert (got["difference_low"], got["difference_high"]) == pytest.approx(expected[1:])
    assert (got["gained"], got["lost"]) == (sum(d > 0 for d in difference), sum(d < 0 for d in difference))
    assert got["n"] == 40 and got["sampled"] is True


def test_averages(cells: list[Cell]) -> None:
    frame = tables.accuracy(cells)
    score = {t.task: t.score for t in one(cells, "meteor", 0.76).record.tasks}
    general = (score["pocket_gqa"] + score["pocket_pope"]) / 2
    wanted = {
        "general": general,
        "average": np.mean(list(score.values())),
        # Three group means; video is no group of METEOR's.
        "METEOR average": (score["pocket_scienceqa"] + general + score["pocket_textvqa"]) / 3,
    }
    for name, value in wanted.items():
        assert row(frame, method="meteor", ratio=0.76, name=name)["score"] == pytest.approx(value)
    assert row(frame, method="meteor", ratio=0.76, name="average")["n"] == 200
    assert row(frame, method="meteor", ratio=0.76, name="METEOR average")["n"] == 160


def test_seeds_are_averaged_and_spread(cells: list[Cell]) -> None:
    cell = one(cells, "random", 0.76)
    per_seed = [np.mean([t.score for t in run.record.tasks]) for run in cell.runs]
    got = row(tables.accuracy(cells), method="random", name="average")
    assert got["score"] == pytest.approx(np.mean(per_seed))
    assert got["sd"] == pytest.approx(np.std(per_seed, ddof=1))
    assert math.isnan(row(tables.accuracy(cells), method="meteor", ratio=0.5, name="average")["sd"])


def test_a_headline_that_is_no_mean_is_marked(tmp_path: Path) -> None:
    config = RunConfig(out=tmp_path)
    rows = synthetic.samples(config)
    record = synthetic.record(config, rows, None)
    f1 = replace(record.tasks[2], score=record.tasks[2].score - 3)
    synthetic.write(config, tasks=(*record.tasks[:2], f1, *record.tasks[3:]))
    frame = tables.accuracy(load(tmp_path))
    got = row(frame, name="pocket_pope")
    assert got["sampled"] is False
    # The interval is centred on the headline.
    assert got["score"] == pytest.approx(f1.score)
    assert got["high"] - got["score"] == pytest.approx(got["score"] - got["low"])


def test_tokens(cells: list[Cell]) -> None:
    frame = tables.tokens(cells)
    got = row(frame, method="meteor", ratio=0.76, name="final")
    assert (got["mean"], got["min"], got["max"], got["sd"], got["unpruned"]) == (61, 61, 61, 0, 256)
    assert row(frame, method="meteor", ratio=0.76, name="encoder c")["mean"] == 64
    assert row(frame, method="meteor", ratio=0.76, name="realised ratio")["mean"] == pytest.approx(1 - 61 / 256)
    assert row(frame, method="random", name="missed")["mean"] == 0


def test_latency(cells: list[Cell]) -> None:
    frame = tables.latency(cells)
    got = row(frame, method="meteor", ratio=0.5, name="end to end", unit="ms")
    ours = [40 * 0.75 + 0.01 * i for i in range(8)]
    theirs = [40 + 0.01 * i for i in range(8)]
    assert (got["p50"], got["p90"]) == pytest.approx(tuple(np.percentile(ours, [50, 90])))
    assert (got["unpruned_p50"], got["unpruned_p90"]) == pytest.approx(tuple(np.percentile(theirs, [50, 90])))
    assert got["speedup"] == pytest.approx(np.median(theirs) / np.median(ours))
    assert got["n"] == 8
    encode = row(frame, method="meteor", ratio=0.5, name="encode", unit="ms")
    assert encode["p50"] == pytest.approx(4.0 + 0.035 + 5.0 + 1.0)
    first = row(frame, method="meteor", ratio=0.5, name="to first token", unit="GFLOPs")
    assert first["p50"] == pytest.approx(1 + 1 + 0.1 + 0.001 + 4 * 0.75)
    assert math.isnan(row(frame, method="unpruned", name="prune", unit="ms")["speedup"])


def test_an_unpruned_run_beside_the_folder_is_found(tmp_path: Path) -> None:
    paths = synthetic.reference(tmp_path)
    (cell,) = load(paths["meteor0.5"])
    assert cell.unpruned is not None and cell.unpruned.runs[0].path == paths["none"]


def test_a_run_without_its_unpruned_one_has_scores_only(tmp_path: Path) -> None:
    synthetic.write(RunConfig(method="meteor", ratio=0.5, out=tmp_path))
    assert "difference" not in tables.accuracy(load(tmp_path))


def test_different_questions_are_not_compared(tmp_path: Path) -> None:
    synthetic.write(RunConfig(out=tmp_path), n=8)
    synthetic.write(RunConfig(method="meteor", ratio=0.5, out=tmp_path), n=4)
    with pytest.raises(RecordError, match="answered different questions in pocket_gqa") as caught:
        load(tmp_path)
    assert "-none-" in str(caught.value) and "-meteor-" in str(caught.value)


def test_unfinished_runs(tmp_path: Path) -> None:
    synthetic.write(RunConfig(out=tmp_path), status="partial")
    with pytest.raises(RecordError, match="is unfinished"):
        load(tmp_path)
    synthetic.write(RunConfig(method="meteor", ratio=0.5, out=tmp_path))
    assert [c.label for c in load(tmp_path)] == ["meteor"]


def test_labels(tmp_path: Path) -> None:
    config = RunConfig(
        method="meteor",
        ratio=0.5,
        stages=("encode", "fuse"),
        parameters={"layer": 3},
        positions="renumber",
        out=tmp_path,
    )
    synthetic.write(config)
    assert load(tmp_path)[0].label == "meteor[encode,fuse](layer=3, positions=renumber)"
