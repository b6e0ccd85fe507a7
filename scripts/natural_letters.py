"""How well single letters on natural pictures can be told by what an encoder shows of their cell: `make natural` first.

    python scripts/natural_letters.py --pictures 120 --checked 50    # some seconds of a core for each picture

A linear probe (ridge regression to one of the characters, the best of four strengths) for each encoder and for the ViT
and the text expert together: learned on pictures of the training split; right of 100 on pictures of the calibration
split, and on those that it was learned on. Half of the pictures have signs, half bare text. A cell is one of 16x16.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from meteor_bench.core.errors import MeteorBenchError  # noqa: E402
from meteor_bench.models.natural.reader import Reader, ReaderTower, enlarged, text_trunk  # noqa: E402
from scripts.natural.cache import encode, towers  # noqa: E402
from scripts.natural.photographs import Split  # noqa: E402
from scripts.natural.world import make, split_rng  # noqa: E402
from scripts.pocket.sample import CHAR, Sample  # noqa: E402

FIRST = 3_000_000  # of the seeds; none is a benchmark's
SIDE = 16  # cells
APART = "reader, columns apart"  # not their mean, which the models take
STRENGTHS = (1e2, 1e3, 1e4, 1e5)


def shown(split: Split, pictures: int) -> tuple[dict[str, Tensor], Tensor]:
    """Encoder -> features [cells, d] of the cells with a character, and which one [cells] that is."""
    all_towers = [*towers(torch.float32).values(), ReaderTower(APART, text_trunk(), Reader(), enlarged)]
    found: dict[str, list[Tensor]] = {tower.name: [] for tower in all_towers}
    which: list[Tensor] = []
    for number in range(pictures):
        sample: Sample = make("signs" if number % 2 else "bare_text", split_rng(split, FIRST + number), split)
        labels = torch.as_tensor(sample.labels[CHAR])
        row, col = labels.nonzero(as_tuple=True)
        which.append(labels[row, col].long())
        for tower, x in zip(all_towers, encode(all_towers, [sample], torch.float32), strict=True):
            side = round(x.shape[1] ** 0.5)
            found[tower.name].append(x[0, row * side // SIDE * side + col * side // SIDE])
    return {name: torch.cat(parts) for name, parts in found.items()}, torch.cat(which)


def probe(learned: tuple[Tensor, Tensor], checked: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """Share of right characters on ``checked`` and on ``learned``, each features [cells, d] and characters [cells]."""
    (x, wanted), (y, other) = learned, checked
    mean, spread = x.mean(0), x.std(0) + 1e-3
    x, y = (F.pad((part - mean) / spread, (0, 1), value=1.0) for part in (x, y))
    gram, goal = x @ x.T, F.one_hot(wanted, int(max(wanted.max(), other.max())) + 1).float()
    best = (-1.0, 0.0)
    for strength in STRENGTHS:
        weight = torch.linalg.solve(gram + strength * torch.eye(len(gram)), goal)
        right = [float((scores.argmax(1) == said).float().mean()) for scores, said in
                 ((y @ (x.T @ weight), other), (gram @ weight, wanted))]  # fmt: skip
        best = max(best, (right[0], right[1]))
    return best


def both(features: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The encoders, and what a model with a text expert beside the ViT would be shown."""
    return {**features, "vit and reader": torch.cat([features["vit"], features["reader"]], 1)}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=120, help="of the training split")
    parser.add_argument("--checked", type=int, default=50, help="pictures of the calibration split")
    args = parser.parse_args(arguments)
    try:
        (learned, wanted), (checked, other) = shown("train", args.pictures), shown("calibration", args.checked)
        print(f"| features of the cell | dimensions | right of {len(other)} | of the {len(wanted)} learned on |")
        print("| --- | ---: | ---: | ---: |")
        seen = both(checked)
        for name, x in both(learned).items():
            right, before = probe((x, wanted), (seen[name], other))
            print(f"| {name} | {x.shape[1]} | {100 * right:.1f} % | {100 * before:.1f} % |")
    except MeteorBenchError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
