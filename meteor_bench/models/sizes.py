"""What a model costs unpruned, worked out on tensors without storage: parameters, grids, FLOPs.

`list models` shows the figures of cards.json beside this file; ``scripts/model_cards.py`` writes it and a test compares
it with what the models say.
"""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image
from torch import nn

from meteor_bench.core.model import ModelCard, VisionTower
from meteor_bench.core.tokens import Grid
from meteor_bench.core.tower_flops import tower_flops

__all__ = ["measure"]

PICTURE = (1024, 1024)  # pixels of the picture that is counted


def measure(card: ModelCard) -> dict[str, Any]:
    """Figures of a model for one square picture and no text.

    Returns:
        parameters; tokens that the language model gets; encoders {name: rows (tiles), grid of a row, width, parameters,
        flops}; fuse and prefill in FLOPs.
    """
    assert card.random is not None
    vlm = card.random("meta", torch.bfloat16)
    for tower in vlm.towers.values():
        _with_tables(tower)
    look = vlm.processor.look([Image.new("RGB", PICTURE)])
    rows, _, height, width = look.pixels.shape
    here = vlm.at(look.scene)
    grids = {name: Grid(rows, *tower.grid(height, width)[1:]) for name, tower in vlm.towers.items()}
    encoders = {
        name: {
            "rows": rows,
            "grid": list(grids[name][1:]),
            "width": tower.dim,
            "parameters": _parameters(tower),
            "flops": rows * tower_flops(tower, height, width),
        }
        for name, tower in vlm.towers.items()
    }
    shared = here.fusion.kind == "shared"
    counts = {"fused": here.fusion.common(grids).n} if shared else {name: grid.n for name, grid in grids.items()}
    tokens = sum(counts.values())
    return {
        "parameters": sum(map(_parameters, vlm.modules().values())),
        "tokens": tokens,
        "encoders": encoders,
        "fuse": (here.fusion.flops_align(grids) if shared else 0) + here.fusion.flops(counts),
        "prefill": sum(here.decoder.flops_at(index, tokens, tokens) for index in range(here.decoder.depth)),
    }


def _with_tables(tower: VisionTower) -> None:
    """Storage for tables of rotations: an encoder may touch them to say where tokens stand; no count needs values."""
    for owner in tower.modules():
        for name, table in list(owner.named_buffers(recurse=False)):
            setattr(owner, name, torch.zeros(table.shape, dtype=table.dtype))


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
