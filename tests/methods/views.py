"""Views made of clustered random tokens: ragged, padded with rubbish, with or without a class token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from meteor_bench.core.pruner import DecodeView, EncodeView, FuseView, Layout
from meteor_bench.core.tokens import Grid, Tokens

KINDS: dict[str, Any] = {"encode": EncodeView, "fuse": FuseView, "decode": DecodeView}


def clustered(rows: int, n: int, dim: int, seed: int) -> Tensor:
    """[rows, n, dim] points around a few centres."""
    g = torch.Generator().manual_seed(seed)
    centres = torch.randn(rows, max(2, n // 5), dim, generator=g)
    which = torch.randint(centres.shape[1], (rows, n), generator=g)
    return centres.gather(1, which[..., None].expand(-1, -1, dim)) + 0.3 * torch.randn(rows, n, dim, generator=g)


def ragged(counts: Sequence[int], grid: Grid, dim: int = 8, seed: int = 0, cls: bool = False) -> Tokens:
    """Rows that hold ``counts`` of the grid's tokens in raster order, padded on the right with rubbish."""
    g = torch.Generator().manual_seed(seed + 1000)
    lead, width = int(cls), max(counts) + int(cls)
    x = 5 * torch.randn(len(counts), width, dim, generator=g)
    dense = clustered(len(counts), grid.n, dim, seed)
    origin = torch.full((len(counts), width), -1)
    group = torch.full((len(counts), grid.n), -1)
    size = torch.zeros(len(counts), width)
    special = torch.zeros(len(counts), width, dtype=torch.bool)
    special[:, :lead] = True
    size[:, :lead] = 1
    for b, count in enumerate(counts):
        cells = torch.randperm(grid.n, generator=g)[:count].sort().values
        x[b, lead : lead + count] = dense[b, cells]
        origin[b, lead : lead + count] = cells
        group[b, cells] = cells
        size[b, lead : lead + count] = torch.randint(1, 4, (count,), generator=g).float()
    return Tokens(x, (origin >= 0) | special, origin, special, size, group, grid)


def view(
    tokens: Tokens, target: Sequence[int] | int, *, tower: str = "t", seed: int = 0, kind: str = "", **more: Any
) -> Any:
    """A view with one generator per row: of the kind that has the given fields, an encode view where several have.

    An encode view has attention over the sequence by default (rubbish on padding).
    """
    rows, n, _ = tokens.x.shape
    targets = [target] * rows if isinstance(target, int) else list(target)
    kind = kind or _kind(tower, more)
    if kind == "encode" and "attention" not in more:
        g = torch.Generator().manual_seed(seed + 7)
        more["attention"] = torch.rand(rows, n, generator=g)
    more.setdefault("layout", Layout("independent", {tower: tokens.grid}, {tower: 4}))
    return KINDS[kind](
        tokens=tokens,
        target=torch.tensor(targets),
        **{
            "reference": torch.full((rows,), tokens.grid.n),
            "keep": 1.0,
            "generators": tuple(torch.Generator().manual_seed(100 * seed + b) for b in range(rows)),
            **more,
        },
        tower=tower,
    )


def _kind(tower: str, more: dict[str, Any]) -> str:
    attention = more.get("attention")
    if tower == "llm" or {"text_valid", "text_keys", "rope"} & set(more) or getattr(attention, "ndim", 0) == 4:
        return "decode"
    if tower == "fused" or {"text", "partials", "groups", "scores"} & set(more):
        return "fuse"
    return "encode"


def visual_indices(tokens: Tokens, row: int) -> list[int]:
    """Where the row's visual tokens are."""
    return [int(i) for i in tokens.visual[row].nonzero()[:, 0]]
