"""Make the data of the twelve pocket benchmarks and of the calibration set.

    python -m scripts.make_pocket_tasks

Every picture has a seed of its own, in a range that neither training nor its validation uses, so that one benchmark
can be made again without the others and the files come out byte for byte the same (with the same Pillow and pyarrow).
A file's name holds a digest of its bytes: the datasets library caches by name, and must not serve an older version.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from scripts.pocket.long_clips import LongClip
from scripts.pocket.world import BENCHMARK_KINDS, QA, Sample, make, split_rng

ROOT = Path(__file__).resolve().parent.parent
QUESTIONS = {"pocket_ocrbench": 200, "pocket_videomme": 240}  # kinds with few questions on a picture
QUESTIONS_DEFAULT = 300
# Most questions on one picture; what a kind does not offer is made up for by more pictures.
PER_IMAGE = {"pocket_gqa": 5, "pocket_pope": 5, "pocket_videomme": 5}
PER_IMAGE_DEFAULT = 6
CALIBRATION_IMAGES, CALIBRATION_QUESTIONS = 64, 256
# Seeds of benchmark pictures start here, 10,000 for each benchmark; training and validation stay far below.
FIRST_SEED = 7_000_000
# The VQA metric removes English articles, so these strings would be scored as empty.
ARTICLES = {"A", "AN", "THE"}

SCHEMA = pa.schema(
    {
        "index": pa.int32(),
        "question_id": pa.string(),
        "benchmark": pa.string(),
        "family": pa.string(),
        "question": pa.string(),
        "answer": pa.string(),
        "answers": pa.list_(pa.string()),
        "options": pa.list_(pa.string()),
        "chain": pa.string(),
        "media_key": pa.string(),
        "frames": pa.int32(),
        "image": pa.struct({"bytes": pa.binary(), "path": pa.string()}),
    }
)

Make = Callable[[str, np.random.Generator, str], Sample]


class Picture(NamedTuple):
    """One picture or clip with the questions chosen for it."""

    png: bytes
    frames: int
    questions: list[QA]


def encode(sample: Sample | LongClip) -> tuple[bytes, int]:
    """PNG bytes and the number of frames; the frames of a clip lie side by side (a long one: lossless WebP)."""
    frames = len(sample.image) if sample.is_clip else 1
    pixels = np.concatenate(list(sample.image), axis=1) if sample.is_clip else sample.image
    buffer = io.BytesIO()
    if isinstance(sample, LongClip):  # WebP finds what frames have in common: half the bytes
        Image.fromarray(pixels).save(buffer, "WEBP", lossless=True, method=4, quality=75)
    else:
        Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return buffer.getvalue(), frames


def choose(offered: list[QA], limit: int, used: Counter[tuple[str, ...]], rng: np.random.Generator) -> list[QA]:
    """Up to ``limit`` questions: rare families first, in them rare answers, so that no constant answer scores well."""
    left = [offered[i] for i in rng.permutation(len(offered))]
    chosen: list[QA] = []
    while left and len(chosen) < limit:
        best = min(left, key=lambda qa: (used[(qa.family,)], used[qa.family, qa.answer]))
        left.remove(best)
        chosen.append(best)
        used[(best.family,)] += 1
        used[best.family, best.answer] += 1
    return chosen


def suitable(sample: Sample | LongClip, benchmark: str) -> list[QA]:
    """The sample's questions for that benchmark, each wording once."""
    questions = {qa.question: qa for qa in sample.qas if qa.benchmark == benchmark and qa.answer not in ARTICLES}
    return list(questions.values())


def pictures(
    benchmark: str,
    split: str,
    first_seed: int,
    total: int,
    per_image: int,
    draw: Make,
    kinds: Mapping[str, str] = BENCHMARK_KINDS,
    stream: Callable[[str, int], np.random.Generator] = split_rng,
) -> Iterator[Picture]:
    """Pictures of one benchmark until ``total`` questions are together."""
    used: Counter[tuple[str, ...]] = Counter()
    seed = first_seed
    while total > 0:
        rng = stream(split, seed)
        sample = draw(kinds[benchmark], rng, split)
        questions = choose(suitable(sample, benchmark), min(per_image, total), used, rng)
        seed, total = seed + 1, total - len(questions)
        if questions:
            png, frames = encode(sample)
            yield Picture(png, frames, questions)


def rows(benchmark: str, drawn: list[Picture]) -> Iterator[dict[str, Any]]:
    """Rows in rounds, the first question of every picture first: so the first N documents cover many pictures."""
    rounds = max(len(picture.questions) for picture in drawn)
    order = [(picture, i) for i in range(rounds) for picture in drawn if i < len(picture.questions)]
    for index, (picture, i) in enumerate(order):
        qa = picture.questions[i]
        annotators = 10 if benchmark.endswith(("_vqa", "_textvqa")) else 1
        yield {
            "index": index,
            "question_id": f"{benchmark}-{index:04d}",
            "benchmark": benchmark,
            "family": qa.family,
            "question": qa.question,
            "answer": qa.answer,
            "answers": [qa.answer] * annotators,
            "options": list(qa.options),
            "chain": qa.chain,
            "media_key": hashlib.sha256(picture.png).hexdigest()[:16],
            "frames": picture.frames,
            "image": {"bytes": picture.png, "path": None},
        }


def features() -> dict[str, Any]:
    """The note in a parquet file by which the datasets library knows the picture column."""
    kinds = {"string": "string", "int32": "int32"}
    columns: dict[str, Any] = {}
    for field in SCHEMA:
        if field.name == "image":
            columns[field.name] = {"_type": "Image"}
        elif pa.types.is_list(field.type):
            columns[field.name] = {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"}
        else:
            columns[field.name] = {"dtype": kinds[str(field.type)], "_type": "Value"}
    return {"info": {"features": columns}}


def write(table_rows: list[dict[str, Any]], folder: Path, stem: str) -> Path:
    """Write one file, named after its content, and remove the versions before it."""
    schema = SCHEMA.with_metadata({"huggingface": json.dumps(features())})
    buffer = io.BytesIO()
    # One row group with a large dictionary: a picture is stored once, however many questions share it.
    pq.write_table(
        pa.Table.from_pylist(table_rows, schema=schema),
        buffer,
        compression="zstd",
        row_group_size=len(table_rows),
        dictionary_pagesize_limit=64 << 20,
    )
    data = buffer.getvalue()
    path = folder / f"{stem}-{hashlib.sha256(data).hexdigest()[:12]}.parquet"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"{stem}-*.parquet"):
        old.unlink()
    path.write_bytes(data)
    return path


def point_to(path: Path, yaml: Path) -> None:
    """Name the new file in a task's YAML."""
    text = yaml.read_text(encoding="utf-8")
    text, count = re.subn(r"(?m)^(\s+test: data/).*$", rf"\g<1>{path.name}", text)
    if count != 1:
        raise SystemExit(f"{yaml}: expected one line 'test: data/...', found {count}")
    yaml.write_text(text, encoding="utf-8")


def benchmark_pictures(
    benchmark: str, draw: Make = make, total: int | None = None, per_image: int | None = None
) -> Iterator[Picture]:
    """The pictures of one benchmark, drawn one by one, with the benchmark's number of questions on each or another."""
    first = FIRST_SEED + 10_000 * list(BENCHMARK_KINDS).index(benchmark)
    total = total or QUESTIONS.get(benchmark, QUESTIONS_DEFAULT)
    return pictures(benchmark, "eval", first, total, per_image or PER_IMAGE.get(benchmark, PER_IMAGE_DEFAULT), draw)


def make_benchmark(benchmark: str, out: Path, draw: Make = make, total: int | None = None) -> Path:
    """One benchmark's parquet file, and its name in the YAML."""
    drawn = list(benchmark_pictures(benchmark, draw, total))
    path = write(list(rows(benchmark, drawn)), out / benchmark / "data", "test")
    point_to(path, out / benchmark / f"{benchmark}.yaml")
    return path


def make_calibration(out: Path, draw: Make = make) -> Path:
    """The calibration file: a like share of every benchmark, from the split of that name."""
    table: list[dict[str, Any]] = []
    names = list(BENCHMARK_KINDS)
    for i, benchmark in enumerate(names):
        images = share(CALIBRATION_IMAGES, i, len(names))
        total = share(CALIBRATION_QUESTIONS, i, len(names))
        drawn = list(calibration_pictures(benchmark, FIRST_SEED + 10_000 * i, images, total, draw))
        table += rows(benchmark, drawn)
    return write(table, out / "calibration" / "data", "calib")


def calibration_pictures(benchmark: str, seed: int, images: int, total: int, draw: Make) -> Iterator[Picture]:
    """Exactly that many pictures; each takes its part of the questions still wanted, or what it has."""
    used: Counter[tuple[str, ...]] = Counter()
    while images > 0:
        rng = split_rng("calib", seed)
        sample = draw(BENCHMARK_KINDS[benchmark], rng, "calib")
        questions = choose(suitable(sample, benchmark), -(-total // images), used, rng)
        seed += 1
        if questions:
            png, frames = encode(sample)
            yield Picture(png, frames, questions)
            images, total = images - 1, total - len(questions)


def share(total: int, index: int, parts: int) -> int:
    """Size of part ``index`` when ``total`` is cut into nearly equal parts."""
    return total // parts + (index < total % parts)


def main() -> None:
    parser = ArgumentParser(description="Make the data of the pocket benchmarks and of the calibration set.")
    parser.add_argument("--out", type=Path, default=ROOT / "tasks", help="the tasks folder")
    parser.add_argument("--only", choices=[*BENCHMARK_KINDS, "calibration"], help="make one of them")
    options = parser.parse_args()
    for benchmark in BENCHMARK_KINDS:
        if options.only in (None, benchmark):
            report(make_benchmark(benchmark, options.out))
    if options.only in (None, "calibration"):
        report(make_calibration(options.out))


def report(path: Path) -> None:
    """One line: file, size, rows, pictures, families."""
    table = pq.read_table(path, columns=["family", "media_key"]).to_pydict()
    families = dict(sorted(Counter(table["family"]).items()))
    images = len(set(table["media_key"]))
    print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB, {len(table['family'])} rows, {images} images, {families}")


if __name__ == "__main__":
    main()
