"""`methods.evoprune.edges` as Triton kernels. Tested by Triton's interpreter on a CPU; it has not run on a card."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from meteor_bench.core.rows_triton import on

__all__ = ["edges", "isolation"]

SCAN = 512  # tokens looked at at a time


@triton.jit
def _nearest(likeness, out, m, neighbours, SCAN: tl.constexpr, SEATS: tl.constexpr):
    """The distances of a token to its nearest ones, in no order; SEATS is a power of two, and at least as many."""
    own = tl.program_id(0)
    row = tl.program_id(1).to(tl.int64)
    seat = tl.arange(0, SEATS)
    best = tl.where(seat < neighbours, -float("inf"), float("inf"))
    for start in range(0, m, SCAN):
        at = start + tl.arange(0, SCAN)
        there = (at < m) & (at != own)
        value = tl.load(likeness + (row * m + own) * m + at, mask=there, other=-float("inf"))
        for _ in range(0, neighbours):
            most = tl.max(value, 0)
            worst = tl.argmin(best, 0)
            best = tl.where(seat == worst, tl.maximum(most, tl.min(best, 0)), best)
            value = tl.where(at - start == tl.argmax(value, 0), -float("inf"), value)
    distance = tl.sqrt(tl.maximum(2.0 - 2.0 * best, 0.0))
    tl.store(out + (row * m + own) * neighbours + seat, distance, mask=seat < neighbours)


@triton.jit
def _apart(distance, middle, out, m, neighbours, fixed, FIXED: tl.constexpr, SCAN: tl.constexpr):
    """d_i of a tile of tokens, from the distances and their median."""
    own = tl.program_id(0) * SCAN + tl.arange(0, SCAN)
    row = tl.program_id(1).to(tl.int64)
    square = fixed
    if FIXED == 0:
        median = tl.load(middle + row)
        square = tl.maximum(median * median, 1e-12)
    total = tl.zeros((SCAN,), tl.float32)
    for i in range(0, neighbours):
        value = tl.load(distance + (row * m + own) * neighbours + i, mask=own < m, other=0.0)
        total += tl.exp(-value * value / square)
    tl.store(out + row * m + own, 1.0 - total / neighbours, mask=own < m)


@triton.jit
def _edges(
    likeness, apart, protected, best, partner, m, strength,
    APART: tl.constexpr, PROTECTED: tl.constexpr, SCAN: tl.constexpr,
):  # fmt: skip
    """The best edge of a token at an even place; of equal ones the first."""
    pair = tl.program_id(0)
    row = tl.program_id(1).to(tl.int64)
    odds, evens = m // 2, (m + 1) // 2
    most, goal = -float("inf"), 0
    for start in range(0, odds, SCAN):
        at = start + tl.arange(0, SCAN)
        score = tl.maximum(tl.load(likeness + (row * m + 2 * pair) * m + 2 * at + 1, mask=at < odds, other=0.0), 0.0)
        if APART:
            mine = tl.load(apart + row * m + 2 * pair)
            theirs = tl.load(apart + row * m + 2 * at + 1, mask=at < odds, other=0.0)
            score *= tl.exp(-strength * (mine + theirs))
        if PROTECTED:
            mine_too = tl.load(protected + row * m + 2 * pair)
            theirs_too = tl.load(protected + row * m + 2 * at + 1, mask=at < odds, other=0)
            score = tl.where((mine_too != 0) | (theirs_too != 0), score - 2.0, score)
        score = tl.where(at < odds, score, -float("inf"))
        higher = tl.max(score, 0)
        first = start + tl.argmax(score, 0)
        goal = tl.where(higher > most, first, goal)
        most = tl.maximum(most, higher)
    tl.store(best + row * evens + pair, most)
    tl.store(partner + row * evens + pair, goal)


def isolation(likeness: Tensor, neighbours: int, temperature: float) -> Tensor:
    """What `methods.evoprune.edges.isolation` says, on tensors of one CUDA device."""
    likeness = likeness.contiguous()
    rows, m, _ = likeness.shape
    distance = torch.empty(rows, m, neighbours, device=likeness.device)
    out = torch.empty(rows, m, device=likeness.device)
    with on(likeness):
        _nearest[m, rows](likeness, distance, m, neighbours, SCAN=SCAN, SEATS=triton.next_power_of_2(neighbours))
        middle = distance if temperature > 0 else distance.flatten(1).median(1).values
        _apart[triton.cdiv(m, SCAN), rows](
            distance, middle, out, m, neighbours, float(temperature) ** 2, FIXED=int(temperature > 0), SCAN=SCAN
        )
    return out


def edges(likeness: Tensor, apart: Tensor | None, protected: Tensor | None, strength: float) -> tuple[Tensor, Tensor]:
    """What `methods.evoprune.edges.edges` says, on tensors of one CUDA device."""
    likeness = likeness.contiguous()
    rows, m, _ = likeness.shape
    best = torch.empty(rows, (m + 1) // 2, device=likeness.device)
    partner = torch.empty(rows, (m + 1) // 2, dtype=torch.long, device=likeness.device)
    given = likeness if apart is None else apart.contiguous()
    spared = likeness if protected is None else protected.contiguous().view(torch.uint8)
    with on(likeness):
        _edges[(m + 1) // 2, rows](
            likeness, given, spared, best, partner, m, strength,
            APART=apart is not None, PROTECTED=protected is not None, SCAN=SCAN,
        )  # fmt: skip
    return best, partner
