"""Make look-alikes of the hub's data sets: a few rows in the real schemas, flat pictures, one-second videos.

    python -m scripts.make_lookalikes FOLDER

The folder is a data root (see `meteor_bench.data.root`) that says so of itself (`meteor_bench.data.lookalike`); on it
every benchmark of the suites runs as it does on the real data, with the number of rows that it has there. Of the
columns, those that lmms-eval 0.7.3's task code reads are sure, for the tests run that code. The other columns and the
types follow the data sets' cards as far as they were known and memory where they were not, and which is which was not
kept. Nothing in the rows is real.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import datasets
import numpy as np
import pyarrow.parquet as parquet
import yaml

from meteor_bench.data import suites
from meteor_bench.data.lookalike import declare
from scripts.lookalikes import pictures, videos
from scripts.lookalikes import row as of
from scripts.lookalikes.schemas import SCHEMAS

__all__ = ["Lookalike", "make"]

ROWS = {**pictures.ROWS, **videos.ROWS}
LITE = "lmms-lab-encoder/LMMs-Eval-Lite"


@dataclass(frozen=True)
class Lookalike:
    """What was made for one benchmark.

    Attributes:
        right, wrong: by document, what scores in full and what scores nothing.
    """

    right: Sequence[str]
    wrong: Sequence[str]


@dataclass
class _Repository:
    """Configs of a data set, by name: split, columns, rows."""

    configs: dict[str | None, tuple[str, str, list[dict[str, Any]]]] = field(default_factory=dict)


def make(folder: Path, tasks: Iterable[str] | None = None) -> dict[str, Lookalike]:
    """Write the data of benchmarks into a folder; what to answer, by benchmark.

    Args:
        tasks: by default all of lmms-eval's own that the table has.
    """
    named = [row for row in suites.benchmarks().values() if row.stock] if tasks is None else None
    chosen = named or [suites.benchmark(task) for task in tasks or ()]
    repositories: dict[str, _Repository] = {}
    made = {}
    for row in chosen:
        name = row.task.removesuffix("_lite") if row.dataset == LITE else row.task
        name = "mvbench" if name.startswith("mvbench_") else name
        documents = ROWS[name]()
        made[row.task] = Lookalike([d.right for d in documents], [d.wrong for d in documents])
        configs = repositories.setdefault(row.dataset, _Repository()).configs
        configs[row.config] = (row.split, name, [d.columns for d in documents])
        for other in row.also:
            repository, _, config = other.partition(":")
            images = [{"id": str(i), "image": of.picture(i)} for i in range(of.PICTURES)]
            repositories.setdefault(repository, _Repository()).configs[config] = ("testdev", "gqa_images", images)
        if row.videos:
            _write_videos(folder / row.videos, [d.video for d in documents if d.video])
    for repository, content in repositories.items():
        _write(folder / repository, repository, content)
    declare(folder, {task: len(one.right) for task, one in made.items()})
    return made


def _write(folder: Path, repository: str, content: _Repository) -> None:
    configs = []
    for config, (split, schema, rows) in content.configs.items():
        if repository == "OpenGVLab/MVBench":
            path = f"json/{config}.json"
            (folder / "json").mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(json.dumps(rows), encoding="utf-8")
            configs.append({"config_name": config, "data_files": path})
            continue
        # LongVideoBench's card lists no files: they are found by their names.
        stem = "" if repository.startswith("longvideobench/") else f"{config or 'data'}/"
        file = folder / f"{stem}{split}-00000-of-00001.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(datasets.Dataset.from_list(rows, features=SCHEMAS[schema]).data.table, file)
        if stem:
            files = [{"split": split, "path": f"{stem}{split}-*"}]
            configs.append({"config_name": config or "default", "data_files": files})
    head = yaml.safe_dump({"license": "other", **({"configs": configs} if configs else {})}, sort_keys=False)
    (folder / "README.md").write_text(f"---\n{head}---\n# A look-alike of {repository}\n", encoding="utf-8")


def _write_videos(folder: Path, names: Iterable[str]) -> None:
    for i, name in enumerate(dict.fromkeys(names)):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix:
            video(path, of.colour(i))
        else:
            path.mkdir(exist_ok=True)
            for frame in range(6):
                of.picture(i + frame).save(path / f"{frame:05}.jpg")


def video(path: Path, colour: tuple[int, int, int], frames: int = 8, fps: int = 8) -> None:
    """A clip of one colour that gets darker frame by frame."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=fps)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(frames):
            pixels = np.full((48, 64, 3), np.array(colour) * (frames - i) // frames, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))


def main() -> None:
    """Command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tasks", help="Benchmarks by name, separated by commas.")
    arguments = parser.parse_args()
    tasks = arguments.tasks.split(",") if arguments.tasks else None
    made = make(arguments.folder, tasks)
    print(f"{len(made)} benchmarks in {arguments.folder}")


if __name__ == "__main__":
    main()
