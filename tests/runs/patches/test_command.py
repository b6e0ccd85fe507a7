"""`meteor-bench show`: documents as lmms-eval asks and scores them, settings from flags, the picture's file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from meteor_bench.config.run_config import RunConfig
from meteor_bench.core.errors import ConfigError, MeteorBenchError, UnknownNameError
from meteor_bench.data.calibration import calibration_requests
from meteor_bench.engine.factory import blueprint
from meteor_bench.lmms.document import find, parse
from meteor_bench.records.reader import read_run, read_samples
from meteor_bench.records.run_folder import find_runs
from meteor_bench.records.schema import worded
from meteor_bench.runs.patches.command import named, settings, show, told

REFERENCE = Path(__file__).parents[3] / "results/reference/pocket"


def test_one_document_is_asked_and_scored_as_in_a_whole_run() -> None:
    """The records hold what lmms-eval made of all documents at once; metrics and filters of every kind."""
    (run,) = (
        f for f in find_runs(REFERENCE) if read_run(f).config.method == "fastv" and read_run(f).config.ratio > 0.8
    )
    session = blueprint(RunConfig(device="cpu")).session(calibration_requests)
    right = 0
    samples = read_samples(run)
    for task in ("pocket_ai2d", "pocket_docvqa", "pocket_pope", "pocket_ocrbench"):
        row = next(s for s in samples if s.task == task and s.score < 1 and s.doc_id > 1)
        document = find(f"{task}/{row.doc_id}", session)
        assert (document.request.question, document.request.media_key) == (row.question, row.media_key)
        assert document.target == worded(row.target)
        assert document.score(row.raw) == (worded(row.answer), row.score)
        right += document.score(worded(row.target)).score == 1
    assert right >= 3


def test_settings_are_methods_times_ratios() -> None:
    given = ["fastv:layer=1", "evoprune:schedule=mean"]
    made = settings(["fastv", "evoprune"], [0.5, 0.76], given, {"seed": 3})
    assert [named(c) for c in made] == [
        "fastv(layer=1) 0.5",
        "fastv(layer=1) 0.76",
        "evoprune(schedule=mean) 0.5",
        "evoprune(schedule=mean) 0.76",
    ]
    assert all(c.seed == 3 for c in made)
    assert settings(["fastv"], [0.5], ["layer=1"], {})[0].parameters == {"layer": 1}


@pytest.mark.parametrize(
    ("methods", "parameters", "said"),
    [
        (["fastv", "evoprune"], ["layer=1"], "say whose it is, --param fastv:layer=1"),
        (["fastv"], ["layer=1", "layer=3"], "--param layer is given twice: 1 and 3"),
        (["fastv"], ["tome:layer=1"], "no --method tome is given"),
        (["fastvv"], [], "did you mean 'fastv'"),
    ],
)
def test_settings_that_cannot_be(methods: list[str], parameters: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        settings(methods, [0.5], parameters, {})


@pytest.mark.parametrize(
    ("sample", "said"),
    [
        ("pocket_gqa", "say pocket_gqa/12"),
        ("pocket_gqa/x", "say pocket_gqa/12"),
        ("pocket_gqa/300", "documents 0 to 299, not 300"),
        ("pocket_gqaa/1", "did you mean 'pocket_gqa'"),
    ],
)
def test_samples_that_are_not_there(sample: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse(sample)


def test_a_sheet_is_written(tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    watched = show("pocket_gqa/12", settings(["fastv", "evoprune"], [0.76], [], {}), out)
    assert [p.name for p in tmp_path.iterdir()] == ["sheet.png"]
    with Image.open(out) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape[1] > 760 and pixels.shape[0] > 800 and pixels.std() > 20
    lines = told(watched)
    assert lines[1] == "reference answer: orange" and lines[2].startswith("unpruned: orange (score 1, 256 of 256")
    assert [one.tokens["final"] for one in watched.shown] == [61, 61]
    assert [point.stage for point in watched.shown[0].points] == ["encode", "fuse", "decode"]
    frame = watched.shown[0].frames[0]
    assert np.abs(pixels[40:240, 40:240].mean((0, 1)) - np.asarray(frame).mean((0, 1))).max() < 8  # the picture itself


def test_where_it_cannot_be_written(tmp_path: Path) -> None:
    configs = settings(["fastv"], [0.5], [], {})
    (tmp_path / "file").touch()
    for out in (tmp_path / "sheet.jpg", tmp_path / "file" / "sheet.png"):
        with pytest.raises(MeteorBenchError, match=r"must end in \.png|cannot write to"):
            show("pocket_gqa/12", configs, out)
    with pytest.raises(UnknownNameError):
        show("pocket_gqaa/12", configs, None)
