"""What an edge between two tokens scores, within a frame and across two: the formula in the package's docstring."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from meteor_bench.core.fused import Fused
from meteor_bench.core.gather import take_rows
from meteor_bench.core.host import on_device
from meteor_bench.core.pruner import keep_top
from meteor_bench.core.rows import ordered
from meteor_bench.core.tokens import Grid
from meteor_bench.methods.shared.helpers import unit

__all__ = ["Best", "Score", "Weighed", "edges", "isolation", "spread"]


class Weighed(NamedTuple):
    """Rows [R] as their visual tokens [M], and what they say of each other.

    Attributes:
        score: [R, A, B] of the edges from even places to odd ones; below 0 where protection forbids it.
        order: [R, M] where the tokens stand.
        v: [R, M, D] unit vectors.
        apart: [R, M] d_i; None without diversity.
        free: [R, M] bool, not protected; present: [R, M] bool; None for all.
    """

    score: Tensor
    order: Tensor
    v: Tensor
    apart: Tensor | None
    free: Tensor | None
    present: Tensor | None


class Best(NamedTuple):
    """Of each of all clips' tokens [T] the best edge's score, -inf where it has none, and where it leads."""

    best: Tensor
    goal: Tensor


def spread(score: Tensor, source: Tensor, goal: Tensor, nowhere: int) -> Best:
    """The best edge of each source, by where it stands.

    Args:
        score: [R, A, B]; source: [R, A]; goal: [R, B] among all clips' tokens, or ``nowhere``.
    """
    best = score.new_full((nowhere + 1,), -torch.inf)
    into = torch.zeros(nowhere + 1, dtype=torch.long, device=score.device)
    if score.shape[2] > 0:
        most, partner = score.max(2)
        best.scatter_(0, source.flatten(), most.flatten())
        into.scatter_(0, source.flatten(), goal.gather(1, partner).flatten())
    return Best(best[:-1], into[:-1])


def _scores(likeness: Tensor, apart: Tensor | None, free: Tensor | None, strength: float) -> Tensor:
    """[R, A, B] of edges from even places to odd ones, in [0, 1]; where protection forbids one, 2 less."""
    score = likeness[:, 0::2, 1::2].clamp(min=0)
    if apart is not None:
        score = score * torch.exp(-strength * (apart[:, 0::2, None] + apart[:, None, 1::2]))
    # Illegal edges come after all legal ones.
    return score if free is None else torch.where(free[:, 0::2, None] & free[:, None, 1::2], score, score - 2)


def _edges(likeness: Tensor, apart: Tensor | None, protected: Tensor | None, strength: float) -> tuple[Tensor, Tensor]:
    free = None if protected is None else ~protected
    best, partner = _scores(likeness, apart, free, strength).max(2)
    return best, partner


def _isolation(likeness: Tensor, neighbours: int, temperature: float) -> Tensor:
    square = torch.rsub(likeness, 2, alpha=2).clamp_(min=0)  # squared distances
    square.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    near = square.topk(neighbours, dim=2, largest=False).values  # [R, M, K]
    if temperature > 0:
        return 1 - torch.exp(-near / temperature**2).sum(2) / neighbours
    tau2 = near.sqrt().flatten(1).median(1).values.square().clamp(min=1e-12)
    return 1 - torch.exp(-near / tau2[:, None, None]).sum(2) / neighbours


def _likeness() -> Tensor:
    v = unit(torch.randn(2, 40, 8, generator=torch.Generator().manual_seed(0)))
    return v @ v.transpose(1, 2)


def _edges_trial() -> tuple[Tensor, Tensor, Tensor, float]:
    likeness = _likeness()
    return likeness, likeness.mean(2).abs(), likeness.mean(2) > 0.05, 1.0


def _isolation_trial() -> tuple[Tensor, int, float]:
    return _likeness(), 5, 0.0


KERNELS = "meteor_bench.methods.evoprune.edges_triton"
edges = Fused(
    _edges,
    "(Tensor likeness, Tensor? apart, Tensor? protected, float strength) -> (Tensor, Tensor)",
    KERNELS,
    _edges_trial,
)
"""[R, A] what the best edge of each token at an even place scores, and where it leads among the odd places, long.

Args:
    likeness: [R, M, M] cosines, M at least 2;
    apart: [R, M] d_i, or None; protected: [R, M] bool, or None.
"""

isolation = Fused(
    _isolation, "(Tensor likeness, SymInt neighbours, float temperature) -> Tensor", KERNELS, _isolation_trial
)
"""[R, M] d_i, from the cosines [R, M, M] of M tokens.

Args:
    neighbours: K, fewer than M; temperature: tau, 0 for the median distance.
"""


class Score(NamedTuple):
    """How edges are scored: settings of `EvoPrune`, which explains them."""

    diversity: bool
    protect: float
    neighbours: int
    strength: float
    temperature: float
    reach: int

    def quota(self, count: Tensor, r: Tensor) -> Tensor:
        """[R] N_protect."""
        return torch.minimum((self.protect * count.double()).long(), count - 2 * r).clamp(min=0)

    def weigh(
        self, x: Tensor, own: Tensor, visual: Tensor, count: Tensor, r: Tensor, attention: Tensor | None
    ) -> Weighed:
        """What each edge within a row scores; arguments as for `EvoPrune.pair`, ``own`` the places [R, N]."""
        most = int(count.max())
        alike = bool((count == most).all())  # no row has fewer tokens than another
        # Visual tokens first, in order; their places 0, 2, 4, … are a, places 1, 3, 5, … are b.
        order = own
        if not alike or most < x.shape[1]:
            order = ordered(visual, True)[:, :most]
        v = unit(x if order is own else take_rows(x, order))  # [R, M, D]
        likeness = v @ v.transpose(1, 2)
        present = None if alike else torch.arange(most, device=x.device) < on_device(count, x.device)[:, None]
        free = present  # not protected
        if attention is not None:
            quota = self.quota(count, r)
            attention = attention if order is own else attention.gather(1, order)
            free = ~keep_top(attention, quota, present)
            free = free if present is None else free & present
        apart = self._isolation(likeness, present) if self.diversity else None
        score = _scores(likeness, apart, free, self.strength)
        if present is not None:
            score.masked_fill_(~(present[:, 0::2, None] & present[:, None, 1::2]), -torch.inf)
        return Weighed(score, order, v, apart, free, present)

    def best(self, x: Tensor, count: Tensor, r: Tensor, attention: Tensor | None) -> tuple[Tensor, Tensor]:
        """[R, A] what each even token's best edge scores, and among the odd ones where it leads.

        Args:
            x: [R, N, D] of rows that are nothing but visual tokens; the others as for `EvoPrune.pair`.
        """
        v = unit(x)
        likeness = v @ v.transpose(1, 2)
        protected = None if attention is None else keep_top(attention, self.quota(count, r), None)
        apart = self._isolation(likeness, None) if self.diversity else None
        return edges(likeness, apart, protected, self.strength)

    def across(self, found: Weighed, origin: Tensor, before: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        """[R', M, M] what edges from a row's tokens to those of the row ``before`` [R'] score, and that row or 0."""
        paired = before >= 0
        before = before.clamp(min=0)
        v = found.v
        score = (v @ v[before].transpose(1, 2)).clamp(min=0)
        if found.apart is not None:
            score = score * torch.exp(-self.strength * (found.apart[:, :, None] + found.apart[before][:, None]))
        if found.free is not None:
            score = torch.where(found.free[:, :, None] & found.free[before][:, None], score, score - 2)
        there = origin[before]
        down = (origin // grid.w)[:, :, None] - (there // grid.w)[:, None]
        right = (origin % grid.w)[:, :, None] - (there % grid.w)[:, None]
        near = (down.abs() <= self.reach) & (right.abs() <= self.reach) & paired[:, None, None]
        if found.present is not None:
            near = near & found.present[:, :, None] & found.present[before][:, None]
        return score.masked_fill(~near, -torch.inf), before

    def _isolation(self, likeness: Tensor, present: Tensor | None) -> Tensor:
        """[R, M] d_i of M unit vectors with the cosines [R, M, M], of which each row's first are present (all)."""
        n = likeness.shape[1]
        if present is None and self.neighbours < n:  # every one of them is real
            return isolation(likeness, self.neighbours, float(self.temperature))
        square = torch.rsub(likeness, 2, alpha=2).clamp_(min=0)  # squared distances
        square.diagonal(dim1=1, dim2=2).fill_(torch.inf)
        if present is not None:
            square.masked_fill_(~present[:, None], torch.inf)
        k = min(self.neighbours, n)
        near = square.topk(k, dim=2, largest=False).values  # [R, M, K]
        real = near.isfinite() if present is None else near.isfinite() & present[..., None]
        if self.temperature > 0:
            tau2 = near.new_full((len(near),), self.temperature**2)
        else:
            distance = near.sqrt().masked_fill(~real, torch.nan)
            tau2 = distance.flatten(1).nanmedian(1).values.nan_to_num(1.0).square().clamp(min=1e-12)
        close = torch.exp(-near / tau2[:, None, None]).masked_fill(~real, 0.0)
        return 1 - close.sum(2) / real.sum(2).clamp(min=1)
