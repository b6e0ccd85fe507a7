"""Hostile files, and which of our readers each is put before."""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from meteor_bench.config import sweep_config
from tests.hostile.case import Case, Put, Read
from tests.hostile.texts import JSON, YAML


def _fifo(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def _device(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")


def _folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


NO_FILE: dict[str, Put] = {"fifo": _fifo, "device": _device, "folder": _folder}


def written(content: bytes) -> Put:
    def put(path: Path) -> None:
        path.write_bytes(content)

    return put


@cache
def _sound() -> tuple[Path, tempfile.TemporaryDirectory[str]]:
    """A run's folder that each case gets a copy of, and what it lies in."""
    from meteor_bench.config.run_config import RunConfig
    from tests import synthetic

    around = tempfile.TemporaryDirectory()
    return synthetic.write(RunConfig(out=Path(around.name)), n=2), around


def run(folder: Path) -> Path:
    sound, _ = _sound()
    return Path(shutil.copytree(sound, folder / sound.name))


def _cell(folder: Path) -> Path:
    from meteor_bench.runs.latency.records import (
        cell_path,
        write_cell,
    )
    from tests.runs.latency import made

    path = cell_path(folder, "m", 1, 0.5, 2, "f")
    write_cell(path, made.cell())
    return path


def _of_run(name: str, read: str) -> Callable[[Put], Read]:
    """A file of a run's folder, and the function of `meteor_bench.records.reader` that reads it."""

    def with_file(put: Put) -> Read:
        def act(folder: Path) -> None:
            from meteor_bench.records import reader as reading

            path = run(folder)
            put(path / name)
            getattr(reading, read)(path)

        return act

    return with_file


def _cell_with(raw: bool) -> Callable[[Put], Read]:
    def with_file(put: Put) -> Read:
        def act(folder: Path) -> None:
            from meteor_bench.runs.latency.records import read_cell

            path = _cell(folder)
            put(path.with_suffix(".raw.jsonl.gz") if raw else path)
            read_cell(path)

        return act

    return with_file


def _at(name: str, read: Read) -> Callable[[Put], Read]:
    def with_file(put: Put) -> Read:
        def act(folder: Path) -> None:
            put(folder / name)
            read(folder)

        return act

    return with_file


def _manifest(folder: Path) -> None:
    from meteor_bench.data.manifest import read

    read(folder)


def _lookalike(folder: Path) -> None:
    from meteor_bench.data.lookalike import rows

    rows(folder)


def _checkpoint(folder: Path) -> None:
    from meteor_bench.models.locate import check_model

    check_model(str(folder))


def open_journal(folder: Path) -> None:
    from meteor_bench.lmms.journal import Journal

    with Journal(folder / "answers.jsonl", "f" * 64):
        pass


def _ranks(folder: Path) -> None:
    from meteor_bench.runs.distributed.journals import collect

    collect(folder)
    open_journal(folder)


def _yaml_of(kind: str) -> Read:
    def act(folder: Path) -> None:
        from meteor_bench.config.run_config import load
        from meteor_bench.runs.regression import baseline

        file = folder / "file.yaml"
        {
            "run": lambda: load(file, {}),
            "sweep": lambda: sweep_config.load(file, {}),
            "baseline": lambda: baseline.read(file),
        }[kind]()

    return act


READERS: dict[str, Callable[[Put], Read]] = {
    "run.json": _of_run("run.json", "read_run"),
    "samples": _of_run("samples.jsonl.gz", "read_samples"),
    "samples, unpacked": _of_run("samples.jsonl.gz", "read_samples"),
    "latency.jsonl": _of_run("latency.jsonl", "read_latency"),
    "cell": _cell_with(raw=False),
    "raw cell": _cell_with(raw=True),
    "raw cell, unpacked": _cell_with(raw=True),
    "manifest": _at("manifest.json", _manifest),
    "lookalike.json": _at("lookalike.json", _lookalike),
    "config.json": _at("config.json", _checkpoint),
    "journal": _at("answers.jsonl", open_journal),
    "journal of a rank": _at("answers.rank1.jsonl", _ranks),
}
# Nothing is no line, and a line without its newline is torn: it is dropped.
_MAYBE = {("latency.jsonl", "nothing"), ("samples, unpacked", "nothing"), ("raw cell, unpacked", "nothing")}


def files() -> Iterator[Case]:
    for reader, with_file in READERS.items():
        for name, content in JSON.items():
            lined = content + b"\n" if "journal" in reader else content
            stored = gzip.compress(content) if reader.endswith("unpacked") else lined
            # Of a journal, lines of other fingerprints are left alone.
            refused = None if (reader, name) in _MAYBE or (name == "nothing" and "journal" in reader) else True
            yield Case(reader, name, with_file(written(stored)), refused)
        for name, put in NO_FILE.items():
            yield Case(reader, name, with_file(put))
    for kind in ("run", "sweep", "baseline"):
        for name, text in YAML.items():
            yield Case(f"YAML of a {kind}", name, _at("file.yaml", _yaml_of(kind))(written(text.encode())), None)
        for name, put in NO_FILE.items():
            yield Case(f"YAML of a {kind}", name, _at("file.yaml", _yaml_of(kind))(put))
        yield Case(f"YAML of a {kind}", "utf-16", _at("file.yaml", _yaml_of(kind))(written("a: 1".encode("utf-16"))))


def bombs() -> Iterator[Case]:
    """Small files that are large."""
    for reader in ("samples, unpacked", "raw cell, unpacked"):

        def put(path: Path) -> None:
            with gzip.open(path, "wb", compresslevel=1) as stream:
                for _ in range(400):
                    stream.write(b" " * (8 << 20))

        yield Case(reader, "bomb", READERS[reader](put))
