"""The trained part of oc-vtp: slot attention over one encoder's features, and how its weights are read.

A folder holds `config.json` (what it was trained on, and for each encoder its width and the block whose output is
looked at) and `model.safetensors`. `scripts/train_oc_vtp.py` writes it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from meteor_bench.core.errors import ModelError
from meteor_bench.core.host import made_once
from meteor_bench.models.checkpoint import load_weights

__all__ = ["ITERATIONS", "SlotPruner", "SlotTower", "Slots", "feature_block", "load_slots", "read_towers"]

ITERATIONS = 3
PUBLISHED_BLOCK = (9, 24)  # the output of block 8, counted from 0, of CLIP-L


class SlotTower(NamedTuple):
    """An encoder that a pruner looks at.

    Attributes:
        name: of the tower.
        dim: width of its features.
        after: blocks run before they are read.
    """

    name: str
    dim: int
    after: int


class Slots(NamedTuple):
    """What slot attention leaves.

    Attributes:
        slots: [R, K, S].
        attention: [R, K, N] of the last iteration, softmax over the slots.
    """

    slots: Tensor
    attention: Tensor


class SlotPruner(nn.Module):
    """LayerNorm, an MLP to half the width (512 of 1024 as published), slot attention (Locatello et al. 2020).

    Args:
        dim: width D of the encoder's features; the slots' is S = D/2, the MLPs inside are 2·D and 4·S wide.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.slot_dim = s = dim // 2
        self.norm, self.widen, self.narrow = nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, s)
        self.mean, self.log_std = nn.Parameter(torch.empty(1, s)), nn.Parameter(torch.zeros(1, s))
        nn.init.xavier_uniform_(self.mean)
        self.norm_in, self.norm_slots, self.norm_mlp = nn.LayerNorm(s), nn.LayerNorm(s), nn.LayerNorm(s)
        self.query, self.key, self.value = (nn.Linear(s, s, bias=False) for _ in range(3))
        self.gru = nn.GRUCell(s, s)
        self.up, self.down = nn.Linear(s, 4 * s), nn.Linear(4 * s, s)

    def inputs(self, x: Tensor) -> Tensor:
        """[R, N, D] features -> [R, N, S]."""
        out: Tensor = self.norm_in(self.narrow(gelu(self.widen(self.norm(x)))))
        return out

    def start(self, noise: Tensor) -> Tensor:
        """[R, K, S] normal numbers -> the slots before the first iteration."""
        return self.mean + noise * self.log_std.exp()

    def iterate(self, slots: Tensor, inputs: Tensor, valid: Tensor, real: Tensor) -> Slots:
        """One iteration.

        Args:
            slots: [R, K, S].
            inputs: [R, N, S].
            valid: [R, N] bool, tokens that count.
            real: [R, K] bool, slots that count; at least one in each row.
        """
        logits = self.query(self.norm_slots(slots)) @ self.key(inputs).mT * self.slot_dim**-0.5  # [R, K, N]
        attention = logits.masked_fill(~real[..., None], -torch.inf).softmax(dim=1).masked_fill(~valid[:, None], 0.0)
        updates = attention / (attention.sum(-1, keepdim=True) + 1e-5) @ self.value(inputs)  # [R, K, S]
        slots = self.gru(updates.flatten(0, 1), slots.flatten(0, 1)).view_as(slots)
        return Slots(slots + self.down(gelu(self.up(self.norm_mlp(slots)))), attention)

    def forward(self, x: Tensor, valid: Tensor, noise: Tensor, real: Tensor) -> Slots:
        """All iterations, from [R, N, D] features and [R, K, S] noise; the masks as in `iterate`."""
        inputs, state = self.inputs(x), Slots(self.start(noise), noise)
        for _ in range(ITERATIONS):
            state = self.iterate(state.slots, inputs, valid, real)
        return state


def feature_block(depth: int) -> int:
    """How many blocks of an encoder of that depth run before its features are read; 0 for one without blocks."""
    share, whole = PUBLISHED_BLOCK
    return min(depth, max(1, (2 * depth * share + whole) // (2 * whole)))


def read_towers(folder: Path) -> tuple[SlotTower, ...]:
    """The encoders that a trained pruner was made for.

    Raises:
        ModelError: no pruner there.
    """
    try:
        towers = json.loads((folder / "config.json").read_text())["towers"]
        return tuple(SlotTower(name, int(about["dim"]), int(about["after"])) for name, about in towers.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{folder} holds no trained pruner: {error}") from error


@made_once(8)
def load_slots(folder: str, digest: str, towers: tuple[SlotTower, ...], device: str) -> dict[str, SlotPruner]:
    """The pruners of all encoders in float32, kept for the next view.

    Args:
        folder: where their weights are; empty for random ones, the same every time.
        digest: of the folder's files, so that changed files are read again.

    Raises:
        ModelError: weights that are broken or do not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pruners = {tower.name: SlotPruner(tower.dim) for tower in towers}
    modules = nn.ModuleDict(pruners)
    if folder:
        load_weights(modules, Path(folder))
    modules.eval().requires_grad_(False).to(device)
    return pruners
