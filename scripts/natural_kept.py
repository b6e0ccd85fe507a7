"""What methods keep of the things, the signs and the bare background of natural pictures: `make natural` first.

    python scripts/natural_kept.py --methods random,fastervlm,fastv --pictures 80

Pictures are drawn anew from the test split, half of them with signs, since only the generator knows what is in a cell.
Of each method's last point: the share of the cells that still stand for a token, and how many of the sixteen squares
of 4x4 cells have none.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from meteor_bench.config.run_config import RunConfig  # noqa: E402
from meteor_bench.core.errors import MeteorBenchError  # noqa: E402
from meteor_bench.core.request import Request  # noqa: E402
from meteor_bench.data.calibration import calibration_requests  # noqa: E402
from meteor_bench.engine.session import Session  # noqa: E402
from meteor_bench.runs.model_cache import ModelCache  # noqa: E402
from meteor_bench.runs.patches.recorder import PatchRecorder  # noqa: E402
from scripts.natural.world import make, split_rng  # noqa: E402
from scripts.pocket.sample import CHAR, KIND, PLATE, Sample  # noqa: E402

FIRST = 5_000_000  # of the seeds; none is a benchmark's


def heads(session: Session, sample: Sample, key: str) -> np.ndarray:
    """[16, 16] bool, the cells that stand for a token after the method's last point."""
    picture, question = Image.fromarray(sample.image), sample.qas[0].question
    recorder = PatchRecorder()
    with session.engine.instrumented(recorder=recorder):
        session.answer([Request(key, key, lambda: [picture], question, 1)], lambda *_: None, batch_size=1)
    look = session.vlm.processor.look([picture])
    engine = session.engine_for(look, session.vlm.processor.prompt(question))
    group = np.array(recorder.points(engine, look.scene)[-1].panels[0].group)
    found = np.zeros(len(group), bool)
    found[group[group >= 0]] = True
    return found.reshape(16, 16)


def row(session: Session, samples: Sequence[Sample]) -> dict[str, float]:
    """Kept cells in per cent of the things', the signs' and the bare ones; empty squares and tokens of a picture."""
    there, kept = Counter[str](), Counter[str]()
    for number, sample in enumerate(samples):
        cells = heads(session, sample, str(number))
        kinds = sample.labels[KIND]
        signs = (kinds == PLATE) | (sample.labels[CHAR] > 0)
        things = (kinds > 0) & ~signs
        for name, mask in {"things": things, "signs": signs, "bare": ~(things | signs)}.items():
            there[name] += int(mask.sum())
            kept[name] += int((cells & mask).sum())
        kept["empty squares"] += int((~cells.reshape(4, 4, 4, 4).any((1, 3))).sum())
        kept["tokens"] += int(cells.sum())
    shares = {name: 100 * kept[name] / there[name] for name in there}
    return shares | {name: kept[name] / len(samples) for name in ("empty squares", "tokens")}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default="random,fastervlm,visionzip,divprune,fastv,meteor", help="by commas")
    parser.add_argument("--ratio", type=float, default=0.76)
    parser.add_argument("--pictures", type=int, default=80)
    args = parser.parse_args(arguments)
    try:
        samples = [
            make(kind, split_rng("test", FIRST + number), "test")
            for number in range(args.pictures // 2)
            for kind in ("scene", "signs")
        ]
        models = ModelCache()
        print("| method | things, % | signs, % | bare, % | empty squares of 16 | tokens |")
        print("| --- |" + 5 * " ---: |")
        for method in args.methods.split(","):
            config = RunConfig(method=method, ratio=args.ratio, model="natural", dtype="bfloat16")
            found = row(models.blueprint(config).session(calibration_requests), samples)
            shares = " | ".join(f"{found[name]:.0f}" for name in ("things", "signs", "bare"))
            print(f"| {method} | {shares} | {found['empty squares']:.1f} | {found['tokens']:.1f} |", flush=True)
    except MeteorBenchError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
