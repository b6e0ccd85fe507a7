"""All hostile cases: files, values and rows, each put before what reads it.

`python -m tests.hostile.corpus` counts how many are met cleanly, each in a process of its own with 10 s and 2 GiB.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.hostile.case import Case, outcome
from tests.hostile.data_cases import cards, manifests, pictures
from tests.hostile.readers import bombs, files, open_journal, run
from tests.hostile.texts import NAMES, VALUES


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

            path = run(folder)
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


def links() -> Iterator[Case]:
    """What we write never goes through a link of somebody's."""

    def lock(folder: Path) -> None:
        from meteor_bench.config.run_config import RunConfig
        from meteor_bench.records.reader import read_run
        from meteor_bench.records.run_folder import RunFolder

        kept = folder / "kept"
        kept.write_text("mine")
        record = replace(read_run(run(folder / "runs")), status="partial")
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
            open_journal(folder)
        finally:
            assert kept.read_text() == "mine, without a newline"

    yield Case("links", "lock", lock)
    yield Case("links", "journal", journal)


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
