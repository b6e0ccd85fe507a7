"""The card of a trained pruner: every number in it is measured on the files beside it."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from meteor_bench.core.model import VLM
from meteor_bench.engine.engine import seeded
from meteor_bench.methods.oc_vtp import taken
from meteor_bench.methods.shared.slots import SlotPruner, load_slots, read_towers
from meteor_bench.models.checkpoint import digest
from scripts.oc_vtp.pictures import features, pocket_pictures

KEEP = (0.5, 0.24, 0.11)


def unexplained(x: Tensor, found: Tensor) -> float:
    """Share of the variance around a picture's mean that is left of [R, N, D] features after a reconstruction."""
    spread = (x - x.mean(1, keepdim=True)).square().sum((1, 2))
    return float(((x - found).square().sum((1, 2)) / spread).mean())


def through_slots(pruner: SlotPruner, x: Tensor, slots: int) -> Tensor:
    """[R, N, D] each token as the mean of its slots' mean features, by attention; nothing is fitted."""
    rows, n, _ = x.shape
    noise = torch.randn(rows, slots, pruner.slot_dim, generator=torch.Generator().manual_seed(0))
    everything = torch.ones(rows, max(n, slots), dtype=torch.bool)
    attention = pruner(x.float(), everything[:, :n], noise, everything[:, :slots]).attention.double()
    means = attention @ x / attention.sum(-1, keepdim=True)
    return attention.mT @ means


def nearest(x: Tensor, kept: Tensor) -> Tensor:
    """[R, N, D] each token read off the most similar one of those kept [R, N]."""
    distance = torch.cdist(x, x).masked_fill(~kept[:, None], torch.inf)
    return x.gather(1, distance.argmin(2)[..., None].expand_as(x))


def measure(trained: SlotPruner, untrained: SlotPruner, x: Tensor, slots: int) -> list[str]:
    """A row's cells: tokens taken; what is left through the slots, and by the tokens taken, of each kind."""
    rows, n, _ = x.shape
    everything, count = torch.ones(rows, n, dtype=torch.bool), torch.full((rows,), slots)

    def by(pruner: SlotPruner) -> Tensor:
        return taken(pruner, x, everything, count, [seeded(0, str(row), "card") for row in range(rows)])

    chosen, others = by(trained), by(untrained)
    order = torch.rand(rows, n, generator=torch.Generator().manual_seed(0)).argsort(1).argsort(1)
    chance = order < chosen.sum(1, keepdim=True)
    left = [unexplained(x, through_slots(pruner, x, slots)) for pruner in (trained, untrained)]
    left += [unexplained(x, nearest(x, kept)) for kept in (chosen, chance, others)]
    counts = [float(kept.sum(1).double().mean()) for kept in (chosen, others)]
    return [f"{counts[0]:.1f}", *(f"{100 * value:.1f}" for value in left), f"{counts[1]:.1f}"]


def write_card(folder: Path, vlm: VLM, seconds: float, pictures: int) -> None:
    """README.md beside the weights."""
    towers = read_towers(folder)
    trained, untrained = load_slots(str(folder), digest(folder), towers, "cpu"), load_slots("", "", towers, "cpu")
    recipe = json.loads((folder / "config.json").read_text())["recipe"]
    samples = pocket_pictures(0, "calib")(0, pictures)
    rows = []
    for name, (x, _) in features(vlm, samples, {t.name: t.after for t in towers}).items():
        n = x.shape[1]
        for slots in (round(keep * n) for keep in KEEP):
            cells = measure(trained[name], untrained[name], x.cpu().double(), slots)
            rows.append(f"| {name} | {slots} of {n} | {' | '.join(cells)} |")
    text = (Path(__file__).parent / "card.md").read_text().format(
        model=vlm.name,
        towers="; ".join(f"{t.name}, after block {t.after}" if t.after else f"{t.name}, its output" for t in towers),
        parameters=f"{sum(p.numel() for pruner in trained.values() for p in pruner.parameters()):,}",
        steps=recipe["steps"],
        batch=recipe["batch"],
        seed=recipe["seed"],
        minutes=f"{seconds / 60:.0f}",
        pictures=pictures,
        rows="\n".join(rows),
    )  # fmt: skip
    (folder / "README.md").write_text(text)
