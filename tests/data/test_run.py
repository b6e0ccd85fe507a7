"""What was fetched runs through lmms-eval without a network; two roots never mix."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as parquet
import pytest

from meteor_bench import cli
from meteor_bench.core.errors import DataError
from meteor_bench.data import fetch as fetching
from meteor_bench.data import suites
from meteor_bench.data.check import check
from meteor_bench.data.fetch import fetch
from meteor_bench.data.hub import Hub
from scripts.make_lookalikes import Lookalike, make, video
from tests.data.conftest import MMMU, POPE, TASKS, VIDEO, pack
from tests.fake_hub import FakeHub, served
from tests.lmms.fakes import constant
from tests.lmms.lookalikes import count_as, counts, saying, score

pytestmark = pytest.mark.xdist_group("lmms_eval")
RunIndex = tuple[Path, dict[str, Lookalike]]
Pull = Callable[[], None]


def bring(hub: FakeHub, root: Path, *tasks: str) -> None:
    assert fetch([suites.benchmark(task) for task in tasks], root, Hub(hub.endpoint)) == []


def test_a_fetched_root_runs_without_a_network(
    hub: FakeHub, root: Path, shelf: RunIndex, cable: Pull, tmp_path: Path
) -> None:
    bring(hub, root, *TASKS)
    cable()
    for task in TASKS:
        result = score(saying(shelf[1][task].right), task, root, tmp_path / task)
        assert result.headline == pytest.approx(100) and result.n == len(shelf[1][task].right)
    with pytest.raises(AssertionError, match="the network was asked"):  # the cable is out
        bring(hub, root, "pope")


def test_two_roots_with_the_same_names_never_mix(hub: FakeHub, root: Path, shelf: RunIndex, tmp_path: Path) -> None:
    """Neither rows nor videos, in one process and in turn."""
    bring(hub, root, "pope", "videomme")
    other = tmp_path / "other"
    for file in (hub.folder / POPE).rglob("test-*.parquet"):
        table = parquet.read_table(file)
        flipped = ["yes" if answer == "no" else "no" for answer in table["answer"].to_pylist()]
        at = table.schema.get_field_index("answer")
        parquet.write_table(table.set_column(at, table.schema.field(at), [flipped]), file)
    for i in range(2):
        video(tmp_path / "bright.mp4", (250, 250, 250))
        with zipfile.ZipFile(hub.folder / VIDEO / f"videos_chunked_{i + 1:02}.zip", "w") as packed:
            packed.write(tmp_path / "bright.mp4", f"data/look{i:08}.mp4")
    bring(hub, other, "pope", "videomme")
    right, wrong = shelf[1]["pope"].right, shelf[1]["pope"].wrong
    brightness = {}
    for turn, (place, answers) in enumerate([(root, right), (other, wrong), (root, right)]):
        assert score(saying(answers), "pope", place, tmp_path / f"{turn}").headline == pytest.approx(100)
        session = constant("A")
        score(session, "videomme", place, tmp_path / f"v{turn}")
        brightness[turn] = max(clip[0].getpixel((5, 5))[0] for clip in session.pictures.values())
    assert brightness[0] == brightness[2] != brightness[1] and brightness[1] > 240


def test_what_is_half_fetched_names_the_command(hub: FakeHub, root: Path, tmp_path: Path) -> None:
    remedy = f"; fetch it: meteor-bench data fetch --task {{}} --root {root}"
    with pytest.raises(DataError) as told:
        score(constant("A"), "pope", root, tmp_path)
    assert str(told.value) == f"pope: no data set {POPE} in {root}" + remedy.format("pope")
    hub.corrupt.add("videos_chunked_02.zip")
    rows = [suites.benchmark("videomme")]
    assert fetch(rows, root, Hub(hub.endpoint)) != []
    with pytest.raises(DataError) as told:
        score(constant("A"), "videomme", root, tmp_path)
    what = f"videomme: the videos of {VIDEO} in {root} are not whole, videos_chunked_02.zip is missing"
    assert str(told.value) == what + remedy.format("videomme")
    hub.corrupt.clear()
    bring(hub, root, "videomme")
    (root / "videomme" / "data" / "look00000001.mp4").write_bytes(b"cut")
    with pytest.raises(DataError, match=r"are not whole, videomme/data/look00000001.mp4 is missing; fetch it: "):
        score(constant("A"), "videomme", root, tmp_path)


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["meteor-bench", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


@pytest.mark.slow
def test_run_touches_no_network(
    hub: FakeHub, root: Path, cable: Pull, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "Hub", lambda: Hub(hub.endpoint))
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, "data", "fetch", "--task", "pope,mmmu_val", "--root", str(root)) == 0
    cable()
    asked = len(hub.asked)
    arguments = ("--method", "fastv", "--ratio", "0.5", "--tasks", "pope,mmmu_val", "--data-root", str(root))
    assert call(monkeypatch, "run", *arguments) == 0
    assert call(monkeypatch, "data", "check", "--root", str(root)) == 0
    assert len(hub.asked) == asked and MMMU in {"/".join(a.path.split("/")[3:5]) for a in hub.asked}


@pytest.mark.slow
def test_everything_in_the_suites_is_fetched_and_runs(
    online: None, root: Path, cable: Pull, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Full marks for right answers on each of lmms-eval's own benchmarks, of the data that came over the wire."""
    made = make(tmp_path / "hub")
    pack(tmp_path / "hub")
    count_as(monkeypatch, counts(made))
    with served(tmp_path / "hub") as hub:
        told = fetch([suites.benchmark(task) for task in made], root, Hub(hub.endpoint))
    assert told == [] and [line for row in check(root) for line in row["problems"]] == []
    cable()
    for task, answers in made.items():
        full = 0.6 if task == "ocrbench" else 100  # points of 1000
        assert score(saying(answers.right), task, root, tmp_path / task).headline == pytest.approx(full), task
