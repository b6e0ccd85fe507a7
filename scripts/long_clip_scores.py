"""What methods lose on long clips by the kind of question and by the camera: a table of paired differences.

    python scripts/long_clip_scores.py results/reference/pocket-video

Differences to the unpruned run are in points of 100, with the half-width of a 95 % interval from a percentile bootstrap
of whole clips. "Short events" are the kinds of questions that a few frames decide (`long_clips.SHORT`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from meteor_bench.core.errors import MeteorBenchError, RecordError  # noqa: E402
from meteor_bench.report.runs import Cell, load  # noqa: E402
from scripts.make_pocket_video import FRAMES, drawn  # noqa: E402
from scripts.pocket.long_clips import SHORT  # noqa: E402

DRAWS = 2000
Mask = NDArray[np.bool_]


def parts(task: str) -> tuple[dict[str, Mask], NDArray[np.int64]]:
    """Column -> which documents are in it, and the number of each document's clip."""
    (file,) = (ROOT / "tasks" / task / "data").glob("*.parquet")
    table = parquet.read_table(file, columns=["family", "media_key"]).to_pydict()
    keys = list(dict.fromkeys(table["media_key"]))
    clip = np.array([keys.index(key) for key in table["media_key"]])
    moving = np.array([made.story.moving for made, _ in drawn(task)])[clip]  # clips are stored as they are drawn
    short = np.isin(table["family"], SHORT)
    return {"all": short | True, "short events": short, "others": ~short, "still": ~moving, "moving": moving}, clip


def half_width(gap: NDArray[np.float64], clip: NDArray[np.int64], rng: np.random.Generator) -> float:
    """Of the mean of `gap`, whole clips drawn anew."""
    number = np.unique(clip, return_inverse=True)[1]
    total, asked = np.bincount(number, gap), np.bincount(number)
    index = rng.integers(0, len(total), (DRAWS, len(total)))
    low, high = np.quantile(total[index].sum(1) / asked[index].sum(1), [0.025, 0.975])
    return float(high - low) / 2


def table(cells: Sequence[Cell], task: str) -> str:
    """One line for the unpruned model and one for each method, the best first."""
    unpruned = next(cell for cell in cells if not cell.pruned).scores[task]
    columns, clip = parts(task)
    columns, clip = {name: mask[unpruned.doc_id] for name, mask in columns.items()}, clip[unpruned.doc_id]
    whole = unpruned.score
    lines = [f"| {task} | {' | '.join(columns)} |", f"| --- |{' ---: |' * len(columns)}"]
    lines.append(f"| unpruned | {' | '.join(f'{100 * whole[mask].mean():.1f}' for mask in columns.values())} |")
    for cell in sorted((c for c in cells if c.pruned), key=lambda c: (c.ratio, -c.scores[task].score.mean())):
        gap, rng = 100 * (cell.scores[task].score - whole), np.random.default_rng(0)
        said = (f"{gap[mask].mean():+.1f} ± {half_width(gap[mask], clip[mask], rng):.1f}" for mask in columns.values())
        lines.append(f"| {cell.name} | {' | '.join(said)} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of runs")
    args = parser.parse_args(arguments)
    try:
        cells = load(args.folder)
        tasks = [task for task in FRAMES if cells and task in cells[0].scores]
        if not tasks or all(cell.pruned for cell in cells):
            raise RecordError(f"{args.folder} has no unpruned run on {' or '.join(FRAMES)}")
        for task in tasks:
            print(table([cell for cell in cells if task in cell.scores], task))
    except MeteorBenchError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
