"""The model card: every number in it is measured on the exported files or read from the checkpoints."""

from pathlib import Path

import numpy as np
import torch

from meteor_bench.models.pocket.modules import load_pocket
from scripts.pocket.export import FOLDERS, exported_scores
from scripts.pocket.scores import FAMILY_BENCHMARK, benchmark_scores


def write_card(folder: Path, fusion: str, target: Path, per_kind: int) -> None:
    """README.md beside the weights: only what was measured on the files beside it, or read from the checkpoints."""
    seen = exported_scores(target, per_kind, "eval")
    home = exported_scores(target, per_kind, "train")["full"]
    rows = []
    for family, benchmark in FAMILY_BENCHMARK.items():
        cells = (seen["full"][family], seen["keep 24 %"][family], seen["blind"][family], home[family])
        rows.append(f"| {benchmark} | {family} | " + " | ".join(f"{100 * cell:.1f}" for cell in cells) + " |")
    means = [np.mean(list(benchmark_scores(s).values())) for s in (*seen.values(), home)]
    rows.append("| **mean of the benchmarks** | | " + " | ".join(f"**{100 * m:.1f}**" for m in means) + " |")
    phases = []
    for name in ("symbolic", "encoders", f"joint-{fusion}"):
        saved = torch.load(folder / f"{name}.pt", weights_only=True)
        phases.append(f"| {name} | {saved['step']:,} | {saved['samples']:,} | {saved['minutes']:.0f} |")
    model = load_pocket(target)
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    towers = ", ".join(f"{n} {sum(p.numel() for p in t.parameters()) / 1e6:.2f} M" for n, t in model.towers.items())
    text = (Path(__file__).parent / "card.md").read_text().format(
        name=FOLDERS[fusion],
        fusion=FUSION_TEXT[fusion],
        training=TRAINING_TEXT[fusion],
        total=f"{sum(parts.values()) / 1e6:.2f}",
        towers=towers,
        fusion_size=f"{parts['fusion'] / 1e6:.2f}",
        decoder_size=f"{parts['decoder'] / 1e6:.2f}",
        thaw=THAWED_AT[fusion],
        scores="\n".join(rows),
        phases="\n".join(phases),
        pictures=per_kind,
    )  # fmt: skip
    (target / "README.md").write_text(text)


THAWED_AT = {"shared": 18, "independent": 28}  # of the run that made the shipped weights
FUSION_TEXT = {
    "shared": "channel concatenation on the 16x16 grid of towers a and b, one projector: 256 visual tokens",
    "independent": "one projector and one position table per tower, sequence concatenation: 256 + 256 + 64 tokens",
}
TRAINING_TEXT = {
    "shared": (
        "In three steps of five a uniformly random 20-100 % of the visual tokens were kept before the decoder, "
        "which favours no pruning method; the other steps were unpruned."
    ),
    "independent": (
        "In three steps of four METEOR's stages 1 and 2 ran at random ratios (each point of stage 1 kept 50-100 %, "
        "stage 2 kept 48 tokens or more; stage 2 compares projected tokens without their positions), as the paper "
        "trains its models; the other steps were unpruned. Other methods have not been trained for on this checkpoint."
    ),
}
