"""The arithmetic of METEOR's three stages: pure functions, see the package."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from meteor_bench.core.errors import UnsupportedError
from meteor_bench.core.host import on_device
from meteor_bench.core.pruner import EncodePoint, FuseView, keep_top
from meteor_bench.core.rows import foremost
from meteor_bench.methods.shared.helpers import noise, similarity_to_mean, unit

if TYPE_CHECKING:
    from meteor_bench.core.model import VLM

__all__ = [
    "Attended",
    "Windowed",
    "attended",
    "effective_rank",
    "fusion_scores",
    "keep_in_windows",
    "redundancy",
    "segment_ends",
    "stage1_total",
]

PAPER_STAGE1 = 1193 / 1024  # tokens after stage 1, as a share of N, at ...
PAPER_KEEP = 0.236  # ... 242 of 1024


def segment_ends(vlm: VLM, middle: str) -> tuple[EncodePoint, ...]:
    """Stage 1's points (D2): after each third of the sequence encoders' blocks; on a shared fusion the inner two (D7).

    Args:
        middle: the second one's criterion, shallow or deep.

    Raises:
        UnsupportedError: no encoder to prune inside.
    """
    shared = vlm.fusion.kind == "shared"
    depths = {name: tower.depth for name, tower in vlm.towers.items() if tower.depth > 1 or not shared}
    if not depths:
        raise UnsupportedError(f"meteor's encode stage prunes inside sequence encoders; '{vlm.name}' has none")
    ends = [{name: (depth * s + 1) // 3 for name, depth in depths.items()} for s in (1, 2)]  # round(depth·s/3)
    points = [EncodePoint(after=ends[0]), EncodePoint(after=ends[1], attention="cls" if middle == "deep" else None)]
    if not shared:
        points.append(EncodePoint(after=depths, attention="cls"))
    return tuple(points)


def redundancy(z: Mapping[str, Tensor], valid: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
    """Cross-encoder redundancy of stage 2: ``R[i,j] = sum over l != j, m of cos(z[i,j], z[m,l])``.

    Computed as the dot product of each unit token with the sum of all other encoders' unit tokens: O(N·D), no
    N×N matrix. The lowest values are kept.

    Args:
        z: encoder -> [B, N_l, D] projected tokens, one width for all.
        valid: encoder -> [B, N_l] bool, tokens that count; None: all.

    Returns:
        Encoder -> [B, N_l] float32; 0 where not valid.
    """
    hat = {}
    for name, x in z.items():
        mask = valid[name]
        hat[name] = unit(x if mask is None else x.masked_fill(~mask[..., None], 0.0))
    sums = {name: h.sum(1) for name, h in hat.items()}  # [B, D]
    total = torch.stack(list(sums.values())).sum(0)
    return {name: torch.einsum("bnd,bd->bn", h, total - sums[name]) for name, h in hat.items()}


def effective_rank(x: Tensor, valid: Tensor, kind: str = "energy", energy: float = 0.99) -> Tensor:
    """Rank of each row's feature map (D3).

    Args:
        x: [B, N, D].
        valid: [B, N] bool, tokens that count.
        kind: "energy": the smallest rank whose squared singular values hold a share ``energy`` of their sum;
            "entropy": exp of the entropy of the singular values over their sum.

    Returns:
        [B] float32.
    """
    x = x.double().masked_fill(~valid[..., None], 0.0)
    # Singular values through the smaller Gram matrix: several times faster than an SVD, and exact enough in float64.
    gram = x @ x.mT if x.shape[1] < x.shape[2] else x.mT @ x
    s = torch.linalg.eigvalsh(gram).flip(1).clamp(min=0).sqrt()  # [B, min(N, D)], descending
    if kind == "entropy":
        p = s / s.sum(1, keepdim=True).clamp(min=1e-12)
        return torch.exp(-torch.xlogy(p, p).sum(1)).float()
    square = s.square()
    held = square.cumsum(1) / square.sum(1, keepdim=True).clamp(min=1e-300)
    rank: Tensor = (held < energy).sum(1) + 1
    return rank.clamp(max=s.shape[1]).float()


def stage1_total(entering: int, reference: Tensor, keep: float, end: Tensor) -> Tensor:
    """[B] float64 tokens left after stage 1: ``entering·keep^p`` (D1).

    Args:
        entering: M, tokens of all towers before pruning.
        reference: [B] N of the row.
        keep: the budget's share.
        end: [B] what the next stage keeps; never less than this.
    """
    milestone = PAPER_STAGE1 * reference.double()
    power = (torch.log(entering / milestone) / -math.log(PAPER_KEEP)).clamp(min=0.2)
    return torch.maximum(entering * torch.pow(keep, power), end.double())


class Windowed(NamedTuple):
    """A choice in windows.

    Attributes:
        keep: [B, N] bool.
        left: [B, W] long on the CPU, tokens that stay in each window.
    """

    keep: Tensor
    left: Tensor


def keep_in_windows(score: Tensor, k: Tensor, window: Tensor, allowed: Tensor | None, counts: Tensor) -> Windowed:
    """The highest scores of each window, equally many in all so that windows stay dense (D8).

    Ties go to the lower index. As many as keep at most ``k`` of the row, one at least; a window with fewer tokens keeps
    them all.

    Args:
        score: [B, N].
        k: [B] long, on the CPU.
        window: [B, N] long, index of the window that a token is in.
        allowed: [B, N] bool, tokens that may be chosen; None: all.
        counts: [B, W] long on the CPU, of those how many are in each window.
    """
    windows = counts.shape[1]
    each = torch.arange(1, int(counts.max()) + 1)
    kept = torch.minimum(counts[..., None], each).sum(1)  # [B, Q] tokens that stay if each window keeps Q
    quota = (kept <= k[:, None]).sum(1, keepdim=True).clamp(min=1)
    left = torch.minimum(counts, quota)
    window = window if allowed is None else torch.where(allowed, window, windows)
    each_keeps = on_device(torch.cat([left, torch.zeros_like(quota)], 1), score.device)
    return Windowed(foremost(score.float(), window, each_keeps), left)


def fusion_scores(views: Mapping[str, FuseView], valid: Mapping[str, Tensor | None], fusion: str) -> dict[str, Tensor]:
    """What stage 2 ranks tokens by: view -> [B, N], higher is kept.

    Args:
        views: of a fuse point; on a shared fusion the one view carries the encoders' partial projections.
        valid: view -> [B, N] bool, tokens that count; None: all.
        fusion: cooperative, independent or random.
    """
    if fusion == "random":
        return {name: noise(v) for name, v in views.items()}
    if fusion == "cooperative" and not any(v.partials for v in views.values()):
        found = redundancy({name: v.tokens.x for name, v in views.items()}, valid)
        return {name: -r for name, r in found.items()}
    scores = {}
    for name, v in views.items():
        parts = {name: v.tokens.x} if not v.partials else v.partials
        mask = dict.fromkeys(parts, valid[name])
        if fusion == "independent":
            each = {tower: similarity_to_mean(z, mask[tower]) for tower, z in parts.items()}
        else:
            each = redundancy(parts, mask)
        scores[name] = -torch.stack(list(each.values())).sum(0)
    return scores


class Attended(NamedTuple):
    """What the text looks at.

    Attributes:
        score: [B, N] attention summed over the chosen heads.
        mass: [B] its sum over the tokens.
    """

    score: Tensor
    mass: Tensor


def attended(attention: Tensor, visual: Tensor | None, head_share: float) -> Attended:
    """Stage 3: text→visual attention over the heads that give the visual tokens most of it.

    Args:
        attention: [B, H, R, N] softmax rows of the text; padding rows are zero, the others are averaged.
        visual: [B, N] bool, tokens that count; None: all.
        head_share: share of the heads that are chosen, rounded up; 1 for all.
    """
    attention = attention.float()
    if visual is not None:
        attention = attention.masked_fill(~visual[:, None, None], 0.0)
    rows = (attention.sum((1, 3)) > 0).sum(1).clamp(min=1)  # [B], padding rows are zero
    a = attention.sum(2) / rows[:, None, None]  # [B, H, N]
    value = a.sum(-1)  # VAV, [B, H]
    count = torch.full((len(value),), math.ceil(head_share * value.shape[1]))
    chosen = keep_top(value, count, None)
    score = (a * chosen[..., None]).sum(1)
    return Attended(score, score.sum(1))
