"""Questions that could not be answered are counted in the report, not listed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from meteor_bench.config.run_config import RunConfig
from meteor_bench.core.request import FAILED
from meteor_bench.records.schema import SampleRecord
from meteor_bench.report.layout import lay_out
from meteor_bench.report.runs import load
from tests import synthetic


def rows(config: RunConfig, failed: dict[str, int]) -> list[SampleRecord]:
    """Samples of which the first so many of these benchmarks were not answered."""
    return [
        replace(s, score=0.0, notes=(f"{FAILED}{s.task}: row {s.doc_id}: v{s.doc_id}.mp4 is missing",))
        if s.doc_id < failed.get(s.task, 0)
        else replace(s, notes=("a substitution",))
        for s in synthetic.samples(config)
    ]


def notes(folder: Path) -> list[str]:
    """What is said below the first table, of the questions alone."""
    return [
        note for note in lay_out(load(folder))[0].notes if "substitution" in note or "could not be answered" in note
    ]


def test_one_line_for_each_benchmark_with_the_first_example(tmp_path: Path) -> None:
    unpruned, fastv = RunConfig(out=tmp_path), RunConfig(method="fastv", ratio=0.5, out=tmp_path)
    dart = replace(fastv, method="dart")
    for config, videos in ((unpruned, 12), (fastv, 12), (dart, 11)):
        synthetic.write(config, rows=rows(config, {"pocket_videomme": videos, "pocket_gqa": 1}))
    says = "of pocket_videomme could not be answered and count as wrong; the first: row 0: v0.mp4 is missing."
    assert set(notes(tmp_path)) == {
        f"dart: 11 questions {says}",
        f"unpruned, fastv: 12 questions {says}",
        "unpruned, dart, fastv: 1 question of pocket_gqa could not be answered and counts as wrong; the first: row 0: "
        "v0.mp4 is missing.",
        "unpruned, dart, fastv: a substitution.",
    }
