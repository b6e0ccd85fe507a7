"""What a pruner is trained on: pictures of the pocket world's training split, or a folder of image files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from meteor_bench.core.model import VLM, VisionTower
from meteor_bench.core.tokens import Grid
from scripts.pocket.world import KINDS, make, split_rng

Draw = Callable[[int, int], list[Sequence[Image.Image]]]  # (step, how many samples) -> their frames
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}
CLIPS_EVERY = 6  # steps; the frames of a clip are a quarter of an image


def pocket_pictures(seed: int, split: str = "train") -> Draw:
    """Images of all kinds, in every sixth step clips instead."""

    def draw(step: int, count: int) -> list[Sequence[Image.Image]]:
        rng = split_rng(split, seed * 1_000_003 + step)
        clips = step % CLIPS_EVERY == CLIPS_EVERY - 1
        kinds = ["clip"] * max(1, count // 4) if clips else rng.choice([k for k in KINDS if k != "clip"], count)
        samples = [make(str(kind), rng, split) for kind in kinds]
        return [[Image.fromarray(f) for f in (s.image if s.is_clip else s.image[None])] for s in samples]

    return draw


def folder_pictures(folder: Path, seed: int) -> Draw:
    """Image files below a folder, in random order."""
    files = sorted(f for f in folder.rglob("*") if f.suffix.lower() in SUFFIXES)
    if not files:
        raise SystemExit(f"{folder} holds no pictures ({', '.join(sorted(SUFFIXES))})")

    def draw(step: int, count: int) -> list[Sequence[Image.Image]]:
        chosen = np.random.default_rng([seed, step]).choice(len(files), count)
        return [[Image.open(files[i]).convert("RGB")] for i in chosen]

    return draw


@torch.no_grad()
def features(
    vlm: VLM, samples: Sequence[Sequence[Image.Image]], after: dict[str, int]
) -> dict[str, tuple[Tensor, Grid]]:
    """Tower -> [R, N, D] features after that many blocks, and their grid; a frame or tile is a row of its own."""
    rows = torch.cat([vlm.processor.pixels(media) for media in samples]).to(vlm.device, vlm.dtype)
    return {name: _features(vlm.towers[name], rows, block) for name, block in after.items()}


def _features(tower: VisionTower, rows: Tensor, blocks: int) -> tuple[Tensor, Grid]:
    tokens = tower.embed(rows)
    x = tokens.x
    for block in range(blocks):
        x = tower.feed(block, tower.attend(block, x, None, None))
    patches = x[tokens.visual].view(len(rows), tokens.grid.n, -1)
    return patches.float(), tokens.grid
