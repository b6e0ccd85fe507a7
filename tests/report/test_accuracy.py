"""The accuracy frame of made-up runs against arithmetic done by hand and the estimator called one number at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from meteor_bench.config.run_config import RunConfig
from meteor_bench.report.accuracy import accuracy
from meteor_bench.report.runs import Cell, load
from meteor_bench.report.sections import Section, sections
from tests import synthetic
from tests.estimates import Stratum, mean, mean_of_means

Pick = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def frame(section: Section) -> pd.DataFrame:
    return accuracy(section)


def one(section: Section, label: str, ratio: float) -> Cell:
    return next(c for c in section.cells if c.label == label and c.ratio == ratio)


def scores(cell: Cell) -> dict[str, float]:
    """Benchmark -> headline, the mean over the seeds."""
    return {t.task: float(cell.headline(t.task).mean()) for t in cell.record.tasks}


def test_a_benchmark(section: Section, frame: pd.DataFrame, pick: Pick) -> None:
    ours, theirs = one(section, "meteor", 0.76).scores["pocket_gqa"], section.cells[0].scores["pocket_gqa"]
    difference = 100 * (ours.score - theirs.score)
    got = pick(frame, "meteor", 0.76, name="pocket_gqa")
    assert got["score"] == pytest.approx(100 * ours.score.mean())
    assert got["unpruned"] == pytest.approx(100 * theirs.score.mean())
    own = mean(100 * ours.score, ours.media.tolist(), span=100)
    assert (got["low"], got["high"]) == pytest.approx((own.low, min(own.high, 100)))
    paired = mean(difference, ours.media.tolist(), span=100)
    assert (got["difference"], got["difference_low"], got["difference_high"]) == pytest.approx(paired)
    assert (got["gained"], got["lost"]) == ((difference > 0).sum(), (difference < 0).sum())
    assert got["n"] == 40 and got["sampled"] is True


def test_averages(section: Section, frame: pd.DataFrame, pick: Pick) -> None:
    score = scores(one(section, "meteor", 0.76))
    general = (score["pocket_gqa"] + score["pocket_pope"]) / 2
    wanted = {
        "general": general,
        "average": np.mean(list(score.values())),
        # Three group means; video is no group of METEOR's.
        "METEOR average": (score["pocket_scienceqa"] + general + score["pocket_textvqa"]) / 3,
    }
    for name, value in wanted.items():
        assert pick(frame, "meteor", 0.76, name=name)["score"] == pytest.approx(value)
    assert pick(frame, "meteor", 0.76, name="average")["n"] == 200
    assert pick(frame, "meteor", 0.76, name="METEOR average")["n"] == 160


def test_the_interval_of_an_average(section: Section, frame: pd.DataFrame, pick: Pick) -> None:
    ours, theirs = one(section, "meteor", 0.5).scores, section.cells[0].scores
    tasks = ("pocket_scienceqa", "pocket_gqa", "pocket_pope", "pocket_textvqa")
    strata = [Stratum(100 * (ours[t].score - theirs[t].score), ours[t].media.tolist()) for t in tasks]
    wanted = mean_of_means(strata, weights=[1 / 3, 1 / 6, 1 / 6, 1 / 3], span=100)
    got = pick(frame, "meteor", 0.5, name="METEOR average")
    assert (got["difference"], got["difference_low"], got["difference_high"]) == pytest.approx(wanted)


def test_relative_is_the_mean_of_the_shares(section: Section, frame: pd.DataFrame, pick: Pick) -> None:
    ours, theirs = scores(one(section, "random", 0.76)), scores(section.cells[0])
    shares = {task: 100 * ours[task] / theirs[task] for task in ours}
    assert pick(frame, "random", 0.76, name="pocket_pope")["relative"] == pytest.approx(shares["pocket_pope"])
    got = pick(frame, "random", 0.76, name="average")
    assert got["relative"] == pytest.approx(np.mean(list(shares.values())))
    general = pick(frame, "random", 0.76, name="general")
    assert general["relative"] == pytest.approx((shares["pocket_gqa"] + shares["pocket_pope"]) / 2)


def test_the_interval_of_relative_against_a_cluster_bootstrap(
    section: Section, frame: pd.DataFrame, pick: Pick
) -> None:
    ours, theirs = one(section, "random", 0.76).scores, section.cells[0].scores
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(3000):
        ratios = []
        for task in section.tasks:
            a, b = (np.bincount(c.media - c.media.min(), c.score) for c in (ours[task], theirs[task]))
            chosen = rng.integers(0, a.size, a.size)
            ratios.append(a[chosen].sum() / b[chosen].sum())
        draws.append(100 * np.mean(ratios))
    got = pick(frame, "random", 0.76, name="average")
    half = 1.96 * float(np.std(draws))
    assert got["relative_high"] - got["relative"] == pytest.approx(half, rel=0.15)


def test_seeds_are_averaged_and_spread(section: Section, frame: pd.DataFrame, pick: Pick) -> None:
    cell = one(section, "random", 0.76)
    per_seed = [np.mean([t.score for t in run.record.tasks]) for run in cell.runs]
    got = pick(frame, "random", 0.76, name="average")
    assert got["score"] == pytest.approx(np.mean(per_seed))
    assert got["sd"] == pytest.approx(np.std(per_seed, ddof=1))
    assert math.isnan(pick(frame, "meteor", 0.5, name="average")["sd"])


def rows(config: RunConfig, wrong: dict[str, list[int]], n: int = 40) -> list[Any]:
    """Samples of which those of the given documents are wrong and the others right."""
    return [replace(s, score=float(s.doc_id not in wrong.get(s.task, []))) for s in synthetic.samples(config, n=n)]


def compared(out: Path, wrong: dict[str, dict[str, list[int]]]) -> tuple[Section, pd.DataFrame]:
    """Methods at one ratio that are wrong on the given documents, beside a model that is right on all."""
    plain = RunConfig(out=out)
    synthetic.write(plain, rows=rows(plain, {}))
    for method, documents in wrong.items():
        config = replace(plain, method=method, ratio=0.5)
        synthetic.write(config, rows=rows(config, documents))
    (section,) = sections(load(out))
    return section, accuracy(section)


def test_no_difference_is_not_certainty(tmp_path: Path) -> None:
    _, frame = compared(tmp_path, {"fastv": {}})
    gqa = frame[(frame["row"] == 1) & (frame["name"] == "pocket_gqa")].iloc[0]
    # 40 questions on 10 images.
    bound = 100 * (1 - 0.025 ** ((1 + 3 * 0.15) / 40))
    assert gqa["difference"] == 0
    assert (gqa["difference_low"], gqa["difference_high"]) == pytest.approx((-bound, bound))
    assert gqa["low"] == pytest.approx(100 - bound) and gqa["high"] == 100


def test_the_best_is_marked_only_where_it_leads_by_more_than_noise(tmp_path: Path) -> None:
    many = {task: list(range(30)) for task in synthetic.GROUPS}
    section, frame = compared(tmp_path, {"fastv": many, "meteor": {"pocket_gqa": [0]}, "tome": {"pocket_gqa": [4, 8]}})
    best = {section.labels[r["row"]] for r in frame[frame["best"]].to_dict("records")}
    assert best == set(), "meteor leads tome by one question"
    section, frame = compared(tmp_path / "two", {"fastv": many, "meteor": {}})
    found = frame[frame["best"]]
    assert {section.labels[row] for row in found["row"]} == {"meteor"}
    assert set(found["name"]) == set(frame["name"]), "thirty of forty questions are no noise in any column"


def test_one_method_alone_is_not_the_best(tmp_path: Path) -> None:
    _, frame = compared(tmp_path, {"meteor": {}})
    assert not frame["best"].any()


def test_a_headline_that_is_no_mean_is_marked(tmp_path: Path) -> None:
    config = RunConfig(out=tmp_path)
    made = synthetic.samples(config)
    record = synthetic.record(config, made, None)
    f1 = replace(record.tasks[2], score=record.tasks[2].score - 3)
    synthetic.write(config, tasks=(*record.tasks[:2], f1, *record.tasks[3:]))
    frame = accuracy(sections(load(tmp_path))[0])
    (got,) = frame[frame["name"] == "pocket_pope"].to_dict("records")
    assert got["sampled"] is False
    # The interval is centred on the headline.
    assert got["score"] == pytest.approx(f1.score)
    assert got["high"] - got["score"] == pytest.approx(got["score"] - got["low"])


def test_rescaled_benchmarks_keep_their_own_number(tmp_path: Path) -> None:
    """MME's 1508 of 2000 enters averages as 75.4."""
    config = RunConfig(out=tmp_path)
    tasks = synthetic.record(config, synthetic.samples(config), None).tasks
    mme = replace(tasks[0], metric="mme_perception_score,none", score=75.4, metrics={"mme_perception_score,none": 1508})
    synthetic.write(config, tasks=(mme, *tasks[1:]))
    frame = accuracy(sections(load(tmp_path))[0])
    got = {r["name"]: r for r in frame.to_dict("records")}
    assert (got[mme.task]["score"], got[mme.task]["native"]) == (75.4, 1508)
    assert got["average"]["score"] == pytest.approx(np.mean([75.4, *(t.score for t in tasks[1:])]))


def test_a_run_without_its_unpruned_one_has_scores_only(tmp_path: Path) -> None:
    synthetic.write(RunConfig(method="meteor", ratio=0.5, out=tmp_path))
    frame = accuracy(sections(load(tmp_path))[0])
    assert frame["score"].notna().all()
    assert frame[["unpruned", "difference", "difference_low", "relative", "gained", "lost"]].isna().all(axis=None)


def test_an_unpruned_score_of_zero_has_no_relative(tmp_path: Path) -> None:
    plain = RunConfig(out=tmp_path)
    every = {"pocket_gqa": list(range(40))}
    synthetic.write(plain, rows=rows(plain, every))
    config = replace(plain, method="fastv", ratio=0.5)
    synthetic.write(config, rows=rows(config, every))
    frame = accuracy(sections(load(tmp_path))[0])
    got = {r["name"]: r["relative"] for r in frame[frame["row"] == 1].to_dict("records")}
    assert math.isnan(got["pocket_gqa"]) and math.isnan(got["average"]) and got["video"] == pytest.approx(100)
