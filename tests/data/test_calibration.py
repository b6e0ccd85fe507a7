"""The calibration set, without lmms-eval."""

from __future__ import annotations

from meteor_bench.data import suites
from meteor_bench.data.calibration import calibration_items
from meteor_bench.data.shipped import tasks_dir


def test_calibration_covers_every_benchmark_and_shares_no_picture_with_any() -> None:
    import pyarrow.parquet as parquet

    items = calibration_items()
    assert {item.task for item in items} == set(suites.suite_tasks("pocket"))
    assert len({item.key for item in items}) == len(items) >= 220
    assert len({item.media_key for item in items}) == 64
    evaluated = {
        key
        for task in suites.suite_tasks("pocket")
        for file in (tasks_dir() / task / "data").glob("*.parquet")
        for key in parquet.read_table(file, columns=["media_key"])["media_key"].to_pylist()
    }
    assert not evaluated & {item.media_key for item in items}


def test_calibration_pictures_are_what_a_processor_takes() -> None:
    items = calibration_items(["pocket_gqa", "pocket_videomme"])
    shown = {item.task: item.media() for item in items}
    assert [picture.size for picture in shown["pocket_gqa"]] == [(128, 128)]
    assert [picture.size for picture in shown["pocket_videomme"]] == [(64, 64)] * 4
    assert all(picture.mode == "RGB" for pictures in shown.values() for picture in pictures)
    assert all(item.question and item.answer for item in items)
