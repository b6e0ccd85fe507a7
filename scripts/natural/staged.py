"""METEOR's first stage in training `natural-independent`, at random ratios, as its paper trains its models.

It changes what an encoder sees, so that the ViT is run once more with tokens dropped inside it when a
picture is encoded; the other encoders are convolutions, which are run whole and lose tokens of their output.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from meteor_bench.core.attention_probe import Probe
from meteor_bench.models.natural.towers import PatchesTower
from scripts.pocket.stages import keep_best, take, unlike_mean

__all__ = ["Kept", "informative", "staged"]

CELLS = 256  # of the ViT, in a picture as in a clip's four frames
LEAST = 0.5  # of the tokens that a point of stage 1 is given


class Kept(NamedTuple):
    """What is left of an encoder's tokens: features [rows, k, d] and their cells [rows, k], -1 where there is none."""

    features: Tensor
    cells: Tensor

    def of_samples(self, samples: int) -> Kept:
        """Frames, a row each -> clips of that many samples, a row each, their cells counted on."""
        frames = len(self.cells) // samples
        if frames == 1:
            return self
        each = self.cells + torch.arange(len(self.cells))[:, None] % frames * (CELLS // frames)
        return Kept(self.features.reshape(samples, -1, self.features.shape[2]), each.reshape(samples, -1))

    def padded(self, length: int) -> Kept:
        """As many columns as there are cells, in the half precision of the cache."""
        rest = length - self.cells.shape[1]
        return Kept(F.pad(self.features.half(), (0, 0, 0, rest)), F.pad(self.cells.short(), (0, rest), value=-1))


@torch.inference_mode()
def staged(tower: PatchesTower, rows: Tensor, rng: np.random.Generator) -> Kept:
    """The ViT on [rows, 3, H, W] with stage 1 after each third of its blocks.

    After the first two a token goes that is like the mean token, after the last one that the class token looks at least
    of all.
    """
    tokens = tower.embed(rows)
    x, specials = tokens.x, tower.specials
    cells = torch.arange(x.shape[1] - specials).expand(len(x), -1)
    keeps = rng.uniform(LEAST, 1, 3)
    for block in range(tower.depth):
        last = block == tower.depth - 1
        probe = Probe("rows", rows=torch.zeros(len(x), 1, dtype=torch.long)) if last else None
        x = tower.feed(block, tower.attend(block, x, None, probe))
        third, rest = divmod(3 * (block + 1), tower.depth)
        if rest:
            continue
        if probe is None:
            score = unlike_mean(None, x, x, specials)
        else:
            assert probe.attention is not None
            score = probe.attention[:, :, 0, specials:].mean(1)
        index = keep_best(score, keeps[third - 1])
        x, cells = torch.cat([x[:, :specials], take(x[:, specials:], index)], 1), cells.gather(1, index)
    norm = tower.model.layernorm
    return Kept(norm(x[:, specials:]), cells)


def informative(x: Tensor, frames: int, keep: float) -> Kept:
    """Stage 1 at the output of an encoder without attention: those of each frame that are least like its mean token.

    Args:
        x: [samples, n, d] of all frames.
    """
    rows = x.unflatten(1, (frames, -1)).flatten(0, 1)
    index = keep_best(unlike_mean(None, rows, rows, 0), keep)
    cells = index + torch.arange(len(rows))[:, None] % frames * rows.shape[1]
    cells = cells.reshape(len(x), -1)
    return Kept(take(x, cells), cells)
