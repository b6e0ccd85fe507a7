"""Run folders: written whole, read back equal, resumed, and refused with one line when they are broken."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from meteor_bench.config.run_config import RunConfig
from meteor_bench.core.errors import RecordError
from meteor_bench.records.reader import read_latency, read_run, read_samples, read_scores
from meteor_bench.records.run_folder import RunFolder, find_complete, find_runs
from meteor_bench.utils.atomic_io import check_writable
from tests import synthetic

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_round_trip(tmp_path: Path) -> None:
    config = RunConfig(method="meteor", ratio=0.76, parameters={"layer": 2}, stages=("encode", "fuse"), out=tmp_path)
    path = synthetic.write(config, n=5)
    rows = synthetic.samples(config, n=5)
    assert read_samples(path) == rows
    assert read_run(path) == synthetic.record(config, rows, synthetic.key(config.unpruned()))
    assert [s.session for s in read_latency(path)] == ["unpruned"] * 8 + ["run"] * 8


def test_equal_samples_give_equal_bytes(tmp_path: Path) -> None:
    a, b = (synthetic.write(RunConfig(out=tmp_path / name), n=5) / "samples.jsonl.gz" for name in "ab")
    assert a.read_bytes() == b.read_bytes()


def test_a_folder_is_named_after_time_method_ratio_and_fingerprint(tmp_path: Path) -> None:
    with RunFolder.open(RunConfig(method="fastv", ratio=0.889, out=tmp_path), "abcdef0123456789", NOW) as folder:
        assert folder.path == tmp_path / "20260102-030405-fastv-0.889-abcdef01"
        assert (folder.started, folder.resumed) == ("2026-01-02T03:04:05+00:00", False)


@contextmanager
def partial(config: RunConfig) -> Iterator[RunFolder]:
    """A run that has begun, held inside the block."""
    with RunFolder.open(config, synthetic.key(config), NOW) as folder:
        folder.write(synthetic.record(config, synthetic.samples(config, n=2), None, status="partial", finished=None))
        yield folder


def test_an_unfinished_run_is_resumed(tmp_path: Path) -> None:
    config = RunConfig(out=tmp_path)
    with partial(config) as first:
        pass
    with RunFolder.open(config, synthetic.key(config)) as again:
        assert (again.path, again.resumed) == (first.path, True)


def test_a_finished_or_other_run_is_not_resumed(tmp_path: Path) -> None:
    config = RunConfig(out=tmp_path)
    done = synthetic.write(config, n=2)
    with partial(replace(config, method="random", ratio=0.5)) as other:
        pass
    with RunFolder.open(config, synthetic.key(config)) as folder:
        assert not folder.resumed and folder.path not in (done, other.path)


def test_two_processes_never_share_a_folder(tmp_path: Path) -> None:
    config = RunConfig(out=tmp_path)
    with partial(config) as held, RunFolder.open(config, synthetic.key(config), NOW) as other:
        assert other.path != held.path and not other.resumed


def test_the_lock_dies_with_its_process(tmp_path: Path) -> None:
    config = RunConfig(out=tmp_path)
    with partial(config):
        pass
    script = (
        "import os, signal; from pathlib import Path; from meteor_bench.config.run_config import RunConfig;"
        "from meteor_bench.records.run_folder import RunFolder; from tests import synthetic;"
        f"c = RunConfig(out=Path({str(tmp_path)!r})); f = RunFolder.open(c, synthetic.key(c));"
        "assert f.resumed; os.kill(os.getpid(), signal.SIGKILL)"
    )
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", script], check=False, cwd=root).returncode == -9
    with RunFolder.open(config, synthetic.key(config)) as again:
        assert again.resumed


def test_the_newest_complete_run_is_found(tmp_path: Path) -> None:
    config = RunConfig(out=tmp_path)
    assert find_complete(tmp_path, synthetic.key(config)) is None
    with partial(config):
        pass
    assert find_complete(tmp_path, synthetic.key(config)) is None
    done = synthetic.write(config, n=2)  # goes on in the unfinished folder
    assert find_complete(tmp_path, synthetic.key(config)) == done
    (done / "run.json").write_text("{", encoding="utf-8")
    assert find_complete(tmp_path, synthetic.key(config)) is None


def test_find_runs(tmp_path: Path) -> None:
    path = synthetic.write(RunConfig(out=tmp_path), n=2)
    assert find_runs(tmp_path) == find_runs(path) == [path]
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecordError, match="holds no run"):
        find_runs(tmp_path / "empty")
    with pytest.raises(RecordError, match="is not there"):
        find_runs(tmp_path / "none")
    with pytest.raises(RecordError, match="is a file"):
        find_runs(path / "run.json")


def test_nothing_is_half_written(tmp_path: Path) -> None:
    """A failed write leaves the old file and no other."""
    with partial(RunConfig(out=tmp_path)) as folder:
        before = (folder.path / "run.json").read_bytes()
        (folder.path / "report.md").mkdir()
        with pytest.raises(RecordError, match=r"cannot write .*report\.md"):
            folder.write_text("report.md", "x")
    assert sorted(p.name for p in folder.path.iterdir()) == [".lock", "report.md", "run.json"]
    assert (folder.path / "run.json").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[: len(text) // 2], "is cut or no record"),
        (lambda text: "", "is cut or no record"),
        (lambda text: "[]", "has no 'schema'"),
        (lambda text: "{}", "has no 'schema'"),
        (lambda text: text.replace('"schema": 3', '"schema": 99'), "has schema 99; this version reads schemas 1 to 3"),
        (lambda text: text.replace('"complete"', '"finished"'), "status: expected one of partial, complete"),
        (lambda text: text.replace('"checkpoint"', '"chekpoint"'), "did you mean 'checkpoint'?"),
        (lambda text: text.replace('"exact": true', '"exact": 3'), "exact: expected true or false, found 3"),
    ],
)
def test_a_broken_record_is_one_line(tmp_path: Path, change: object, message: str) -> None:
    path = synthetic.write(RunConfig(out=tmp_path), n=2)
    file = path / "run.json"
    file.write_text(change(file.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(RecordError) as caught:
        read_run(path)
    assert message in str(caught.value) and str(file) in str(caught.value) and "\n" not in str(caught.value)


def test_broken_samples_are_one_line(tmp_path: Path) -> None:
    path = synthetic.write(RunConfig(out=tmp_path), n=2)
    file = path / "samples.jsonl.gz"
    whole = file.read_bytes()
    lines = gzip.decompress(whole).splitlines(keepends=True)
    for content, message in [
        (whole[: len(whole) // 2], "is cut or damaged"),
        (b"not gzip", "is cut or damaged"),
        (whole[:60] + b"xxxx" + whole[64:], "is cut or damaged"),
        (gzip.compress(b"".join(lines)[:-20]), "samples.jsonl.gz:10 is cut or no record"),
        (gzip.compress(lines[0] + b'{"task": "x"}\n'), "samples.jsonl.gz:2: doc_id: the key is missing"),
    ]:
        file.write_bytes(content)
        with pytest.raises(RecordError, match=r"samples.jsonl.gz") as caught:
            read_samples(path)
        assert message in str(caught.value)
    file.unlink()
    with pytest.raises(RecordError, match="is missing"):
        read_samples(path)


def test_the_summary_of_the_samples(tmp_path: Path) -> None:
    path = synthetic.write(RunConfig(method="meteor", ratio=0.5, out=tmp_path), n=6, note="no attention")
    rows = read_samples(path)
    scores = read_scores(path)
    assert {task: dict(zip(t.doc_id, t.score, strict=True)) for task, t in scores.tasks.items()} == {
        task: {s.doc_id: s.score for s in rows if s.task == task} for task in synthetic.GROUPS
    }
    # Equal numbers where, and only where, the picture is the same.
    numbers = {(task, d): m for task, t in scores.tasks.items() for d, m in zip(t.doc_id, t.media, strict=True)}
    pairs = {(numbers[s.task, s.doc_id], s.media_key) for s in rows}
    assert len(pairs) == len({n for n, _ in pairs}) == len({key for _, key in pairs}) == 10
    assert scores.notes == {"no attention": 30} and scores.removed == synthetic.spread(0.5)


def test_a_summary_that_is_missing_damaged_or_of_other_samples_is_made_again(tmp_path: Path) -> None:
    path = synthetic.write(RunConfig(out=tmp_path / "a"), n=6)
    good = read_scores(path)
    file = path / "scores.json.gz"
    other = synthetic.write(RunConfig(method="random", ratio=0.5, out=tmp_path / "b"), n=6) / file.name
    half = file.read_bytes()[:200]
    damaged = file.read_bytes()[:60] + b"xxxx" + file.read_bytes()[64:]
    foreign = gzip.compress(json.dumps({"samples": good.samples, "tasks": 3}).encode())
    for content in (other.read_bytes(), half, damaged, foreign, b""):
        file.write_bytes(content)
        assert read_scores(path) == good
    file.unlink()
    assert read_scores(path) == good
    (path / "samples.jsonl.gz").unlink()
    with pytest.raises(RecordError, match=r"samples.jsonl.gz is missing"):
        read_scores(path)


def test_a_record_of_version_1_is_migrated(tmp_path: Path) -> None:
    path = synthetic.write(RunConfig(out=tmp_path), n=2)
    file = path / "run.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    del data["peak_memory"]
    file.write_text(json.dumps({**data, "schema": 1}), encoding="utf-8")
    assert read_run(path) == synthetic.record(RunConfig(out=tmp_path), synthetic.samples(RunConfig(), n=2), None)


def test_two_processes_writing_one_folder_lose_nothing(tmp_path: Path) -> None:
    """Half of the runs are the same ones in both, started at the same time."""
    script = (
        "import sys; from pathlib import Path; from meteor_bench.config.run_config import RunConfig\n"
        "from tests import synthetic\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "for seed in map(int, sys.argv[2:]):\n"
        "    config = RunConfig(method='random', ratio=0.5, seed=seed, out=Path(sys.argv[1]))\n"
        "    print(synthetic.write(config, n=3), flush=True)\n"
    )
    out = tmp_path / "runs"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(out), *map(str, seeds)],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for seeds in ([0, 1, 2, 3, 4, 5], [3, 4, 5, 6, 7, 8])
    ]
    assert all(process.stdout is not None and process.stdout.readline() == "ready\n" for process in processes)
    said = [process.communicate("go\n", timeout=60)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    folders = [Path(line) for lines in said for line in lines]
    assert len(set(folders)) == 12 and set(find_runs(out)) == set(folders), "each wrote where the other did not"
    seeds = sorted(read_run(folder).config.seed for folder in folders)
    assert seeds == sorted([0, 1, 2, 3, 4, 5, 3, 4, 5, 6, 7, 8])
    for folder in folders:
        assert read_samples(folder) == synthetic.samples(read_run(folder).config, n=3)
        assert len(read_latency(folder)) == 16 and not list(folder.glob(".*.*"))


def test_a_record_of_a_method_that_is_not_installed_can_be_read(tmp_path: Path) -> None:
    path = synthetic.write(RunConfig(out=tmp_path), n=2)
    file = path / "run.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    data["config"]["method"] = "somebody-elses"
    file.write_text(json.dumps(data), encoding="utf-8")
    assert read_run(path).config.method == "somebody-elses"


def test_looking_whether_a_folder_can_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(RecordError, match="cannot write to"):
            check_writable(out)
        with pytest.raises(RecordError, match="cannot write to"):
            RunFolder.open(RunConfig(out=out), "f" * 64)
