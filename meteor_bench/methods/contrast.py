"""contrast: keep what its surroundings do not say. A method of this project; training-free, needs no attention.

Before the language model, on projected tokens z: ``score_i = (1 - cos(z_i, mean z)) + local · (1 - mean over neighbours
j of cos(z_i, z_j))``; the T highest stay, with their positions. Neighbours are the cells left, right, above and below
in the grid and, in a clip, the same cell one frame before and after. A token of a uniform surface is said by those
beside it, one of an edge, a letter or a thing on that surface is not; the first term keeps things apart from what the
whole picture is made of. Linear in the number of tokens: no matrix between them is made.

docs/LOG.md (2026-11-30) has how it was chosen, on calibration questions alone, and what did not help.

Limits: chosen on a drawn world, whose things stand on textures; it is no evidence about photographs, in which a texture
may be what is asked about, nor for a question about what is everywhere. A cell with no neighbour left (after another
method) has the first term alone. On an independent fusion each encoder is pruned on its own, the budget split in
proportion to the token counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from meteor_bench.core.pruner import Fact, FuseView
from meteor_bench.core.settings import Range
from meteor_bench.core.tokens import Tokens
from meteor_bench.methods.shared.helpers import unit, view_similarity
from meteor_bench.methods.shared.scorers import FuseScorer

__all__ = ["Contrast", "likeness_to_neighbours"]


def likeness_to_neighbours(tokens: Tokens) -> Tensor:
    """[B, N] mean cosine of each visual token to those in the neighbouring cells of its grid; 1 where there is none."""
    cells, there = _on_grid(tokens)
    t, h, w = tokens.grid
    cells, there = cells.view(len(cells), t, h, w, -1), there.view(len(there), t, h, w)
    total, number = torch.zeros_like(there), torch.zeros_like(there)
    for axis, length in ((1, t), (2, h), (3, w)):
        if length < 2:
            continue
        first, second = cells.narrow(axis, 0, length - 1), cells.narrow(axis, 1, length - 1)
        both = there.narrow(axis, 0, length - 1) * there.narrow(axis, 1, length - 1)
        cosine = (first * second).sum(-1) * both
        for start in (0, 1):
            total.narrow(axis, start, length - 1).add_(cosine)
            number.narrow(axis, start, length - 1).add_(both)
    mean = torch.where(number > 0, total / number.clamp(min=1), 1.0).flatten(1)
    return mean if tokens.whole else mean.gather(1, tokens.origin.clamp(min=0))


def _on_grid(tokens: Tokens) -> tuple[Tensor, Tensor]:
    """[B, G, D] unit features of the cells that have a token, zero for others, and [B, G] 1.0 where there is one."""
    x = unit(tokens.x)
    if tokens.whole:
        return x, torch.ones(x.shape[:2], device=x.device)
    b, n, d = x.shape
    nowhere = tokens.grid.n  # a column that is cut off again
    place = torch.where(tokens.visual, tokens.origin, nowhere)
    cells = torch.zeros(b, nowhere + 1, d, device=x.device).scatter_(1, place[..., None].expand(b, n, d), x)
    there = torch.zeros(b, nowhere + 1, device=x.device).scatter_(1, place, 1.0)
    return cells[:, :nowhere], there[:, :nowhere]


@dataclass(frozen=True)
class Contrast(FuseScorer):
    """Attributes are explained at the top of the file.

    Attributes:
        local: weight of the difference to the neighbours.
    """

    local: Annotated[float, Range(least=0)] = 3.0

    fact: ClassVar[Fact] = Fact(year=2026, paper="this project")

    def score(self, view: FuseView) -> Tensor:
        """How little the mean and the neighbours say of a token."""
        return 1 - view_similarity(view) + self.local * (1 - likeness_to_neighbours(view.tokens))
