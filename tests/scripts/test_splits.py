"""What the shipped benchmarks ask is not what calibration asks or training draws: by the pictures' digests."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow.parquet as pq

from scripts.make_pocket_tasks import FIRST_SEED, encode
from scripts.pocket.world import KINDS, make, split_rng

TASKS = Path(__file__).resolve().parents[2] / "tasks"


def digests(pattern: str) -> dict[str, set[str]]:
    """Digest of a picture -> the questions on it, of files under tasks/."""
    found: dict[str, set[str]] = {}
    for path in TASKS.glob(pattern):
        table = pq.read_table(path, columns=["media_key", "question", "image"]).to_pydict()
        for key, question, image in zip(table["media_key"], table["question"], table["image"], strict=True):
            assert hashlib.sha256(image["bytes"]).hexdigest()[:16] == key
            found.setdefault(key, set()).add(question)
    return found


def test_no_picture_of_a_benchmark_is_a_calibration_picture() -> None:
    asked, calibrated = digests("pocket_*/data/*.parquet"), digests("calibration/data/*.parquet")
    assert len(asked) > 500 and len(calibrated) == 64
    assert not set(asked) & set(calibrated)


def test_nor_one_that_training_draws() -> None:
    """Training's streams are infinite; of those that the recipe starts with, and of its evaluations, none is there."""
    asked = {**digests("pocket_*/data/*.parquet"), **digests("calibration/data/*.parquet")}
    drawn = set()
    for seed in (0, 1_000_000, 2_000_000, 3_000_000):
        rng = split_rng("train", seed)
        drawn |= {
            hashlib.sha256(encode(make(kind, rng, "train"))[0]).hexdigest()[:16] for kind in KINDS for _ in range(3)
        }
    for seed in (1, 7, 11):
        rng = split_rng("eval", seed)
        drawn |= {hashlib.sha256(encode(make(kind, rng, "eval"))[0]).hexdigest()[:16] for kind in KINDS}
    assert len(drawn) == (12 + 3) * len(KINDS) and not drawn & set(asked)


def test_streams_of_different_splits_and_seeds_differ() -> None:
    """A picture is a function of its stream; benchmarks start at seeds that training and evaluation do not reach."""
    first = {
        (split, seed): tuple(split_rng(split, seed).integers(0, 2**62, 4))
        for split in ("train", "calib", "eval")
        for seed in (0, 1, 7, 11, 3_000_000, FIRST_SEED, FIRST_SEED + 110_000)
    }
    assert len(set(first.values())) == len(first)
    assert FIRST_SEED > 3_000_000 + 10_000
