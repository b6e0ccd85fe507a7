"""Rows and videos that are files come from a branch of the hub's repository."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from meteor_bench.core.errors import DataError
from meteor_bench.data import suites
from meteor_bench.data.check import check
from meteor_bench.data.root import check_files
from scripts.make_lookalikes import make
from tests.data.conftest import MVBENCH, pack
from tests.data.fetching import Breaking, bring, problems
from tests.fake_hub import FakeHub
from tests.lmms.lookalikes import count_as, counts

CLIPS = ("mvbench_episodic_reasoning", "mvbench_action_count")


@pytest.fixture
def clips(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two benchmarks of MVBench on the hub; where their videos are on its branch."""
    count_as(monkeypatch, counts(make(hub.folder, CLIPS)))
    pack(hub.folder)
    return hub.folder / f"{MVBENCH}@video"


def test_rows_and_videos_that_are_files_come_from_the_branch(hub: FakeHub, root: Path, clips: Path) -> None:
    assert bring(hub, root, *CLIPS) == [] and problems(root) == problems(root, *CLIPS) == []
    entry = json.loads((root / "manifest.json").read_text())["repositories"][MVBENCH]
    assert (entry["commit"], entry["revision"]) == (hub.commit(MVBENCH, "video"), "video")
    there = {p: c for p, c in hub.files(MVBENCH, "video").items() if p.startswith(("tvqa/", "perception/"))}
    videos = root / "mvbench_video"
    assert {p.relative_to(videos).as_posix(): p.read_bytes() for p in videos.rglob("*") if p.is_file()} == there
    assert {f["path"]: f["size"] for f in entry["videos"]["mvbench_video"]} == {p: len(c) for p, c in there.items()}
    (row,) = check(root)
    assert row["videos"] == len(there) and not hub.fetched("/main/")
    hub.asked.clear()
    assert bring(hub, root, CLIPS[0]) == [] and not [a for a in hub.asked if a.path.startswith("/lfs/")]


def test_a_video_that_is_a_file_goes_on_and_is_compared(hub: FakeHub, root: Path, clips: Path) -> None:
    name = "clip1.mp4"
    content = (clips / "perception" / "videos" / name).read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hub, "cut", Breaking(name, len(content) // 3))
        (line,) = bring(hub, root, CLIPS[1])
    assert line.endswith("the same command goes on from here")
    have = len(content) // 3 // 64 * 64
    assert f"{MVBENCH}: perception/videos/{name}: half fetched, " in "".join(problems(root))
    hub.asked.clear()
    assert bring(hub, root, CLIPS[1]) == [] and problems(root) == []
    assert hub.fetched(name) == [f"bytes={have}-"] and not hub.fetched("clip0.mp4")
    place = root / "mvbench_video" / "perception" / "videos" / name
    place.write_bytes(content[:-1] + b"?")
    (line,) = problems(root)
    assert line.startswith(f"{MVBENCH}: perception/videos/{name}: another content than its digest says; fetch it: ")
    place.unlink()
    with pytest.raises(DataError, match=f"are not whole, mvbench_video/perception/videos/{name} is missing; fetch it"):
        check_files(suites.benchmark(CLIPS[1]), root)
    assert bring(hub, root, CLIPS[1]) == [] and place.read_bytes() == content


def test_what_a_branch_lacks_is_named(hub: FakeHub, root: Path, clips: Path) -> None:
    shutil.rmtree(clips / "tvqa")
    commit = hub.commit(MVBENCH, "video")
    told = (
        f"{MVBENCH} has no tvqa/video_fps3_hq_segment/** on the hub at commit {commit[:8]}, which holds the videos of "
    )
    assert bring(hub, root, CLIPS[0]) == [f"{CLIPS[0]}: {told}{CLIPS[0]}"]
    shutil.rmtree(clips)
    assert bring(hub, root, CLIPS[0]) == [f"{CLIPS[0]}: {MVBENCH} has no branch video on the hub"]


def test_a_root_of_another_branch_is_not_mixed(hub: FakeHub, root: Path, clips: Path) -> None:
    bring(hub, root, CLIPS[1])
    file = root / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["repositories"][MVBENCH]["revision"] = None  # as of versions that read main
    file.write_text(json.dumps(manifest))
    (line,) = bring(hub, root, CLIPS[1])
    assert line == (
        f"{CLIPS[1]}: {MVBENCH}: what is here is of the hub's branch main, lmms-eval reads video; remove "
        f"{root / MVBENCH} and fetch it again for the present one"
    )
    shutil.rmtree(root / MVBENCH)
    assert bring(hub, root, CLIPS[1]) == [] and problems(root) == []
