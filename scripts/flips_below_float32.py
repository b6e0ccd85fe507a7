"""How many answers flip with the batch in bfloat16, method by method, and what `--deterministic` costs.

python scripts/flips_below_float32.py [--limit 8] [--dtype bfloat16] [--tasks pocket_gqa,pocket_pope] [METHOD ...]

Each method answers the same questions three times on the CPU: in batches of 64, in batches of 8 without sharing, and
alone. Counted are questions whose answer is another one than alone.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from meteor_bench.config.run_config import RunConfig
from meteor_bench.core.errors import MeteorBenchError
from meteor_bench.core.registry import METHODS
from meteor_bench.records.reader import read_samples
from meteor_bench.runs.job import execute, prepare
from meteor_bench.runs.model_cache import ModelCache

MODES = {
    "batches of 64": {"batch_size": 64},
    "batches of 8, not shared": {"batch_size": 8, "reuse": False},
    "alone": {"deterministic": True},
}


def main() -> None:
    """See the top of the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=8)
    parser.add_argument("--tasks", default="pocket_gqa,pocket_pope,pocket_vqa")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("methods", nargs="*", default=METHODS.names())
    given = parser.parse_args()
    shared = ModelCache()
    print(
        "| method | questions | flip, batches of 64 | flip, batches of 8, not shared | s | s | alone, s |", flush=True
    )
    print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for method in given.methods:
        config = RunConfig(
            method=method,
            ratio=0.0 if method == "none" else 0.76,
            tasks=tuple(given.tasks.split(",")),
            limit=given.limit,
            dtype=given.dtype,
            device="cpu",
            baseline=False,
        )
        try:
            print(_row(config, shared), flush=True)
        except (MeteorBenchError, NotImplementedError) as error:  # the latter: an operation that a dtype lacks
            print(f"| {method} | {error} |", flush=True)


def _row(config: RunConfig, shared: ModelCache) -> str:
    said: dict[str, list[str]] = {}
    seconds: dict[str, float] = {}
    for mode, change in MODES.items():
        with TemporaryDirectory() as folder:
            run = replace(config, **change, out=Path(folder))
            job = prepare(run, shared)
            job.main.get_ready()
            started = perf_counter()
            done = execute(run, job, timed=False, tables=False)
            seconds[mode] = perf_counter() - started
            said[mode] = [sample.raw for sample in read_samples(done.path)]
    alone = said["alone"]
    flips = [sum(a != b for a, b in zip(said[mode], alone, strict=True)) for mode in MODES if mode != "alone"]
    shares = " | ".join(f"{flip} ({100 * flip / len(alone):.1f} %)" for flip in flips)
    times = " | ".join(f"{value:.1f}" for value in seconds.values())
    return f"| {config.method} | {len(alone)} | {shares} | {times} |"


if __name__ == "__main__":
    main()
