"""Videos that documents will ask for are looked for by name, before anything else is done."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow.parquet as parquet
import pytest

from meteor_bench.core.errors import DataError
from meteor_bench.data import suites
from meteor_bench.data.fetch import fetch
from meteor_bench.data.hub import Hub
from meteor_bench.data.videos import check_videos
from scripts.make_lookalikes import make
from tests.data.conftest import VIDEO
from tests.fake_hub import FakeHub
from tests.lmms.lookalikes import count_as, counts

TASKS = ("videomme", "longvideobench_val_v", "mvbench_episodic_reasoning")


@pytest.fixture
def look(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root of another make: without a manifest."""
    count_as(monkeypatch, counts(make(root, TASKS)))
    return root


def told(task: str, root: Path, limit: int | None = None) -> str:
    with pytest.raises(DataError) as error:
        check_videos(suites.benchmark(task), root, limit)
    return str(error.value)


def test_every_row_with_videos_says_how_they_are_named() -> None:
    rows = [row for row in suites.benchmarks().values() if row.videos]
    assert len(rows) == 22 and all(row.clip and "{" in row.clip for row in rows)


def test_what_is_missing_is_counted_and_the_first_named(look: Path) -> None:
    for task in TASKS:
        check_videos(suites.benchmark(task), look)
    folder = look / "videomme" / "data"
    (folder / "look00000001.mp4").unlink()
    assert told("videomme", look) == (
        f"videomme: 1 of 2 videos is missing in {folder}, the first is look00000001.mp4; fetch it: "
        f"meteor-bench data fetch --task videomme --root {look}; or run with --skip-broken"
    )
    check_videos(suites.benchmark("videomme"), look, limit=3)  # the first three ask for the other one
    folder = look / "datasets" / "longvideobench" / "videos"
    for file in folder.iterdir():
        file.unlink()
    assert f": 2 of 2 videos are missing in {folder}, the first is v0.mp4; " in told("longvideobench_val_v", look)
    folder = look / "mvbench_video" / "tvqa" / "video_fps3_hq_segment"
    shutil.rmtree(folder / "episode")  # a folder of frames
    assert f": 1 of 3 videos is missing in {folder}, the first is episode; " in told(TASKS[2], look)


@pytest.mark.parametrize("suffix", [".MP4", ".mkv"])
def test_other_names_that_lmms_eval_tries_count(look: Path, suffix: str) -> None:
    file = look / "videomme" / "data" / "look00000001.mp4"
    file.rename(file.with_suffix(suffix))
    check_videos(suites.benchmark("videomme"), look)
    file.with_suffix(suffix).rename(file.with_suffix(".webm"))
    assert "1 of 2 videos is missing" in told("videomme", look)


def test_rows_without_the_column_are_one_line(look: Path) -> None:
    (file,) = (look / VIDEO).rglob("*.parquet")
    parquet.write_table(parquet.read_table(file).drop_columns(["videoID"]), file)
    assert told("videomme", look) == f"videomme: {file} has no column videoID: another version of the data set"


def test_what_the_hub_itself_lacks_is_said_after_a_fetch(hub: FakeHub, root: Path) -> None:
    (hub.folder / VIDEO / "videos_chunked_02.zip").unlink()
    (line,) = fetch([suites.benchmark("videomme")], root, Hub(hub.endpoint))
    assert line == (
        f"videomme: 1 of 2 videos is missing in {root / 'videomme' / 'data'}, the first is look00000001.mp4; "
        f"{VIDEO} has none of that name on the hub, put it there; or run with --skip-broken"
    )
