"""Draw what METEOR and EvoPrune keep of ten photographs: `make natural` first.

    python scripts/natural_figures.py --out some/where
    python scripts/natural_figures.py --methods fastv,divprune --model natural-independent --out some/where

A figure for each method, as on the methods' pages. They show photographs of others, so none is committed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from meteor_bench.core.errors import MeteorBenchError  # noqa: E402
from meteor_bench.data.made import check_made  # noqa: E402
from meteor_bench.data.suites import resolve  # noqa: E402
from meteor_bench.utils.atomic_io import write_whole  # noqa: E402
from scripts.method_figures import figures, png  # noqa: E402
from scripts.method_pages import figure_name  # noqa: E402

MODELS = ("natural", "natural-independent")
# The first questions of a benchmark are about different pictures.
SAMPLES = (
    *(f"natural_gqa/{i}" for i in range(3)),
    *(f"natural_pope/{i}" for i in range(3)),
    *(f"natural_textvqa/{i}" for i in range(2)),
    *(f"natural_scienceqa/{i}" for i in range(2)),
)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default="meteor,evoprune", help="separated by commas")
    parser.add_argument("--model", choices=MODELS, default=MODELS[0])
    parser.add_argument("--out", type=Path, required=True, help="folder")
    args = parser.parse_args(arguments)
    try:
        check_made(resolve("natural"))
        args.out.mkdir(parents=True, exist_ok=True)
        for method, drawn in figures(args.methods.split(","), SAMPLES, args.model):
            write_whole(args.out / figure_name(method), png(drawn))
    except MeteorBenchError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
