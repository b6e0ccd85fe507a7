"""Clips made of scenes, and the plain loops that tests of video methods compare with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor


def clip(frames: int, side: int, dim: int, scenes: list[int], seed: int) -> Tensor:
    """[frames, side, dim] frames that are near those of their scene."""
    g = torch.Generator().manual_seed(seed)
    scene = torch.randn(max(scenes) + 1, side, dim, generator=g)
    return scene[scenes] + 0.4 * torch.randn(frames, side, dim, generator=g)


def cosine(a: Tensor, b: Tensor) -> float:
    """Of two vectors."""
    return float(torch.cosine_similarity(a, b, dim=0))


def peaks(x: Sequence[Tensor], k: int, near: int) -> list[int]:
    """The k strongest density peaks, strongest first; densities over the ``near`` nearest, or all."""
    n, near = len(x), min(near, len(x))
    gap = [[float((a - b).norm()) / math.sqrt(len(a)) for b in x] for a in x]
    density = [math.exp(-sum(d * d for d in sorted(row)[:near]) / near) for row in gap]
    far = max(max(row) for row in gap)
    score = []
    for i in range(n):
        denser = [gap[i][j] for j in range(n) if (density[j], -j) > (density[i], -i)]
        score.append(density[i] * min(denser, default=far))
    return sorted(range(n), key=lambda i: (-score[i], i))[:k]


def clusters(x: Sequence[Tensor], k: int, near: int) -> dict[int, list[int]]:
    """Peak -> its members, itself first; everyone joins the nearest, of two equally near ones the lower index."""
    members = {p: [p] for p in peaks(x, k, near)}
    for i in range(len(x)):
        if i not in members:
            members[min(members, key=lambda p: (float((x[p] - x[i]).norm()), p))].append(i)
    return members


def evenly(total: int, caps: list[int]) -> list[int]:
    """One each in turn, those with room."""
    given = [0] * len(caps)
    while sum(given) < min(total, sum(caps)):
        for i, cap in enumerate(caps):
            if given[i] < cap and sum(given) < total:
                given[i] += 1
    return given


def quotas(total: int, caps: list[int]) -> list[int]:
    """In proportion to the caps, by the largest remainder."""
    ideal = [Fraction(total * c, sum(caps)) for c in caps]
    given = [int(i) for i in ideal]
    for g in sorted(range(len(caps)), key=lambda g: (given[g] - ideal[g], g))[: total - sum(given)]:
        given[g] += 1
    return given
