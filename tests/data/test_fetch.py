"""Data sets come from a hub on this machine into a root: the files that are read, whole, once, with a manifest."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pyarrow.parquet as parquet
import pytest
import yaml

from meteor_bench.core.errors import DataError
from meteor_bench.data import fetch as fetching
from meteor_bench.data import suites
from meteor_bench.data.check import check
from meteor_bench.data.fetch import fetch
from meteor_bench.data.hub import Hub
from scripts.make_lookalikes import make
from tests.data.conftest import LONG, MMMU, POPE, TASKS, VIDEO, pack
from tests.data.fetching import Breaking, bring, problems
from tests.fake_hub import TOKEN, FakeHub, sha256
from tests.lmms.lookalikes import count_as, counts


def rows_of(root: Path, begin: str = "") -> Path:
    (file,) = (root / POPE).rglob(f"{begin}*.parquet")
    return file


def test_what_is_read_is_fetched_and_written_down(hub: FakeHub, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bring(hub, root, *TASKS) == []
    manifest = json.loads((root / "manifest.json").read_text())["repositories"]
    assert manifest.keys() == {POPE, MMMU, VIDEO}
    pope = manifest[POPE]
    assert pope["commit"] == hub.commit(POPE) and pope["tasks"] == ["pope"] and pope["fetched"]
    card, rows = pope["files"]
    content = rows_of(root).read_bytes()
    assert (rows["size"], rows["sha256"], rows["rows"]) == (len(content), sha256(content), 6)
    assert card["path"] == "README.md" and card["sha256"] == sha256((root / POPE / "README.md").read_bytes())
    # The split that nobody reads is neither fetched nor named, for `datasets` would prepare it too.
    assert not hub.fetched("train-") and "train" not in (root / POPE / "README.md").read_text().split("---\n")[1]
    assert sorted(p.name for p in (root / "videomme" / "data").iterdir()) == ["look00000000.mp4", "look00000001.mp4"]
    assert not hub.fetched("subtitle.zip") and not list(root.rglob("*.zip"))
    assert [len(a["unpacked"]) for a in manifest[VIDEO]["archives"]] == [1, 1]
    # A public data set is asked for without a token, and of another host only the content.
    assert {a.token for a in hub.asked} == {None}
    said = capsys.readouterr().err
    assert f"{POPE} at {pope['commit'][:8]}: 1 files, " in said and "to fetch: " in said and " free" in said
    assert said.index("to fetch: ") < said.index("fetching (MB): ") and f"{POPE}: {rows['path']}; " in said
    assert problems(root) == [] and problems(root, *TASKS) == []


def test_what_is_there_is_not_fetched_again(hub: FakeHub, root: Path) -> None:
    bring(hub, root, *TASKS)
    before = (root / "manifest.json").read_text()
    hub.asked.clear()
    assert bring(hub, root, *TASKS) == []
    assert not [a for a in hub.asked if a.path.startswith("/lfs/")]
    again = (root / "manifest.json").read_text()
    assert [x for x in again.splitlines() if "fetched" not in x] == [
        x for x in before.splitlines() if "fetched" not in x
    ]


@pytest.mark.parametrize("name", ["test-00000-of-00001.parquet", "videos_chunked_02.zip"])
def test_an_interrupted_file_goes_on_where_it_was(
    hub: FakeHub, root: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    task, repository = ("pope", POPE) if name.endswith("parquet") else ("videomme", VIDEO)
    path, content = next((p, c) for p, c in hub.files(repository).items() if p.endswith(name))
    with monkeypatch.context() as patch:
        patch.setattr(hub, "cut", Breaking(name, len(content) // 3))
        (line,) = bring(hub, root, task)
    assert line.startswith(f"{task}: {repository}: ") and line.endswith("the same command goes on from here")
    half = [f for f in (root / ".meteor-bench").rglob(f"{name}.*")]
    assert len(half) == 1
    have = half[0].stat().st_size
    assert have == len(content) // 3 // 64 * 64
    (told,) = problems(root)
    assert told.startswith(f"{repository}: {path}: half fetched, ")
    assert told.endswith(f"; fetch it: meteor-bench data fetch --task {task} --root {root}")
    hub.asked.clear()
    assert bring(hub, root, task) == [] and problems(root) == []
    assert hub.fetched(name) == [f"bytes={have}-"]
    if task == "videomme":
        assert not hub.fetched("videos_chunked_01.zip")


def test_a_broken_connection_is_made_again(hub: FakeHub, root: Path) -> None:
    hub.cut["test-00000-of-00001.parquet"] = 100
    assert bring(hub, root, "pope") == []
    assert hub.fetched("test-0000") == [None, "bytes=64-"]


def test_a_gated_data_set_says_what_to_do(hub: FakeHub, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.gated.add(POPE)
    (line,) = bring(hub, root, "pope", "mmmu_val")
    page = f"{hub.endpoint}/datasets/{POPE}"
    assert line == f"pope: {POPE} is gated: accept its licence at {page} and set HF_TOKEN to a token of that account"
    assert problems(root) == []  # the other one has come
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
    assert bring(hub, root, "pope") == [line]
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.asked.clear()
    assert bring(hub, root, "pope", "mmmu_val") == []
    assert {a.token for a in hub.asked if POPE in a.path and "/resolve/" in a.path} == {TOKEN}
    # Neither the other data set nor the other host sees the token.
    assert {a.token for a in hub.asked if MMMU in a.path or a.path.startswith("/lfs/")} == {None}


def test_a_hub_that_cannot_be_reached_is_one_line(online: None, root: Path) -> None:
    rows = [suites.benchmark(task) for task in suites.suite_tasks("meteor11")]
    with pytest.raises(DataError, match=r"ScienceQA: no connection to http://127.0.0.1:9 \(.*\); the same command"):
        fetch(rows, root, Hub("http://127.0.0.1:9"))


def test_an_unknown_data_set(hub: FakeHub, root: Path) -> None:
    shutil.rmtree(hub.folder / POPE)
    (line,) = bring(hub, root, "pope")
    assert line == f"pope: {POPE}: the hub shows no such data set to us; if it is private, set HF_TOKEN"


def test_a_corrupted_file_never_gets_its_name(hub: FakeHub, root: Path) -> None:
    hub.corrupt.add("test-00000-of-00001.parquet")
    (line,) = bring(hub, root, "pope")
    assert line.startswith(f"pope: {POPE}: ")
    assert line.endswith("test-00000-of-00001.parquet came twice with another content than its digest says")
    assert not list((root / POPE).rglob("*.parquet")) and len(hub.fetched("test-0000")) == 2
    hub.corrupt.clear()
    assert bring(hub, root, "pope") == [] and problems(root) == []


def test_a_file_that_went_bad_is_found_and_fetched_again(hub: FakeHub, root: Path) -> None:
    bring(hub, root, "pope", "videomme")
    file = rows_of(root)
    whole = file.read_bytes()
    video = root / "videomme" / "data" / "look00000001.mp4"
    for bad, what in (
        (lambda f: f.write_bytes(f.read_bytes()[:-1] + b"?"), "another content than its digest says"),
        (lambda f: f.write_bytes(f.read_bytes()[:-1]), r"bytes"),
        (lambda f: f.unlink(), "missing"),
    ):
        bad(file)
        bad(video)
        first, second = problems(root)
        assert first.startswith(f"{POPE}: {file.relative_to(root / POPE)}: ") and what in first
        assert second.startswith(f"{VIDEO}: videomme/data/look00000001.mp4: ") and what in second
        assert second.endswith(f"; fetch it: meteor-bench data fetch --task videomme --root {root}")
        hub.asked.clear()
        assert bring(hub, root, "pope", "videomme") == [] and problems(root) == []
        assert file.read_bytes() == whole
        assert not hub.fetched("videos_chunked_01.zip") and hub.fetched("videos_chunked_02.zip") == [None]


def test_a_wrong_number_of_rows(hub: FakeHub, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count_as(monkeypatch, {"pope": 9000})
    expected = (
        f"pope: {POPE} has 6 rows in its split test, expected 9000; fetch it: meteor-bench data fetch --task pope "
        f"--root {root} (if it stays so, the hub has another version than this suite is for)"
    )
    assert bring(hub, root, "pope") == [expected] and problems(root) == [expected]


def test_a_root_stays_at_its_commit(hub: FakeHub, root: Path) -> None:
    bring(hub, root, "pope")
    (hub.folder / POPE / "LICENSE.md").write_text("new")
    (line,) = bring(hub, root, "pope")
    assert line == (
        f"pope: {POPE}: the hub no longer has the commit that the manifest names; remove {root / POPE} and fetch it "
        "again for the present one"
    )
    shutil.rmtree(root / POPE)
    assert bring(hub, root, "pope") == [] and problems(root) == []


def test_benchmarks_of_one_data_set_come_one_after_the_other(hub: FakeHub, root: Path, tmp_path: Path) -> None:
    shutil.rmtree(hub.folder / POPE)
    looks = make(hub.folder, ("docvqa_val", "infovqa_val"))
    assert len(looks) == 2
    with pytest.MonkeyPatch.context() as patch:
        count_as(patch, counts(looks))
        assert bring(hub, root, "docvqa_val") == []
        (line,) = problems(root, "infovqa_val")
        name = "lmms-lab-encoder/DocVQA"
        assert line.startswith(
            f"{name}: was not fetched for infovqa_val; fetch it: meteor-bench data fetch --task infovqa"
        )
        assert bring(hub, root, "infovqa_val") == [] and problems(root) == []
    listed = yaml.safe_load((root / name / "README.md").read_text().split("---\n")[1])["configs"]
    assert {entry["config_name"] for entry in listed} == {"DocVQA", "InfographicVQA"}


def test_without_room_nothing_is_fetched(hub: FakeHub, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(root.parent)._replace(free=1000)
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DataError, match=r"root needs .* while videos are unpacked\) and has 1 kB free; make room"):
        bring(hub, root, "videomme")
    assert not [a for a in hub.asked if a.path.startswith("/lfs/")]


def test_one_fetch_at_a_time(hub: FakeHub, root: Path) -> None:
    root.mkdir()
    with fetching._held(root), pytest.raises(DataError, match="another `data fetch` is at work in"):
        bring(hub, root, "pope")


def test_a_root_of_another_make_is_taken_over(hub: FakeHub, root: Path) -> None:
    """As `hf download` leaves it: everything, and no manifest."""
    shutil.copytree(hub.folder / POPE, root / POPE)
    with pytest.raises(DataError, match="holds no manifest of `meteor-bench data fetch`; name what should be there"):
        check(root)
    (row,) = check(root, [suites.benchmark("pope")])
    assert row["problems"] == [] and row["state"] == "rows counted"
    assert row["note"] == f"{POPE}: not fetched by `meteor-bench data fetch`: digests could not be compared"
    whole = rows_of(root, "test-").read_bytes()
    rows_of(root, "test-").write_bytes(whole[:-50])
    (line,) = problems(root, "pope")
    assert line.startswith("pope: ") and "is cut or no data" in line
    rows_of(root, "test-").write_bytes(whole)
    assert bring(hub, root, "pope") == [] and not hub.fetched("test-")
    assert problems(root) == []


def test_an_archive_cannot_leave_its_folder(hub: FakeHub, root: Path) -> None:
    with zipfile.ZipFile(hub.folder / VIDEO / "videos_chunked_01.zip", "w") as packed:
        packed.writestr("../../outside.mp4", b"x")
    (line,) = bring(hub, root, "videomme")
    assert line.endswith("videos_chunked_01.zip names a place outside its folder: ../../outside.mp4")
    assert not list(root.parent.rglob("outside.mp4"))


def test_a_hub_cannot_name_a_place_outside_the_root(hub: FakeHub, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = hub.files(POPE) | {"../../outside.parquet": b"x"}
    monkeypatch.setattr(hub, "files", lambda repository, branch: files)
    (problem,) = bring(hub, root, "pope")
    assert "names a place outside its folder: ../../outside.parquet" in problem
    assert not (root.parent / "outside.parquet").exists()


def test_rows_are_counted_in_the_file(hub: FakeHub, root: Path) -> None:
    bring(hub, root, "mmmu_val")
    manifest = json.loads((root / "manifest.json").read_text())["repositories"][MMMU]
    rows = [file["rows"] for file in manifest["files"] if file["path"].endswith(".parquet")]
    assert rows == [parquet.read_table(f).num_rows for f in sorted((root / MMMU).rglob("*.parquet"))] == [4]


def test_a_tar_file_in_parts_is_one(hub: FakeHub, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count_as(monkeypatch, counts(make(hub.folder, ["longvideobench_val_v"])))
    videos = hub.folder / "datasets" / "longvideobench" / "videos"
    whole = {f"{videos.relative_to(hub.folder)}/{f.name}": f.read_bytes() for f in videos.iterdir()}
    pack(hub.folder)
    with monkeypatch.context() as patch:
        patch.setattr(hub, "corrupt", {"videos.tar.part.ac"})
        (line,) = bring(hub, root, "longvideobench_val_v")
    assert "videos.tar.part.ac came twice with another content" in line and not (root / "datasets").exists()
    (told,) = problems(root)
    assert told.startswith(f"{LONG}: videos.tar.part.aa: not unpacked; fetch it: ")
    hub.asked.clear()
    assert bring(hub, root, "longvideobench_val_v") == [] and problems(root) == []
    assert hub.fetched("videos.tar.part.ac") == [None] and not hub.fetched("videos.tar.part.aa")
    assert {name: (root / name).read_bytes() for name in whole} == whole
    assert not list(root.rglob("*.tar*"))
