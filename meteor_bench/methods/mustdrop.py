"""MustDrop: Multi-stage vision token dropping (arXiv 2411.10803), section 3.

Encoder and language model, with a number of tokens that depends on the sample:

- After the encoder's first block, 3x3 windows of patches whose mean cosine is at least 0.8 become their mean.
- At the encoder's output the 8 % of tokens with the most class attention are key tokens, which always stay.
- Inside the language model, at the outputs of layers 2, 6, 10 and 14 (0-based) of 32, a token is dropped if what all
  text tokens after the image together pay it is below g times what they pay all visual tokens, and none of them pays
  it t.

Deviations:

- Published g and t (0.001 and 0.001 for 192 tokens of 576, up to 0.011 and 0.01 for 64) are tied to that model. Here
  they keep their proportion and one factor per point is calibrated, point after point, so that the mean count follows
  ``N·(T/N)^(i/P)`` and ends at T, the budget.
- Windows merge in order of their mean cosine (over pairs), and only while more than ``n·keep^(1/5)`` tokens of the
  encoder are left; at the grid's edge they are what is left of them (the official code needs sides divisible by 3).
- Tokens stay in raster order, a merged window where its first patch was. The authors put the merged windows first, in
  falling order of similarity, and all other patches behind them.
- Key tokens are at most 3/4 of the budget: 8 % of 576 is 47 of the smallest published target of 64. Where that leaves a
  sample no key token, the token that would be dropped last always stays: at least one survives.
- Where tokens have the same factor to the last bit, the calibrated one keeps all of them or none, whichever is nearer.
- The points are scaled to the model's depth, those that fall together become one.
- Several encoders: windows and key tokens in every sequence encoder; where there is no class token the attention
  received decides. On an independent fusion the limit on key tokens is shared in proportion to the token counts. On a
  shared fusion windows only save the encoders' work, and a grid position is a key if any encoder says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import floor
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import BudgetError, ConfigError, UnsupportedError
from meteor_bench.core.host import on_device
from meteor_bench.core.pruner import (
    Decision,
    DecodePoint,
    DecodeView,
    EncodePoint,
    EncodeView,
    Fact,
    Points,
    Pruner,
    Stage,
    keep_top,
)
from meteor_bench.core.rows import ordered
from meteor_bench.core.settings import Range, Share
from meteor_bench.core.tokens import Grid
from meteor_bench.methods.shared.helpers import unit

if TYPE_CHECKING:
    from meteor_bench.core.model import VLM

__all__ = ["MustDrop", "windows"]

STOPS = (Fraction(3, 32), Fraction(7, 32), Fraction(11, 32), Fraction(15, 32))
KEYS = "mustdrop.keys."
SCALE = "mustdrop.scale."


def windows(origin: Tensor, grid: Grid, side: int) -> tuple[Tensor, int]:
    """[B, N] window of each cell of a frame's grid, and how many windows there are."""
    across = -(-grid.w // side)
    row, column = origin // grid.w, origin % grid.w
    return row // side * across + column // side, across * -(-grid.h // side)


@dataclass(frozen=True)
class MustDrop(Pruner):
    """Attributes are explained at the top of the file.

    Attributes:
        window: side of a window.
        similar: mean cosine from which a window is merged.
        key_share: share of an encoder's tokens that always stay.
        total, single: g and t before they are scaled.
    """

    window: Annotated[int, Range(least=2)] = 3
    similar: float = 0.8
    key_share: Share = 0.08
    total: Annotated[float, Range(above=0)] = 0.001
    single: Annotated[float, Range(above=0)] = 0.001

    fact: ClassVar[Fact] = Fact(year=2024, paper="arXiv 2411.10803", stages=("encode", "decode"), needs=("attention",))
    stepwise: ClassVar[bool] = True

    @property
    def exact(self) -> bool:
        """How many tokens stay depends on the sample."""
        return False

    @property
    def calibration(self) -> tuple[Stage, ...]:
        """The factor at each point of the language model."""
        return ("decode",)

    def points(self, vlm: VLM, budget: TokenBudget) -> Points:
        """After the encoders' first block, at their output, and inside the language model."""
        depths = {name: tower.depth for name, tower in vlm.towers.items() if tower.depth > 1}
        if not depths:
            raise UnsupportedError(f"mustdrop merges inside sequence encoders; '{vlm.name}' has none")
        depth = vlm.decoder.depth
        layers = sorted({max(1, floor(share * depth + Fraction(1, 2))) for share in STOPS})
        if layers[-1] >= depth:
            raise UnsupportedError(f"mustdrop prunes inside the language model; '{vlm.name}' has {depth} layer")
        return Points(
            encode=(EncodePoint(after=dict.fromkeys(depths, 1)), EncodePoint(after=depths, attention="cls")),
            decode=tuple(DecodePoint(before=layer, attention="text") for layer in layers),
        )

    # ------------------------------------------------------------ encoders

    def encode(self, views: Mapping[str, EncodeView]) -> Mapping[str, Decision]:
        """Merge windows, then choose key tokens."""
        step = self._merge if next(iter(views.values())).point == 0 else self._mark
        return {name: step(view) for name, view in views.items()}

    def _merge(self, view: EncodeView) -> Decision:
        tokens = view.tokens
        visual, n = tokens.visual, tokens.x.shape[1]
        which, count = windows(tokens.origin.clamp(min=0), tokens.grid, self.window)
        which = torch.where(visual, which, count)  # column `count` takes what is no patch
        v = unit(tokens.x)
        shape = (len(v), count + 1)
        total = v.new_zeros(*shape, v.shape[-1]).scatter_add(1, which[..., None].expand_as(v), v)
        size = v.new_zeros(shape).scatter_add(1, which, torch.ones_like(which, dtype=v.dtype))
        pairs = (size * (size - 1)).clamp(min=1)
        mean = (total.square().sum(-1) - size) / pairs  # cosine over pairs, [B, W + 1]
        mean[:, -1] = -torch.inf
        mean = mean.masked_fill((size < 2) | (mean < self.similar), -torch.inf)
        # Most similar first, as long as enough is left.
        order = ordered(mean, True)
        lost = torch.where(mean.isfinite(), size - 1, 0.0).gather(1, order).cumsum(1)
        least = torch.ceil(tokens.counts().double() * view.keep ** (1 / 5) - 1e-9)
        least, present = on_device(least, lost.device), on_device(tokens.counts(), lost.device)
        fits = mean.gather(1, order).isfinite() & (present[:, None] - lost >= least[:, None])
        merged = torch.zeros_like(fits).scatter(1, order, fits).gather(1, which) & visual  # [B, N]
        own = torch.arange(n, device=which.device).expand_as(which)
        first = torch.full(shape, n, device=which.device).scatter_reduce(1, which, own, reduce="amin")
        into = torch.where(merged, first.gather(1, which), own)
        return Decision(keep=visual & (into == own), merge_into=into.masked_fill(~visual, -1))

    def _mark(self, view: EncodeView) -> Decision:
        visual, grids = view.tokens.visual, view.layout.grids
        n = grids[view.tower].n
        if view.layout.fusion == "independent":
            share = n / sum(grid.n for grid in grids.values())
        else:
            sequence = sum(depth > 1 for depth in view.layout.depths.values())
            share = n / max(grid.n for grid in grids.values()) / sequence
        limit = torch.floor(0.75 * share * view.target.double()).long()
        k = torch.minimum(torch.ceil(self.key_share * view.tokens.counts().double() - 1e-9).long(), limit)
        if view.attention is None:
            raise UnsupportedError(f"mustdrop ranks by attention, which tower '{view.tower}' has none of")
        keys = keep_top(view.attention, k, visual)
        cells = torch.zeros(len(keys), n + 1, dtype=torch.bool, device=keys.device)
        cells = cells.scatter(1, torch.where(visual, view.tokens.origin, n), keys)[:, :n]
        return Decision(keep=visual, memo={KEYS + view.tower: cells})

    # ------------------------------------------------------------ language model

    def decode(self, view: DecodeView) -> Decision:
        """Drop what no text token looks at."""
        critical = self._critical(view)
        scale = view.facts.get(f"{SCALE}{view.point}")
        if scale is None:
            raise ConfigError("mustdrop: the thresholds' factors are not measured; calibrate first")
        return Decision(keep=view.tokens.visual & (critical >= float(scale)), score=critical)

    def _critical(self, view: DecodeView) -> Tensor:
        """[B, N] float64, the factor on g and t from which a token is dropped; infinite for what always stays."""
        visual = view.tokens.visual
        a = view.attention.double().mean(1)  # [B, T, N]
        a = a.masked_fill(~(visual[:, None] & view.text_valid[..., None]), 0.0)
        paid = a.sum(1)
        share = paid / (self.total * paid.sum(1, keepdim=True)).clamp(min=1e-300)
        critical = torch.maximum(share, a.amax(1) / self.single)
        keys = self._keys(view)
        last = critical.masked_fill(~visual, -1.0).argmax(1, keepdim=True)
        stays = keys.scatter(1, last, keys.gather(1, last) | ~keys.any(1, keepdim=True))
        return critical.masked_fill(stays & visual, torch.inf)

    def _keys(self, view: DecodeView) -> Tensor:
        """[B, N] bool, key tokens, from what `encode` left per cell of each encoder's grid."""
        full = view.tokens.grid
        rows, device = len(view.tokens.x), view.tokens.x.device
        if view.layout.fusion == "independent":
            parts = [
                view.memo[KEYS + name].flatten(1)
                if KEYS + name in view.memo
                else torch.zeros(rows, grid.n, dtype=torch.bool, device=device)
                for name, grid in view.layout.grids.items()
            ]
            cells = torch.cat(parts, 1)
        else:
            cells = torch.zeros(rows, full.n, dtype=torch.bool, device=device)
            for name, grid in view.layout.grids.items():
                if KEYS + name in view.memo and name in view.layout.cells:
                    cells |= view.memo[KEYS + name].flatten(1)[:, view.layout.cells[name]]
                elif KEYS + name in view.memo:
                    planes = view.memo[KEYS + name].float().reshape(rows, -1, grid.h, grid.w)  # [B, t, h, w]
                    cells |= interpolate(planes, size=(full.h, full.w), mode="nearest").flatten(1) > 0
        return cells.gather(1, view.tokens.origin.clamp(min=0)) & view.tokens.visual

    # ------------------------------------------------------------ calibration

    def observe_decode(self, view: DecodeView) -> Mapping[str, Tensor]:
        """The critical factors of all tokens, and the count wanted."""
        n, power = view.tokens.grid.n, (view.point + 1) / len(view.layers)
        wanted = n * (view.target.double() / n).clamp(max=1) ** power
        critical = self._critical(view)
        keys = critical.isinf() & view.tokens.visual
        last = torch.full_like(view.target, int(view.point == len(view.layers) - 1))
        return {
            f"critical.{view.point}": critical[view.tokens.visual & ~keys],
            f"wanted.{view.point}": wanted,
            f"keys.{view.point}": keys.sum(1),
            f"last.{view.point}": last,
            f"counts.{view.point}": view.tokens.counts(),
        }

    def fit(self, stage: Stage, observed: Mapping[str, Tensor]) -> Mapping[str, Any]:
        """The factor at the one point observed: between the last token kept and the first one dropped."""
        point = next(name for name in observed if name.startswith("critical.")).split(".")[1]
        critical, wanted, keys, last, counts = (
            observed[f"{name}.{point}"] for name in ("critical", "wanted", "keys", "last", "counts")
        )
        room = round(float(wanted.sum())) - int(keys.sum())
        if room < 0:
            raise BudgetError(
                f"mustdrop keeps {float(keys.double().mean()):.1f} key tokens per sample, more than the budget of "
                f"{float(wanted.mean()):.1f}; take a smaller key_share or at least that many tokens"
            )
        ranked = critical.double().sort(descending=True).values
        scale = _between(ranked, room)
        facts: dict[str, Any] = {f"{SCALE}{point}": scale}
        if bool(last.all()):
            facts["mustdrop.calibrated"] = {
                "samples": len(wanted),
                "target": float(wanted.mean()),
                "mean": (int(keys.sum()) + int((ranked >= scale).sum())) / len(counts),
            }
        return facts


def _between(ranked: Tensor, count: int) -> float:
    """A number that ``count`` of the falling values [M] reach, halfway between two of them.

    Equal values cannot be told apart: the nearest count that can be had is taken, of two the smaller.
    """
    top = ranked.new_tensor([2 * float(ranked[0]) + 1e-300]) if len(ranked) else ranked
    edges = torch.cat([top, ranked])
    places = torch.arange(len(ranked), device=ranked.device)  # a cut before each value
    cuts = [*places[edges[:-1] > ranked].tolist(), len(ranked)]
    best = min(cuts, key=lambda cut: abs(cut - count))
    return 0.0 if best == len(ranked) else float(edges[best] + ranked[best]) / 2
