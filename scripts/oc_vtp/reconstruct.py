"""Learning to take tokens that the others can be told from: features are reconstructed through the slots.

As in the authors' code (arXiv 2511.20439): a transformer decoder gets some of the tokens in sight, a mask token for the
others, learned positions, and the slots to look at; it must give back all features. Its depth and widths are ours.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from meteor_bench.core.tokens import Grid
from meteor_bench.methods.shared.slots import ITERATIONS, SlotPruner
from meteor_bench.models.positions import resize_table

LAYERS, HEADS = 2, 4  # theirs: 4 and 4
CAP = 10.0


class Reconstructor(nn.Module):
    """A pruner with the decoder that is thrown away after training, for one encoder.

    Args:
        dim: width D of the encoder's features.
        grid: its token grid on an image.
    """

    def __init__(self, dim: int, grid: Grid) -> None:
        super().__init__()
        self.grid = grid
        self.pruner = SlotPruner(dim)
        self.mask_token = nn.Parameter(torch.randn(1, 1, dim) * dim**-0.5)
        self.positions = nn.Parameter(nn.init.trunc_normal_(torch.empty(grid.n, dim)))
        self.token_in = nn.Sequential(nn.Linear(dim, dim, bias=False), nn.LayerNorm(dim))
        self.slot_in = nn.Sequential(nn.Linear(self.pruner.slot_dim, dim, bias=False), nn.LayerNorm(dim))
        layer = nn.TransformerDecoderLayer(
            dim, HEADS, 2 * dim, dropout=0.0, activation="gelu", batch_first=True, norm_first=True, bias=False
        )
        self.decoder = nn.TransformerDecoder(layer, LAYERS)

    def forward(self, x: Tensor, grid: Grid, slots: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """[R, N, D] features on a grid -> their reconstruction [R, N, D] and the slots' attention [R, K, N]."""
        rows, n, _ = x.shape
        noise = torch.randn(rows, slots, self.pruner.slot_dim, generator=generator).to(x.device)
        everything = torch.ones(rows, max(n, slots), dtype=torch.bool, device=x.device)
        state = self.attend(x, noise, everything[:, :n], everything[:, :slots])
        seen = visible(rows, n, generator).to(x.device)
        tokens = torch.where(seen[..., None], self.token_in(x), self.mask_token)
        query = tokens + resize_table(self.positions, self.grid, grid)
        return self.decoder(query, self.slot_in(state[0])), state[1]

    def attend(self, x: Tensor, noise: Tensor, valid: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """The pruner's iterations; gradients pass the last one, and past the others straight to the start."""
        pruner = self.pruner
        inputs, first = pruner.inputs(x), pruner.start(noise)
        slots = first
        for i in range(ITERATIONS):
            if i == ITERATIONS - 1:
                slots = slots.detach() + first - first.detach()
            slots, attention = pruner.iterate(slots, inputs, valid, real)
        return slots, attention


def visible(rows: int, n: int, generator: torch.Generator) -> Tensor:
    """[rows, n] bool, tokens in sight: any number of them, or in every second row or so about a tenth."""
    order = torch.rand(rows, n, generator=generator).argsort(1).argsort(1)
    some = torch.randint(0, n - 1, (rows, 1), generator=generator)
    few = torch.full_like(some, n // 10)
    return order < torch.where(torch.rand(rows, 1, generator=generator) < 0.5, some, few)


def area_weighted_error(found: Tensor, x: Tensor, attention: Tensor) -> Tensor:
    """The mean squared error, tokens of slots with a small area counting more.

    A slot that has ``area`` of the N tokens (each goes to the slot that attends to it most) weighs (area/N)^-1/2, 10 at
    most; a token weighs the mean of its slots' weights by attention. Deviation: the authors first divide by the mean
    over all slots, the empty ones included.

    Args:
        found, x: [R, N, D].
        attention: [R, K, N].
    """
    attention = attention.detach()
    owner = attention.argmax(1)  # [R, N]
    area = torch.zeros(attention.shape[:2], device=x.device).scatter_add_(1, owner, torch.ones_like(x[..., 0]))
    weight = (area / x.shape[1]).clamp(min=CAP**-2) ** -0.5  # [R, K]
    token = (attention * weight[..., None]).sum(1)
    error = (found - x).square().mean(-1)
    return ((token * error).sum(1) / token.sum(1)).mean()
