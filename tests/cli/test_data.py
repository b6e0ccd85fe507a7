"""`data fetch` and `data check` as they are typed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet as parquet
import pytest

from meteor_bench import cli
from meteor_bench.data import fetch as fetching
from meteor_bench.data.hub import Hub
from tests.data.conftest import MMMU, POPE, VIDEO
from tests.fake_hub import FakeHub

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(hub: FakeHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    monkeypatch.setattr(fetching, "Hub", lambda: Hub(hub.endpoint))

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["meteor-bench", "data", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return call


def test_fetch_and_check(call: Call, root: Path, cable: Callable[[], None]) -> None:
    code, out, err = call("fetch", "--task", "pope,mmmu_val", "--root", str(root))
    assert code == 0 and out == "" and "error" not in err
    cable()
    code, out, err = call("check", "--root", str(root))
    assert code == 0 and "error" not in err
    assert [line.split()[0] for line in out.splitlines() if "whole" in line] == [POPE, MMMU]
    file = next((root / POPE).rglob("*.parquet"))
    file.unlink()
    code, out, err = call("check", "--root", str(root), "--json")
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    named = f"{POPE}: {file.relative_to(root / POPE)}: missing"
    assert code == 2 and lines == [f"error: {named}; fetch it: meteor-bench data fetch --task pope --root {root}"]
    table = json.loads(out)
    assert [(row["dataset"], row["state"]) for row in table] == [(POPE, "1 wrong"), (MMMU, "whole")]
    assert [f"error: {problem}" for problem in table[0]["problems"]] == lines and table[1]["problems"] == []
    code, out, err = call("check", "--root", str(root), "--suite", "videomme")
    assert code == 2 and f"error: {VIDEO}: is missing; fetch it: meteor-bench data fetch --task videomme" in err


def test_a_root_of_another_make_has_its_rows_counted(call: Call, root: Path, hub: FakeHub) -> None:
    """As `hf download` leaves it: nothing is compared with a digest, so nothing is read that takes time."""
    shutil.copytree(hub.folder / POPE, root / POPE)
    code, out, err = call("check", "--root", str(root), "--task", "pope")
    assert code == 0 and "rows counted" in out
    assert err == f"note: {POPE}: not fetched by `meteor-bench data fetch`: digests could not be compared\n"


def test_mistakes_are_one_line(call: Call, root: Path, hub: FakeHub) -> None:
    hub.gated.add(POPE)
    code, _, err = call("fetch", "--task", "pope", "--root", str(root))
    assert code == 2 and err.splitlines()[-1].startswith(f"error: pope: {POPE} is gated: accept its licence at ")
    for arguments, said in (
        (("fetch", "--root", str(root)), "say what to fetch: --suite meteor11, or --task pope,gqa"),
        (("fetch", "--task", "popp", "--root", str(root)), "unknown task 'popp'; did you mean 'pope'?"),
        (("fetch", "--suite", "ci", "--root", str(root)), "shipped with meteor-bench, nothing to fetch"),
        (("check", "--root", str(root / "no")), "is no folder"),
        (("check", "--root", str(root)), "holds no manifest of `meteor-bench data fetch`"),
    ):
        code, _, err = call(*arguments)
        assert code == 2 and err.startswith("error: ") and said in err and err.count("\n") == 1


@pytest.mark.slow
def test_a_killed_fetch_goes_on_inside_a_file(hub: FakeHub, root: Path, tmp_path: Path) -> None:
    """Processes of their own, with the client's own pieces of 10 MB; the numbers of rows are the real ones."""
    (rows,) = (hub.folder / VIDEO).rglob("test-*.parquet")
    parquet.write_table(pyarrow.concat_tables([parquet.read_table(rows)] * 450), rows)
    with zipfile.ZipFile(hub.folder / VIDEO / "videos_chunked_02.zip", "w") as packed:
        packed.writestr("data/look00000001.mp4", os.urandom(25_000_000))
    reached, go = threading.Event(), threading.Event()
    hub.cut["videos_chunked_02.zip"] = 22_000_000
    hub.on_cut = lambda: (reached.set(), go.wait(60))
    surroundings = {**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "meteor_bench", "data", *arguments, "--root", str(root)]
        return subprocess.Popen(command, env=surroundings, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    with start("fetch", "--task", "videomme") as first:
        assert reached.wait(60)
        half = _half(root)
        first.send_signal(signal.SIGKILL)
        assert first.wait(10) == -signal.SIGKILL
    go.set()
    have = half.stat().st_size
    assert have in (10 * 2**20, 20 * 2**20)
    hub.asked.clear()
    with start("fetch", "--task", "videomme") as second:
        _, err = second.communicate(timeout=60)
    assert second.returncode == 0, err
    assert hub.fetched("videos_chunked") == [f"bytes={have}-"]
    with start("check") as third:
        out, err = third.communicate(timeout=60)
    assert third.returncode == 0 and "whole" in out, err


def _half(root: Path) -> Path:
    """The half-fetched file, once its first piece is on the disk."""
    for _ in range(300):
        found = list((root / ".meteor-bench").rglob("videos_chunked_02.zip.*"))
        if found and found[0].stat().st_size:
            return found[0]
        time.sleep(0.1)
    raise AssertionError("nothing was written")
