"""A contact sheet of pictures made of photographs: `make natural` first.

    python scripts/natural_pictures.py --split test --out sheet.png

Below each picture stand the classes of its things, from left to right.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from meteor_bench.core.errors import MeteorBenchError  # noqa: E402
from scripts.natural.photographs import SPLITS, Split  # noqa: E402
from scripts.natural.pictures import SIDE, Picture, make  # noqa: E402

COLUMNS, CAPTION = 6, 18


def said(picture: Picture) -> str:
    """Classes by place."""
    return ", ".join(thing.of.what for thing in sorted(picture.things, key=lambda thing: thing.box[0]))


def sheet(split: Split, count: int) -> Image.Image:
    """The first pictures of a split."""
    rows = -(-count // COLUMNS)
    image = Image.new("RGB", (COLUMNS * SIDE, rows * (SIDE + CAPTION)), "white")
    draw = ImageDraw.Draw(image)
    for seed in range(count):
        left, top = seed % COLUMNS * SIDE, seed // COLUMNS * (SIDE + CAPTION)
        picture = make(split, seed)
        image.paste(picture.image, (left, top))
        draw.text((left + 4, top + SIDE + 3), said(picture), "black")
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
