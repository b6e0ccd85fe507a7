"""Whether two suites rank methods alike: Spearman's rank correlation of their accuracies, with an interval.

    python scripts/rankings.py results/reference/pocket results/reference/natural --ratio 0.76
    python scripts/rankings.py results/reference/pocket-flops results/reference/natural-flops --ratio 0.3 0.05

Compared are the methods that both folders have at the ratio (one for both, or one for each), by the mean of the
benchmarks that both suites have ("pocket_pope" and "natural_pope"). The interval is a percentile bootstrap: pictures
are drawn anew within each benchmark, the same for all methods. Noise alone makes two rankings differ; how much is said
beside it, by the correlation of a folder's ranking with itself on two such draws.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from meteor_bench.core.errors import MeteorBenchError, RecordError  # noqa: E402
from meteor_bench.report.runs import Cell, load  # noqa: E402
from scripts.reference_pocket import ADDED  # noqa: E402

DRAWS, SHARE = 2000, 0.95
Floats = NDArray[np.float64]


class Suite(NamedTuple):
    """Per benchmark (its name without the suite's), sums over each picture's questions.

    Attributes:
        right: benchmark -> [pictures, methods] sum of the scores of a picture's questions.
        asked: benchmark -> [pictures] their number.
    """

    right: Mapping[str, Floats]
    asked: Mapping[str, Floats]

    def accuracy(self, draws: Mapping[str, NDArray[np.int64]] | None = None) -> Floats:
        """[methods] in percent, the mean of the benchmarks; ``draws`` names the pictures to count."""
        parts = []
        for name, right in self.right.items():
            index = slice(None) if draws is None else draws[name]
            parts.append(right[index].sum(0) / self.asked[name][index].sum())
        return 100 * np.mean(parts, axis=0)

    def draw(self, rng: np.random.Generator) -> dict[str, NDArray[np.int64]]:
        """As many pictures of each benchmark as it has, with replacement."""
        return {name: rng.integers(0, len(asked), len(asked)) for name, asked in self.asked.items()}


def ranks(values: Floats) -> Floats:
    """1 for the least; equal values share the mean of their places."""
    return pd.Series(values).rank().to_numpy()


def spearman(one: Floats, other: Floats) -> float:
    """Rank correlation, -1 to 1."""
    return float(np.corrcoef(ranks(one), ranks(other))[0, 1])


def methods_of(folder: Path, ratio: float) -> dict[str, Cell]:
    """Method -> its cell at the ratio, of a reference with what was run later than it.

    Raises:
        RecordError: the folder has none, or its records are broken.
    """
    later = [one for one in ADDED.get(folder, ()) if one.exists()]
    found = {c.label: c for c in load(folder, *later) if c.pruned and c.ratio == ratio}
    if not found:
        raise RecordError(f"{folder} has no method at ratio {ratio}")
    return found


def suite(cells: Sequence[Cell], benchmarks: Sequence[str]) -> Suite:
    """Sums by picture of cells that answered the same questions."""
    right, asked = {}, {}
    for task, columns in cells[0].scores.items():
        name = task.partition("_")[2]
        if name not in benchmarks:
            continue
        media = np.unique(columns.media, return_inverse=True)[1]
        scores = np.stack([cell.scores[task].score for cell in cells], 1)
        right[name] = np.zeros((media.max() + 1, len(cells)))
        np.add.at(right[name], media, scores)
        asked[name] = np.bincount(media).astype(float)
    return Suite(right, asked)


def compared(
    folders: Sequence[Path], ratios: Sequence[float], without: Sequence[str] = (), draws: int = DRAWS, seed: int = 0
) -> str:
    """The comparison as text.

    Raises:
        RecordError: records are missing or broken, or the folders have fewer than three methods in common.
    """
    both = [methods_of(folder, ratio) for folder, ratio in zip(folders, ratios, strict=True)]
    names = [name for name in both[0] if name in both[1] and name not in without]
    if len(names) < 3:
        raise RecordError(
            f"{folders[0]} and {folders[1]} have {len(names)} methods in common at {ratios[0]} and {ratios[1]}"
        )
    tasks = [{task.partition("_")[2] for task in next(iter(cells.values())).scores} for cells in both]
    shared = sorted(tasks[0] & tasks[1])
    one, other = (suite([cells[name] for name in names], shared) for cells in both)
    rng = np.random.default_rng(seed)
    across: list[float] = []
    selves: tuple[list[float], list[float]] = ([], [])
    for _ in range(draws):
        across.append(spearman(one.accuracy(one.draw(rng)), other.accuracy(other.draw(rng))))
        for own, kept in zip((one, other), selves, strict=True):
            kept.append(spearman(own.accuracy(own.draw(rng)), own.accuracy(own.draw(rng))))
    low, high = np.quantile(across, [(1 - SHARE) / 2, (1 + SHARE) / 2])
    first, second = one.accuracy(), other.accuracy()
    places = [(len(names) + 1 - ranks(values)) for values in (first, second)]
    removed = " and ".join(f"{ratio:g}" for ratio in dict.fromkeys(ratios))
    lines = [
        f"Spearman {spearman(first, second):.2f}, 95 % interval [{low:.2f}, {high:.2f}] ({len(names)} methods, "
        f"{removed} removed, {len(shared)} benchmarks: {', '.join(shared)}).",
        f"A ranking with itself on two draws of pictures: {np.mean(selves[0]):.2f} ({folders[0].name}), "
        f"{np.mean(selves[1]):.2f} ({folders[1].name}).",
        "",
        f"| method | {folders[0].name} | place | {folders[1].name} | place |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for i in np.argsort(-first, kind="stable"):
        lines.append(f"| {names[i]} | {first[i]:.1f} | {places[0][i]:g} | {second[i]:.1f} | {places[1][i]:g} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs=2, metavar="FOLDER", help="of runs")
    parser.add_argument("--ratio", type=float, nargs="+", required=True, help="of the runs, or of each folder's")
    parser.add_argument("--without", default="", help="methods to leave out, separated by commas")
    args = parser.parse_args(arguments)
    if len(args.ratio) > 2:
        parser.error("--ratio takes one number, or one for each folder")
    try:
        print(compared(args.folders, [args.ratio[0], args.ratio[-1]], args.without.split(",")))
    except MeteorBenchError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
