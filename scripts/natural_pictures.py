"""A contact sheet of pictures and clips made of photographs: `make natural` first.

    python scripts/natural_pictures.py --split test --out sheet.png

Below each stands one of its questions with the answer; the frames of a clip stand two by two.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from meteor_bench.core.errors import MeteorBenchError  # noqa: E402
from scripts.natural.photographs import SPLITS, Split  # noqa: E402
from scripts.natural.world import FAMILY_BENCHMARK, MAKERS, SIDE, make, split_rng  # noqa: E402
from scripts.pocket.sample import STEPS, Sample  # noqa: E402

COLUMNS, CAPTION = 6, 32


def said(sample: Sample, place: int) -> str:
    """A question of the sample with its answer, on two lines; another one for each place on the sheet."""
    asked = [qa for qa in sample.qas if qa.family in FAMILY_BENCHMARK]
    qa = asked[place % len(asked)]
    return f"{qa.question.removesuffix(STEPS).strip()}\n{qa.answer}"


def shown(sample: Sample) -> Image.Image:
    """The picture, or a clip's four frames in its place."""
    if not sample.is_clip:
        return Image.fromarray(sample.image)
    rows = [np.concatenate(list(sample.image[i : i + 2]), 1) for i in (0, 2)]
    return Image.fromarray(np.concatenate(rows))


def sheet(split: Split, count: int) -> Image.Image:
    """Pictures of all kinds in turn."""
    rows, kinds = -(-count // COLUMNS), list(MAKERS)
    image = Image.new("RGB", (COLUMNS * SIDE, rows * (SIDE + CAPTION)), "white")
    draw = ImageDraw.Draw(image)
    for place in range(count):
        left, top = place % COLUMNS * SIDE, place // COLUMNS * (SIDE + CAPTION)
        sample = make(kinds[place % len(kinds)], split_rng(split, place), split)
        image.paste(shown(sample), (left, top))
        draw.text((left + 4, top + SIDE + 3), said(sample, place), "black")
    return image


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--count", type=int, choices=range(1, 97), metavar="1 to 96", default=24)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(arguments)
    try:
        sheet(args.split, args.count).save(args.out)
    except MeteorBenchError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
