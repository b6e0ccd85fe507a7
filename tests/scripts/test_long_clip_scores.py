"""The table by kind of question and camera, against sums over single answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest

from meteor_bench.report.runs import load
from scripts import long_clip_scores as script
from scripts.make_pocket_video import drawn
from scripts.reference_pocket import VIDEO

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_differences_are_those_of_the_single_answers(capsys: pytest.CaptureFixture[str]) -> None:
    script.main([str(ROOT / VIDEO)])
    lines = capsys.readouterr().out.splitlines()
    cells = load(ROOT / VIDEO)
    assert len(lines) == 2 + len(cells)
    (file,) = (ROOT / "tasks" / "pocket_longvideo" / "data").glob("*.parquet")
    docs = parquet.read_table(file, columns=["family", "question"]).to_pylist()
    moving = {
        (q.question, q.answer, i): c.story.moving for c, qas in drawn("pocket_longvideo") for i, q in enumerate(qas)
    }
    assert 0 < sum(moving.values()) < len(moving)
    plain, *_ = [c for c in cells if not c.pruned]
    for cell in (c for c in cells if c.pruned):
        (line,) = [line for line in lines if line.startswith(f"| {cell.name} |")]
        said = [part.split() for part in line.split("|")[2:-1]]
        gaps = [a - b for a, b in zip(cell.scores["pocket_longvideo"].score, plain.scores["pocket_longvideo"].score,
                                      strict=True)]  # fmt: skip
        short = [g for g, doc in zip(gaps, docs, strict=True) if doc["family"] in script.SHORT]
        assert float(said[0][0]) == pytest.approx(100 * sum(gaps) / 240, abs=0.051)
        assert float(said[1][0]) == pytest.approx(100 * sum(short) / len(short), abs=0.051)
        assert all(float(half) > 0 for _, _, half in said[:1])


def test_an_interval_takes_clips_whole() -> None:
    rng = np.random.default_rng(0)
    clip = np.arange(400) // 4
    gap = rng.normal(0, 1, 100)[clip]  # the four questions of a clip go together
    assert script.half_width(gap, clip, rng) == pytest.approx(1.96 * gap.std() / 10, rel=0.15)


def test_a_folder_without_long_clips_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        script.main([str(tmp_path)])
    assert caught.value.code == 2 and capsys.readouterr().err.count("\n") == 1
