"""Which visual tokens a method keeps in bfloat16 and float16 that it keeps in float32, method by method.

python scripts/kept_below_float32.py [--pictures 24] [--ratio 0.76] [METHOD ...]

Model and method run in the lower precision as a whole, on the CPU, on questions of the calibration set. Overlap is the
number of grid cells that stand for something after the last pruning point in both precisions, as a share of float32's;
"answers" counts the pictures whose answer is the same. A method of fixed positions shows what the count itself costs.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import cache

import numpy as np

from meteor_bench import Session, load_model
from meteor_bench.core.errors import MeteorBenchError
from meteor_bench.core.model import VLM
from meteor_bench.core.registry import METHODS
from meteor_bench.core.request import Request
from meteor_bench.data.calibration import calibration_requests
from meteor_bench.engine.load_model import resolve_model
from meteor_bench.engine.make_method import make_pruner

DTYPES = ("bfloat16", "float16")


def main() -> None:
    """See the top of the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pictures", type=int, default=24)
    parser.add_argument("--ratio", type=float, default=0.76)
    parser.add_argument("methods", nargs="*", default=[name for name in METHODS.names() if name != "none"])
    given = parser.parse_args()
    asked = _one_a_picture(given.pictures)
    print("| method | " + " | ".join(f"overlap, {name} | least | answers" for name in DTYPES) + " |")
    print("| --- |" + " ---: |" * (3 * len(DTYPES)), flush=True)
    for method in given.methods:
        try:
            exact = _kept(method, given.ratio, "float32", asked)
            parts = [_compared(exact, _kept(method, given.ratio, dtype, asked)) for dtype in DTYPES]
            print(f"| {method} | {' | '.join(parts)} |", flush=True)
        except (MeteorBenchError, NotImplementedError) as error:  # the latter: an operation that a dtype lacks
            print(f"| {method} | {error} |", flush=True)


def _one_a_picture(most: int) -> list[Request]:
    """The first question on each picture of the calibration set, evenly over its benchmarks."""
    firsts = {request.media_key: request for request in reversed(calibration_requests())}
    found = list(firsts.values())
    return found[:: max(1, len(found) // most)][:most]


@cache
def _model(name: str, dtype: str) -> VLM:
    return load_model(name, device="cpu", dtype=dtype)


def _kept(method: str, ratio: float, dtype: str, asked: Sequence[Request]) -> list[tuple[set[int], str]]:
    """Of each question the cells that are left after the last point, and the answer."""
    card = resolve_model("pocket", make_pruner(method), None)
    session = Session(_model(card.name, dtype), method, ratio)
    found = []
    for request in asked:
        last = session.trace(request.media(), request.question)[-1]
        cells = {cell for cell in last.group if cell >= 0}
        found.append((cells, session.answer(request.media(), request.question).text))
    return found


def _compared(exact: list[tuple[set[int], str]], rounded: list[tuple[set[int], str]]) -> str:
    shares = [len(a & b) / len(a) for (a, _), (b, _) in zip(exact, rounded, strict=True)]
    same = sum(a == b for (_, a), (_, b) in zip(exact, rounded, strict=True))
    return f"{np.mean(shares):.3f} | {min(shares):.3f} | {same} of {len(exact)}"


if __name__ == "__main__":
    main()
