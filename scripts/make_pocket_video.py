"""Make the data of the two benchmarks of long clips, pocket_longvideo (32 frames) and pocket_longvideo64.

    python -m scripts.make_pocket_video

As `scripts/make_pocket_tasks.py`: each clip has a seed of its own that no training uses, and the files come out byte
for byte the same with the same Pillow and pyarrow.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from scripts.make_pocket_tasks import FIRST_SEED, ROOT, Picture, choose, encode, point_to, report, rows, suitable, write
from scripts.pocket.long_clips import ASKED, LongClip, long_clip
from scripts.pocket.sample import QA
from scripts.pocket.world import BENCHMARK_KINDS, split_rng

FRAMES = {"pocket_longvideo": 32, "pocket_longvideo64": 64}
QUESTIONS, PER_CLIP = 240, 4


def drawn(benchmark: str, total: int = QUESTIONS) -> Iterator[tuple[LongClip, list[QA]]]:
    """Clips of one benchmark with the questions chosen for each, until `total` are together, one by one."""
    used: Counter[tuple[str, ...]] = Counter()
    # Seeds behind those of the other benchmarks, 10,000 for each.
    first = FIRST_SEED + 10_000 * (len(BENCHMARK_KINDS) + list(FRAMES).index(benchmark))
    for seed in count(first):
        rng = split_rng("eval", seed)
        clip = long_clip(rng, "eval", FRAMES[benchmark])
        chosen = choose(suitable(clip, ASKED), min(PER_CLIP, total), used, rng)
        yield clip, chosen
        total -= len(chosen)
        if not total:
            return


def clips(benchmark: str, total: int = QUESTIONS) -> Iterator[Picture]:
    """The same as what the file holds."""
    for clip, chosen in drawn(benchmark, total):
        yield Picture(*encode(clip), chosen)


def make_benchmark(benchmark: str, out: Path, total: int = QUESTIONS) -> Path:
    """One benchmark's parquet file, and its name in the YAML."""
    path = write(list(rows(benchmark, list(clips(benchmark, total)))), out / benchmark / "data", "test")
    point_to(path, out / benchmark / f"{benchmark}.yaml")
    return path


def main() -> None:
    parser = ArgumentParser(description="Make the data of the benchmarks of long clips.")
    parser.add_argument("--out", type=Path, default=ROOT / "tasks", help="the tasks folder")
    out = parser.parse_args().out
    for benchmark in FRAMES:
        report(make_benchmark(benchmark, out))


if __name__ == "__main__":
    main()
