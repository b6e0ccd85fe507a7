"""A hub on this machine with look-alikes, and an empty root."""

from __future__ import annotations

import io
import shutil
import socket
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import close_session, constants, file_download

from scripts.make_lookalikes import Lookalike, make
from tests.fake_hub import FakeHub, served
from tests.lmms.lookalikes import count_as, counts

POPE, MMMU, VIDEO = "lmms-lab-encoder/POPE", "lmms-lab-encoder/MMMU", "lmms-eval/Video-MME"
MVBENCH, LONG = "OpenGVLab/MVBench", "longvideobench/LongVideoBench"
TASKS = ("pope", "mmmu_val", "videomme")


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Lookalike]]:
    """Look-alikes as the hub has them: POPE with a split that nobody reads, videos in two zip files."""
    folder = tmp_path_factory.mktemp("hub")
    looks = make(folder, TASKS)
    (rows,) = (folder / POPE).rglob("test-*.parquet")
    shutil.copyfile(rows, rows.with_name("train-00000-of-00001.parquet"))
    card = folder / POPE / "README.md"
    head = yaml.safe_load(card.read_text().split("---\n")[1])
    head["configs"][0]["data_files"].append({"split": "train", "path": f"{rows.parent.name}/train-*"})
    splits = [{"name": name, "num_examples": 6, "num_bytes": 1} for name in ("train", "test")]
    head["dataset_info"] = {"splits": splits, "download_size": 1, "dataset_size": 2}
    card.write_text(f"---\n{yaml.safe_dump(head)}---\n# POPE\n")
    pack(folder)
    (folder / VIDEO / "subtitle.zip").write_bytes(b"not wanted")
    return folder, looks


def pack(folder: Path) -> None:
    """The videos of look-alikes as the hub has them: zip files, a tar file in three parts, files on a branch."""
    if (folder / "mvbench_video").is_dir():
        other = folder / f"{MVBENCH}@video"  # rows and videos; those of main differ
        shutil.copytree(folder / MVBENCH, other)
        shutil.copytree(folder / "mvbench_video", other, dirs_exist_ok=True)
        for file in (folder / MVBENCH / "json").iterdir():
            file.write_text("[]")
    if (folder / "datasets").is_dir():
        whole = io.BytesIO()
        with tarfile.open(fileobj=whole, mode="w") as joined:
            joined.add(folder / "datasets" / "longvideobench" / "videos", "videos")
        content, third = whole.getvalue(), len(whole.getvalue()) // 3
        for i, name in enumerate(("aa", "ab", "ac")):
            end = len(content) if name == "ac" else (i + 1) * third
            (folder / LONG / f"videos.tar.part.{name}").write_bytes(content[i * third : end])
    if (folder / "videomme").is_dir():
        for i, video in enumerate(sorted((folder / "videomme" / "data").iterdir()), 1):
            with zipfile.ZipFile(folder / VIDEO / f"videos_chunked_{i:02}.zip", "w") as packed:
                packed.write(video, f"data/{video.name}")
    for name in ("mvbench_video", "datasets", "videomme"):
        shutil.rmtree(folder / name, ignore_errors=True)


@pytest.fixture
def online(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """huggingface_hub as `data fetch` has it, without a token; in small pieces and without waiting."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(name, "1")  # and as before when the test is over, whatever the command set
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 64)  # else 10 MB, of which an interrupted one is lost
    monkeypatch.setattr(file_download.time, "sleep", lambda seconds: None)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))


@pytest.fixture
def hub(
    shelf: tuple[Path, dict[str, Lookalike]], online: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FakeHub]:
    """One of the test's own."""
    folder, looks = shelf
    count_as(monkeypatch, counts(looks))
    shutil.copytree(folder, tmp_path / "hub")
    with served(tmp_path / "hub") as there:
        yield there


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def cable(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it, and every attempt to reach another machine (or this one by its address) fails the test."""

    def pull() -> None:
        close_session()  # connections that are open need no call that is guarded below
        for name in ("connect", "connect_ex", "sendto"):
            monkeypatch.setattr(socket.socket, name, _guarded(getattr(socket.socket, name)))
        monkeypatch.setattr(socket, "getaddrinfo", _asked)

    return pull


def _asked(*arguments: Any, **named: Any) -> Any:
    raise AssertionError(f"the network was asked: {arguments}")


def _guarded(call: Callable[..., Any]) -> Callable[..., Any]:
    """Lets through what stays between processes of this machine: `datasets` starts some."""
    return lambda self, *arguments: (call if self.family == socket.AF_UNIX else _asked)(self, *arguments)
