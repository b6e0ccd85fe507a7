"""Hostile files, values and rows: what stands in them, by kind, and which of our readers each is put before.

`python -m tests.hostile.corpus` counts how many are met cleanly, each in a process of its own with 10 s and 2 GiB.
"""

from __future__ import annotations

import gzip
import json
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from meteor_bench.config import sweep_config
from meteor_bench.core.errors import MeteorBenchError

Put = Callable[[Path], None]
Read = Callable[[Path], Any]


class Case(NamedTuple):
    """Something hostile and what reads it.

    Attributes:
        kind: of the file or value; name: which.
        act: does it in an empty folder.
        refused: whether it must be an error; None where it may be read as well, as long as nothing breaks.
    """

    kind: str
    name: str
    act: Read
    refused: bool | None = True


def outcome(case: Case, folder: Path) -> str:
    """What came of it: "clean", or what is not."""
    try:
        case.act(folder)
    except MeteorBenchError as error:
        if case.refused is False:
            return f"refused: {error}"
        return "clean" if "\n" not in str(error) else "more than a line"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"[:200]
    return "answered" if case.refused else "clean"


def _bomb(first: str, more: str) -> str:
    names = [f"n{i}" for i in range(12)]
    lines = [f"{names[0]}: &{names[0]} {first}"]
    for before, name in pairwise(names):
        lines.append(f"{name}: &{name} {more.format(','.join([f'*{before}'] * 9))}")
    return "\n".join(lines)


YAML = {
    "list aliases": _bomb("[x,x]", "[{}]"),
    "map aliases": _bomb("{a: 1}", "{{k: [{}]}}"),
    "merges": _bomb("{a: 1}", "{{<<: [{}]}}"),
    "itself": "ratio: &a [*a]",
    "itself in a table": "parameters: &a {x: *a}",
    "brackets": "ratio: " + "[" * 20_000,
    "closed brackets": "ratio: " + "[" * 3000 + "]" * 3000,
    "dashes": "- " * 20_000,
    "questions": "? " * 20_000,
    "comments": "# nothing\n" * 120_000,
    "bool": "seed: !!bool maybe",
    "int": "seed: !!int x",
    "float": "ratio: !!float x",
    "timestamp": "seed: !!timestamp x",
    "binary": "seed: !!binary x",
    "set": "parameters: !!set {a, b}",
    "omap": "parameters: !!omap [a: 1]",
    "python": "out: !!python/object/apply:os.system ['true']",
    "tag": "out: !mine x",
    "surrogate": 'method: "\\ud800"',
    "huge number": "seed: " + "9" * 5000,
    "more than 64 bits": "seed: 99999999999999999999999",
    "hexadecimal": "seed: 0x" + "f" * 5000,
    "infinity": "ratio: .inf",
    "nan": "ratio: .nan",
    "overflow": "ratio: 1e999",
    "date": "seed: 2020-01-01",
    "no date": "seed: 2020-99-99",
    "zero byte": "method: a\0b",
    "escape": 'method: "\\e[31m"',
    "two documents": "seed: 1\n---\nseed: 2",
    "unhashable key": "{[a]: 1}",
    "number as key": "1: 2",
    "nothing as key": "~: 2",
    "merge of a number": "<<: 3",
    "text alone": "hello",
    "list alone": "- seed",
    "cut": "method: 'a",
    "tab": "method:\n\t- a",
    "percent": "%YAML 9.9\n---\na: 1",
    "no anchor": "seed: *nobody",
}

DEEP = "[" * 100_000 + "]" * 100_000
JSON: dict[str, bytes] = {
    "nothing": b"",
    "deep": DEEP.encode(),
    "quite deep": b'{"schema": ' + b"[" * 900 + b"]" * 900 + b"}",
    "deep table": (b'{"a":' * 50_000) + b"1" + b"}" * 50_000,
    "cut": b'{"schema": 1, "repositories": {',
    "list": b"[1, 2]",
    "number": b"3",
    "null": b"null",
    "text": b'"x"',
    "binary": bytes(range(256)),
    "utf-16": '{"schema": 1}'.encode("utf-16"),
    "latin-1": b'{"schema": "\xe9"}',
    "half a surrogate": b'{"schema": "\\ud800", "a\\udfff": 1}',
    "huge number": b'{"schema": ' + b"9" * 10_000 + b"}",
    "schema 99": b'{"schema": 99}',
    "schema a list": b'{"schema": [1]}',
    "schema a table": b'{"schema": {"a": 1}}',
    "nan": b'{"schema": NaN}',
    "two values": b'{"schema": 1} {"schema": 1}',
}


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


def _written(content: bytes) -> Put:
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


def _run(folder: Path) -> Path:
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

            path = _run(folder)
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


def _journal(folder: Path) -> None:
    from meteor_bench.lmms.journal import Journal

    with Journal(folder / "answers.jsonl", "f" * 64):
        pass


def _ranks(folder: Path) -> None:
    from meteor_bench.runs.distributed.journals import collect

    collect(folder)
    _journal(folder)


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
    "journal": _at("answers.jsonl", _journal),
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
            yield Case(reader, name, with_file(_written(stored)), refused)
        for name, put in NO_FILE.items():
            yield Case(reader, name, with_file(put))
    for kind in ("run", "sweep", "baseline"):
        for name, text in YAML.items():
            yield Case(f"YAML of a {kind}", name, _at("file.yaml", _yaml_of(kind))(_written(text.encode())), None)
        for name, put in NO_FILE.items():
            yield Case(f"YAML of a {kind}", name, _at("file.yaml", _yaml_of(kind))(put))
        yield Case(f"YAML of a {kind}", "utf-16", _at("file.yaml", _yaml_of(kind))(_written("a: 1".encode("utf-16"))))


VALUES = [
    "",
    " ",
    "null",
    "9" * 5000,
    "9" * 22,
    "-1",
    "0",
    "2020-01-01",
    "2020-99-99",
    ".nan",
    ".inf",
    "-.inf",
    "1e999",
]
VALUES += ["[" * 2000, "{a: b}", "[1, [2]]", "!!bool maybe", "!!timestamp x", "&a [*a]", '"\\ud800"', "true", "x", "'"]
VALUES += [
    "!!python/name:os.system",
    "0.5",
    "[]",
    "{}",
    "~",
    "1_0",
    "0x" + "f" * 5000,
    "\0",
    "\x1b[31m",
    "*a",
    "1" * 300,
]


def parameters() -> Iterator[Case]:
    """``--param`` of every kind of field."""
    fields = ["fastv:layer", "pyramiddrop:layers", "tome:positions", "meteor:lam", "random:stage", "divprune:nobody"]
    fields += ["evoprune+fastv:evoprune.share", "evoprune+fastv:fastv", "sparsevlm:version"]
    for field in fields:
        method, _, name = field.partition(":")
        for value in VALUES:

            def act(folder: Path, method: str = method, text: str = f"{name}={value}") -> None:
                from meteor_bench.config.yaml_settings import parameter
                from meteor_bench.engine.make_method import make_pruner

                given = parameter(text)
                make_pruner(method, {given.name: given.value})

            yield Case(f"--param {field}", repr(value[:30]), act, True if not value.strip() else None)


def separators() -> Iterator[Case]:
    """Characters that end a line to Python and to nobody else, as they stand in our own records."""
    for character in ("\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\r"):

        def samples(folder: Path, character: str = character) -> None:
            from meteor_bench.config.run_config import RunConfig
            from meteor_bench.records.reader import read_samples
            from meteor_bench.records.run_folder import RunFolder
            from tests import synthetic

            path = _run(folder)
            rows = [replace(s, question=f"a{character}b") for s in synthetic.samples(RunConfig(), n=2)]
            RunFolder(path, None, "", resumed=False).write_samples(rows)  # type: ignore[arg-type]
            assert read_samples(path) == rows

        def journal(folder: Path, character: str = character) -> None:
            from meteor_bench.core.request import (
                Answer,
                Request,
            )
            from meteor_bench.lmms.journal import Journal
            from meteor_bench.runs.distributed.journals import collect

            asked = Request("t/0", "m", lambda: [], "q", 1)
            with Journal(folder / "answers.rank0.jsonl", "f" * 64) as made:
                made.add(asked, Answer(f"a{character}b", {"final": 1}))
            collect(folder)
            with Journal(folder / "answers.jsonl", "f" * 64) as made:
                found = made.get(asked)
            assert found is not None and found.text == f"a{character}b"

        def rows(folder: Path, character: str = character) -> None:
            from meteor_bench.data.cards import count_rows

            file = folder / "rows.jsonl"
            file.write_text(json.dumps({"q": f"a{character}b"}, ensure_ascii=False) + "\n", newline="")
            assert count_rows(file) == 1

        yield Case("line ends", f"samples {character!r}", samples, False)
        yield Case("line ends", f"journal {character!r}", journal, False)
        yield Case("line ends", f"rows {character!r}", rows, False)


def bombs() -> Iterator[Case]:
    """Small files that are large."""
    for reader in ("samples, unpacked", "raw cell, unpacked"):

        def put(path: Path) -> None:
            with gzip.open(path, "wb", compresslevel=1) as stream:
                for _ in range(400):
                    stream.write(b" " * (8 << 20))

        yield Case(reader, "bomb", READERS[reader](put))


def links() -> Iterator[Case]:
    """What we write never goes through a link of somebody's."""

    def lock(folder: Path) -> None:
        from meteor_bench.config.run_config import RunConfig
        from meteor_bench.records.reader import read_run
        from meteor_bench.records.run_folder import RunFolder

        kept = folder / "kept"
        kept.write_text("mine")
        record = replace(read_run(_run(folder / "runs")), status="partial")
        (path,) = (folder / "runs").iterdir()
        RunFolder(path, None, "", resumed=False).write(record)  # type: ignore[arg-type]
        (path / ".lock").unlink(missing_ok=True)
        (path / ".lock").symlink_to(kept)
        try:
            RunFolder.open(RunConfig(out=folder / "runs"), record.fingerprint)
        finally:
            assert kept.read_text() == "mine"

    def journal(folder: Path) -> None:
        kept = folder / "kept"
        kept.write_text("mine, without a newline")
        (folder / "answers.jsonl").symlink_to(kept)
        try:
            _journal(folder)
        finally:
            assert kept.read_text() == "mine, without a newline"

    yield Case("links", "lock", lock)
    yield Case("links", "journal", journal)


def manifests() -> Iterator[Case]:
    """Places outside the root."""
    file = {"path": "a", "size": 1}
    sound = {"commit": "c", "fetched": "f", "tasks": [], "files": []}
    for place in ("../out", "/etc", "a/../../b", "a\0b"):
        away = {**file, "path": place}
        for name, change in {
            "folder": {"archives": [{"folder": place, "parts": [file]}]},
            "part": {"archives": [{"folder": "a", "parts": [away]}]},
            "unpacked": {"archives": [{"folder": "a", "parts": [file], "unpacked": [away]}]},
            "file": {"files": [away]},
            "videos": {"videos": {place: [file]}},
            "video": {"videos": {"a": [away]}},
        }.items():
            text = json.dumps({"schema": 1, "repositories": {"o/r": {**sound, **change}}}).encode()
            yield Case("manifest", f"{name} {place!r}", READERS["manifest"](_written(text)))
    bare = {"schema": 1, "repositories": {"o/r": {**sound, "archives": [{"folder": "a", "parts": []}]}}}
    yield Case("manifest", "no parts", READERS["manifest"](_written(json.dumps(bare).encode())))


CARDS = {
    "configs a number": "configs: 3",
    "configs a table": "configs: {a: b}",
    "configs of text": "configs: [a]",
    "files a number": "configs: [{config_name: default, data_files: 3}]",
    "files of numbers": "configs: [{config_name: default, data_files: [1]}]",
    "no path": "configs: [{config_name: default, data_files: [{split: test}]}]",
    "path a number": "configs: [{config_name: default, data_files: [{split: test, path: 3}]}]",
    "no split": "configs: [{config_name: default, data_files: [{path: a}]}]",
    "split a list": "configs: [{config_name: default, data_files: [{split: [a], path: a}]}]",
    "info text": "dataset_info: x",
    "info of text": "dataset_info: [x]",
    "splits a number": "dataset_info: {splits: 3}",
    "splits of text": "dataset_info: {splits: [x]}",
    "name a list": "configs: [{config_name: [a], data_files: x}]",
    **{name: YAML[name] for name in ("list aliases", "merges", "itself", "brackets", "timestamp", "bool", "surrogate")},
}


def cards() -> Iterator[Case]:
    for name, head in CARDS.items():

        def act(folder: Path, head: str = head) -> None:
            from meteor_bench.core.errors import DataError
            from meteor_bench.data.cards import Part, Unreadable, select, trimmed

            try:
                select(f"---\n{head}\n---\n", ["a.parquet"], Part(None, "test"))
                trimmed(f"---\n{head}\n---\n", [Part(None, "test")])
            except Unreadable as error:
                raise DataError(str(error)) from None

        yield Case("card", name, act, None)


def pictures() -> Iterator[Case]:
    """Rows whose pictures would come from elsewhere."""
    places = ["http://127.0.0.1:9/x.png", "zip://a::http://127.0.0.1:9/x.zip", "github://a:b@c/d", "/etc/hostname"]
    places += ["../x.png", "x.png", "hf://datasets/a/b/c.png", "file:///etc/hostname", "s3://a/b"]
    for place in places:
        picture: Any = {"bytes": None, "path": place}
        forms: dict[str, tuple[Any, str]] = {
            "struct": (picture, "dtype: image"),
            "list": ([picture], "list: image"),
            "nested": ({"picture": picture}, "struct: [{name: picture, dtype: image}]"),
            "text": (place, "dtype: image"),
            "texts": ([place], "list: image"),
            "sequence of texts": ([place], "sequence: image"),
            "text in a table": ({"picture": place}, "struct: [{name: picture, dtype: image}]"),
            "tables of text": ([{"picture": place}], "list: [{name: picture, dtype: image}]"),
        }
        for form, (value, declared) in forms.items():

            def act(folder: Path, value: Any = value, declared: str = declared) -> None:
                import pyarrow as pa
                import pyarrow.parquet as parquet

                from meteor_bench.data import suites
                from meteor_bench.data.root import check_files

                data = folder / "o" / "r"
                data.mkdir(parents=True)
                parquet.write_table(pa.table({"image": [value]}), data / "test.parquet")
                head = f"dataset_info: {{features: [{{name: image, {declared}}}]}}"
                (data / "README.md").write_text(f"---\n{head}\n---\n")
                made = suites.benchmark("pope")
                row = replace(made, dataset="o/r", config=None, split="test", n=1, also=(), videos=None)
                check_files(row, folder)

            yield Case("picture elsewhere", f"{form} {place}", act)


NAMES = {
    "long": "a" * 300,
    "long folder": "a/" * 3000,
    "nobody": "~nobody-there/x",
    "zero byte": "a\0b",
    "dots": "..",
    "escape": "\x1b[31m/x",
}


def names() -> Iterator[Case]:
    for name, text in NAMES.items():
        for kind in ("model", "source", "data_root", "out"):

            def act(folder: Path, text: str = text, kind: str = kind) -> None:
                from meteor_bench.config.run_config import load
                from meteor_bench.models.locate import locate
                from meteor_bench.utils.atomic_io import check_writable

                if kind == "source":
                    locate(text)
                elif kind == "out":
                    check_writable(Path(text))
                else:
                    load(None, {kind: text})

            yield Case("name", f"{kind} {name}", act, None)


def cases() -> list[Case]:
    """All of them."""
    parts = (files, parameters, separators, bombs, links, manifests, cards, pictures, names)
    return [case for part in parts for case in part()]


def _alone(case: Case, queue: Any) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + (2 << 30)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    with tempfile.TemporaryDirectory() as folder:
        queue.put(outcome(case, Path(folder)))


def main() -> None:
    """Count."""
    for name in (
        "meteor_bench.engine.make_method",
        "meteor_bench.lmms.journal",
        "meteor_bench.engine.session",
        "pyarrow.parquet",
    ):
        __import__(name)
    found: Counter[str] = Counter()
    everything = cases()
    for case in everything:
        queue: Any = multiprocessing.get_context("fork").SimpleQueue()
        process = multiprocessing.get_context("fork").Process(target=_alone, args=(case, queue))
        process.start()
        process.join(10)
        if process.is_alive():
            process.kill()
            process.join()
            said = "hangs"
        else:
            said = queue.get() if not queue.empty() else f"died ({process.exitcode})"
        found["clean" if said == "clean" else "unclean"] += 1
        if said != "clean":
            sys.stdout.write(f"{case.kind}: {case.name}: {said}\n")
    sys.stdout.write(f"{len(everything)} cases: {found['clean']} clean, {found['unclean']} not\n")


if __name__ == "__main__":
    main()
