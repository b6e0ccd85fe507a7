"""The documents as lmms-eval gets them: the right version of them, from anywhere, or one clear line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow.parquet as parquet
import pytest

from meteor_bench.core.errors import DataError
from meteor_bench.data import suites
from meteor_bench.data.shipped import tasks_dir
from meteor_bench.lmms.evaluate import evaluate
from scripts.make_pocket_tasks import point_to, write
from tests.lmms.fakes import FakeSession, constant


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tasks folder of the test's own, in use."""
    folder = tmp_path / "tasks"
    for name in ("_pocket", "pocket_pope"):
        shutil.copytree(tasks_dir() / name, folder / name)
    shutil.copy(tasks_dir() / "suites.yaml", folder)
    tables = suites.read_tables(folder / "suites.yaml")
    monkeypatch.setattr(suites, "_tables", lambda: tables)
    return folder


def first_question(folder: Path) -> str:
    (result,) = evaluate(
        constant("yes"),  # type: ignore[arg-type]
        ["pocket_pope"],
        journal=folder / "answers.jsonl",
        batch_size=1,
        limit=1,
    )
    return str(result.samples[0]["question"])


def test_new_data_are_not_answered_from_the_library_s_cache_of_the_old(copy: Path, tmp_path: Path) -> None:
    before = first_question(copy)
    (file,) = (copy / "pocket_pope" / "data").glob("*.parquet")
    rows = parquet.read_table(file).to_pylist()
    rows[0]["question"] = "is there a new question in the image?"
    new = write(rows, file.parent, "test")
    point_to(new, copy / "pocket_pope" / "pocket_pope.yaml")
    assert [path.name for path in file.parent.iterdir()] == [new.name] != [file.name]
    assert first_question(copy) == "is there a new question in the image?" != before


@pytest.mark.parametrize("damage", ["changed", "cut"])
def test_broken_data_are_one_line_at_once(copy: Path, damage: str) -> None:
    (file,) = (copy / "pocket_pope" / "data").glob("*.parquet")
    data = bytearray(file.read_bytes())
    if damage == "cut":
        del data[len(data) // 2 :]
    else:
        data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))
    session = FakeSession(lambda request: "")
    with pytest.raises(DataError, match="corrupted, its content does not match the digest in its name"):
        evaluate(session, ["pocket_pope"], journal=copy / "a.jsonl", batch_size=1)  # type: ignore[arg-type]


def test_missing_data_are_one_line(copy: Path) -> None:
    (file,) = (copy / "pocket_pope" / "data").glob("*.parquet")
    file.unlink()
    with pytest.raises(DataError, match="no parquet file"):
        evaluate(constant(""), ["pocket_pope"], journal=copy / "a.jsonl", batch_size=1)  # type: ignore[arg-type]
