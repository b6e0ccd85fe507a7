"""The card of a trained pruner: every number in it is measured on the files beside it."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from meteor_bench.core.engine import seeded
from meteor_bench.methods._slots import SlotPruner, load_slots, read_towers
from meteor_bench.methods.oc_vtp import taken
from meteor_bench.models.base import VLM
from meteor_bench.models.checkpoint import digest
from scripts.oc_vtp.pictures import features, pocket_pictures

KEEP = (0.5, 0.24, 0.11)


def unexplained(x: Tensor, kept: Tensor) -> float:
    """Share of the variance around a picture's mean that is left when each token is read off the nearest kept one.

    Args:
        x: [R, N, D].
        kept: [R, N] bool.
    """
    x = x.double()
    distance = torch.cdist(x, x).square().masked_fill(~kept[:, None], torch.inf)
    spread = (x - x.mean(1, keepdim=True)).square().sum((1, 2))
    return float((distance.amin(2).sum(1) / spread).mean())


def choices(trained: SlotPruner, untrained: SlotPruner, x: Tensor, keep: float) -> dict[str, Tensor]:
    """What the trained slots take of [R, N, D], and as many tokens taken by untrained ones or at random."""
    rows, n, _ = x.shape
    slots = torch.full((rows,), round(keep * n))
    everything = torch.ones(rows, n, dtype=torch.bool)

    def by(pruner: SlotPruner) -> Tensor:
        return taken(pruner, x, everything, slots, [seeded(0, str(row), "card") for row in range(rows)])

    chosen = by(trained)
    generator = torch.Generator().manual_seed(0)
    order = torch.rand(rows, n, generator=generator).argsort(1).argsort(1)
    return {"trained": chosen, "untrained": by(untrained), "random": order < chosen.sum(1, keepdim=True)}


def write_card(folder: Path, vlm: VLM, seconds: float, pictures: int) -> None:
    """README.md beside the weights."""
    towers = read_towers(folder)
    trained, untrained = load_slots(str(folder), digest(folder), towers, "cpu"), load_slots("", "", towers, "cpu")
    recipe = json.loads((folder / "config.json").read_text())["recipe"]
    samples = pocket_pictures(0, "calib")(0, pictures)
    rows = []
    for name, (x, _) in features(vlm, samples, {t.name: t.after for t in towers}).items():
        for keep in KEEP:
            found = choices(trained[name], untrained[name], x.cpu(), keep)
            left = {who: unexplained(x.cpu(), kept) for who, kept in found.items()}
            counts = {who: float(kept.sum(1).double().mean()) for who, kept in found.items()}
            cells = [f"{100 * left[who]:.1f}" for who in ("trained", "random", "untrained")]
            slots = round(keep * x.shape[1])
            rows.append(
                f"| {name} | {slots} of {x.shape[1]} | {counts['trained']:.1f} | {' | '.join(cells)} "
                f"({counts['untrained']:.1f}) |"
            )
    text = (Path(__file__).parent / "card.md").read_text().format(
        model=vlm.name,
        towers=", ".join(f"{t.name} (width {t.dim}, after block {t.after})" for t in towers),
        parameters=sum(p.numel() for pruner in trained.values() for p in pruner.parameters()),
        steps=recipe["steps"],
        batch=recipe["batch"],
        seed=recipe["seed"],
        minutes=f"{seconds / 60:.1f}",
        pictures=pictures,
        rows="\n".join(rows),
    )  # fmt: skip
    (folder / "README.md").write_text(text)
