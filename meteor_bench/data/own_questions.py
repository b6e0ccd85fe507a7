"""Questions of somebody's own: a file of JSON lines, or a folder of pictures, made a benchmark's folder like any other.

A line is a question::

    {"image": "photos/12.jpg", "question": "What colour is the car?", "answer": "red"}

All lines are looked at before anything is done, and what is wrong is said with its line (own_lines.py); pictures in a
folder are asked one question each (own_pictures.py).
The folder (a table, lmms-eval's YAML, parquet with the pictures' bytes; see docs/adding-a-benchmark.md) lies in the
cache under the digest of the file and of everything it shows, so that it is made once, and another picture is another
benchmark. Videos are not copied: their places are kept, and their digests count.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from meteor_bench.core.errors import DataError
from meteor_bench.data import own_pictures
from meteor_bench.data.own_lines import METRICS, Question, Read, read
from meteor_bench.utils.process import cache_folder

__all__ = ["DATASET", "SUFFIX", "check", "folder", "is_file", "task_name"]

SUFFIX = ".jsonl"
DATASET = "own"  # what the rows of such benchmarks say they are taken from
_ROWS = {**METRICS, "agreement": {"metric": own_pictures.AGREEMENT}}


def is_file(name: str) -> bool:
    """Whether the name of a benchmark is that of a file of questions, or of a folder of pictures."""
    return name.endswith(SUFFIX) or own_pictures.is_folder(name)


def task_name(file: Path) -> str:
    """What tables and lmms-eval call the benchmark: "own_photos" of "photos.jsonl"."""
    return own_pictures.OWN + (re.sub(r"[^0-9A-Za-z]+", "_", file.stem).strip("_") or "questions")


def folder(name: str) -> Path:
    """The benchmark's folder, made unless the cache has it; its ``suites.yaml`` has the row.

    Args:
        name: as the user gave it; that of a folder of pictures may end in its question, which a path would change.

    Raises:
        DataError: the file cannot be read, or a line is wrong: "photos.jsonl:7: ..."; there is no picture.
    """
    if own_pictures.is_folder(name):
        pictures, question = own_pictures.source(name)
        return _of_pictures(pictures.resolve(), question, own_pictures.state(pictures))
    file = Path(name)
    try:
        status = file.stat()
        return _folder(file.resolve(), str(file), status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}") from None


@lru_cache(maxsize=64)
def _folder(file: Path, named: str, size: int, changed_ns: int) -> Path:
    """As the file was at that time: a run asks for it several times."""
    return _made(task_name(file), read(file, named))


@lru_cache(maxsize=64)
def _of_pictures(pictures: Path, question: str, state: tuple[tuple[str, int, int], ...]) -> Path:
    """As the folder was at that time."""
    names = tuple(name for name, *_ in state)
    return _made(task_name(pictures), own_pictures.read_pictures(pictures, names, question))


def check(name: str) -> None:
    """Decode every picture of a folder; a file's are decoded when it is read.

    Raises:
        DataError: naming the first that cannot be decoded.
    """
    if not own_pictures.is_folder(name):
        return
    pictures, _ = own_pictures.source(name)
    if wrong := _broken(pictures, own_pictures.state(pictures)):
        raise DataError(f"{wrong}, or give --skip-broken")


@lru_cache(maxsize=64)
def _broken(pictures: Path, state: tuple[tuple[str, int, int], ...]) -> str:
    return own_pictures.broken(pictures, tuple(name for name, *_ in state))


def _made(task: str, found: Read) -> Path:
    """The folder of these questions, from the cache or written now."""
    templates = _templates()
    digest = hashlib.sha256(json.dumps([task, found.metric, _ROWS[found.metric]]).encode())
    for part in (templates / "base", templates / "utils.py", templates / found.metric, Path(__file__)):
        digest.update(part.read_bytes())
    for one in found.questions:
        asked = [one.line, one.question, one.answers, one.choices, one.group, one.video]
        shown = [hashlib.sha256(picture).hexdigest() for picture in one.images]
        digest.update(json.dumps([asked, shown]).encode())
    place = _cache() / digest.hexdigest()[:24]
    if not (place / "suites.yaml").is_file():
        _write(place, task, found)
    return place


def _templates() -> Path:
    """Beside the shipped benchmarks, in a checkout and in an installed package."""
    package = Path(__file__).resolve().parents[1]
    for tasks in (package / "_tasks", package.parent / "tasks"):
        if (tasks / "own" / "base").is_file():
            return tasks / "own"
    raise DataError(f"no tasks/own folder in {package} or beside it; install meteor-bench again")


def _cache() -> Path:
    base = os.environ.get("LMMS_EVAL_DATASETS_CACHE") or cache_folder()
    if base is None:
        base = tempfile.mkdtemp(prefix="meteor-bench-")
        atexit.register(shutil.rmtree, base, ignore_errors=True)
    return Path(base) / "meteor-bench" / "questions"


def _write(place: Path, task: str, found: Read) -> None:
    """The folder, whole or not at all; of two processes that make it one wins."""
    place.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".new-", dir=place.parent))
    try:
        data = made / task / "data"
        data.mkdir(parents=True)
        file = _parquet(data, found.questions)
        templates = _templates()
        text = "".join((templates / name).read_text(encoding="utf-8") for name in ("base", found.metric))
        text = text.replace("@task@", task).replace("@file@", file)
        (made / task / f"{task}.yaml").write_text(text, encoding="utf-8")
        shutil.copyfile(templates / "utils.py", made / task / "utils.py")
        row = {"group": "general", "scale": 100, "dataset": DATASET, "split": "test", "n": len(found.questions)}
        table = {"benchmarks": {task: {**row, **_ROWS[found.metric]}}, "suites": {}}
        (made / "suites.yaml").write_text(yaml.safe_dump(table), encoding="utf-8")
        made.rename(place)
    except OSError:
        if not (place / "suites.yaml").is_file():
            raise
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _parquet(data: Path, questions: Sequence[Question]) -> str:
    """Write the documents; the name of their file, which ends in the beginning of its digest."""
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    picture = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
    kinds = {
        "question_id": arrow.int64(),
        "question": arrow.string(),
        "answer": arrow.string(),
        "answers": arrow.list_(arrow.string()),
        "choices": arrow.list_(arrow.string()),
        "family": arrow.string(),
        "images": arrow.list_(picture),
        "video": arrow.string(),
    }
    # What `datasets` reads the kinds of columns from: without it, pictures would be tables of bytes and paths.
    text = {"dtype": "string", "_type": "Value"}
    features: dict[str, Any] = dict.fromkeys(kinds, text)
    features["question_id"] = {"dtype": "int64", "_type": "Value"}
    features |= {name: {"feature": text, "_type": "List"} for name in ("answers", "choices")}
    features["images"] = {"feature": {"_type": "Image"}, "_type": "List"}
    about = {"huggingface": json.dumps({"info": {"features": features}})}
    schema = arrow.schema(list(kinds.items()), metadata=about)
    written = data / "new.parquet"
    with parquet.ParquetWriter(written, schema) as writer:
        for start in range(0, len(questions), 64):
            rows = [_document(one) for one in questions[start : start + 64]]
            writer.write_table(arrow.Table.from_pylist(rows, schema=schema))
    with written.open("rb") as stream:
        name = f"test-{hashlib.file_digest(stream, 'sha256').hexdigest()[:12]}.parquet"
    written.rename(data / name)
    return name


def _document(one: Question) -> dict[str, Any]:
    return {
        "question_id": one.line,
        "question": one.question,
        "answer": one.answers[0],
        "answers": list(one.answers),
        "choices": list(one.choices),
        "family": one.group,
        "images": [{"bytes": picture, "path": None} for picture in one.images],
        "video": one.video[0] if one.video else None,
    }
