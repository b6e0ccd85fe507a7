"""Phase 1b: the towers learn to see, from dense labels of every cell.

Part of the time tokens are dropped at random inside the transformers a and c, neutrally to every method, so that
pruning inside an encoder meets a model that has seen gaps. The CLS token of tower a learns what the picture contains.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from meteor_bench.models.pocket.modules import PocketConfig, build_towers, normalise
from scripts.pocket.attention import use_lean_attention
from scripts.pocket.loop import Progress
from scripts.pocket.optim import MasterWeights
from scripts.pocket.sample import CHAR, COLOR, IN_ARROW, KIND, OUT_ARROW, SIZE, Sample
from scripts.pocket.stages import random_points, run_towers
from scripts.pocket.world import make, split_rng

LEARNING_RATE = 2e-3
CLASSES = {KIND: 19, COLOR: 9, CHAR: 37, SIZE: 3, OUT_ARROW: 5, IN_ARROW: 5}
NAMES = {KIND: "kind", COLOR: "color", CHAR: "char", SIZE: "size", OUT_ARROW: "out", IN_ARROW: "in"}
TAUGHT = {"a": tuple(CLASSES), "b": (KIND, CHAR, SIZE, OUT_ARROW, IN_ARROW), "c": (KIND, COLOR, SIZE)}
IMAGE_KINDS = {
    "scene": 0.27,
    "sums": 0.08,
    "plates": 0.2,
    "scene_text": 0.15,
    "document": 0.12,
    "chart": 0.08,
    "diagram": 0.1,
}
PRESENCE = (KIND, COLOR, CHAR)


class SeeingModel(nn.Module):
    def __init__(self, config: PocketConfig) -> None:
        super().__init__()
        self.towers = build_towers(config)
        width = sum(CLASSES.values())
        self.heads = nn.ModuleDict(
            {n: nn.Sequential(nn.LayerNorm(config.tower_dim), nn.Linear(config.tower_dim, width)) for n in "abc"}
        )
        self.cls_head = nn.Linear(config.tower_dim, sum(CLASSES[channel] - 1 for channel in PRESENCE))


def dense_labels(samples: list[Sample]) -> dict[str, Tensor]:
    """{tower: [rows, 6, cells]}; each frame of a clip is a row; tower c takes the maximum over 2x2 cells."""
    cells = torch.as_tensor(
        np.concatenate([s.labels[None] if not s.is_clip else s.labels.swapaxes(0, 1) for s in samples])
    )
    side = cells.shape[-1] // 2
    coarse = cells.reshape(*cells.shape[:2], side, 2, side, 2).amax(dim=(3, 5))
    return {"a": cells.flatten(2), "b": cells.flatten(2), "c": coarse.flatten(2)}


def cell_loss(logits: Tensor, labels: Tensor, channels: tuple[int, ...]) -> tuple[Tensor, dict[int, float]]:
    """Labelled and empty cells weigh the same however few are labelled; also the accuracy on labelled cells."""
    loss, accuracy = logits.new_zeros(()), {}
    for channel, part in zip(CLASSES, logits.split(tuple(CLASSES.values()), dim=-1), strict=True):
        target = labels[:, channel]
        full = target > 0
        if channel not in channels or not full.any():
            continue
        each = F.cross_entropy(part.flatten(0, 1), target.flatten(), reduction="none").view_as(target)
        loss = loss + each[full].mean() + 0.5 * each[~full].mean()
        accuracy[channel] = float((part.argmax(-1) == target)[full].float().mean())
    return loss, accuracy


def presence(labels: Tensor) -> Tensor:
    """[rows, 6, cells] -> which shapes, colours and characters occur, [rows, classes]."""
    parts = [F.one_hot(labels[:, channel], CLASSES[channel]).amax(1)[:, 1:] for channel in PRESENCE]
    return torch.cat(parts, dim=1).float()


def step_loss(
    model: SeeingModel, samples: list[Sample], rng: np.random.Generator, drop: bool
) -> tuple[Tensor, dict[str, float]]:
    rows = normalise(torch.as_tensor(np.stack([s.image for s in samples]))).to(model.cls_head.weight.dtype)
    labels = dense_labels(samples)
    seen, cls = run_towers(model.towers, rows, random_points(rng) if drop else {})
    whole = F.binary_cross_entropy_with_logits(model.cls_head(cls).float(), presence(labels["a"]))
    loss, numbers = 4 * whole, {"cls": whole.item()}
    for name, tower in seen.items():
        kept = labels[name].gather(2, tower.cells[:, None].expand(-1, 6, -1))
        part, accuracy = cell_loss(model.heads[name](tower.features).float(), kept, TAUGHT[name])
        loss = loss + part
        if not drop:
            numbers |= {f"{name}.{NAMES[channel]}": value for channel, value in accuracy.items()}
    return loss, numbers


def train_encoders(folder: Path, minutes: float, seed: int, images: int, clips: int) -> None:
    torch.manual_seed(seed)
    progress = Progress("encoders", folder, minutes)
    model = SeeingModel(PocketConfig())
    use_lean_attention(model.towers["a"], model.towers["c"])
    weights = MasterWeights(model, LEARNING_RATE)
    saved = progress.resume()
    if saved:
        weights.restore(saved)
    rng = split_rng("train", seed * 1_000_003 + progress.step + 500_000)
    while progress.goes_on:
        kinds = rng.choice(list(IMAGE_KINDS), images, p=list(IMAGE_KINDS.values()))
        pictures = [make(str(kind), rng, "train") for kind in kinds]
        films = [make("clip", rng, "train") for _ in range(clips)]
        drop = bool(progress.fraction > 0.2 and rng.random() < 0.4)
        loss, numbers = step_loss(model, pictures, rng, drop)
        loss.backward()
        film_loss, film_numbers = step_loss(model, films, rng, drop)
        (0.3 * film_loss).backward()
        norm = weights.step(progress.factor)
        numbers |= {f"clip.{key}": film_numbers[key] for key in ("a.kind", "b.kind", "a.color") if key in film_numbers}
        progress.count(images + clips, loss=loss.item(), norm=norm, **numbers)
        progress.line()
        progress.save(weights.state())
