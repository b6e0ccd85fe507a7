"""`core.rows` as Triton kernels. Sums are made in a fixed order: no atomics. All is done in float32.

The arithmetic is tested by Triton's interpreter on a CPU; it has not run on a card.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from meteor_bench.core import rows

__all__ = ["best", "foremost", "on", "ordered", "ranks", "to_mean", "unit"]

WIDE, SCAN, TILE = 256, 512, 32  # features, tokens looked at, and tokens ranked at a time


@triton.jit
def _unit(x, out, d, WIDE: tl.constexpr):
    """A row to length 1."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, WIDE)
    square = tl.zeros((WIDE,), tl.float32)
    for start in range(0, d, WIDE):
        value = tl.load(x + row * d + start + at, mask=start + at < d, other=0.0).to(tl.float32)
        square += value * value
    length = tl.maximum(tl.sqrt(tl.sum(square, 0)), 1e-12)
    for start in range(0, d, WIDE):
        value = tl.load(x + row * d + start + at, mask=start + at < d, other=0.0).to(tl.float32)
        tl.store(out + row * d + start + at, value / length, mask=start + at < d)


@triton.jit
def _cosine(x, total, out, n, d, WIDE: tl.constexpr):
    """A token's cosine to its row's sum, which is that to the mean."""
    token = tl.program_id(0)
    row = tl.program_id(1).to(tl.int64)
    at = tl.arange(0, WIDE)
    product, square, other = tl.zeros((WIDE,), tl.float32), tl.zeros((WIDE,), tl.float32), tl.zeros((WIDE,), tl.float32)
    for start in range(0, d, WIDE):
        value = tl.load(x + (row * n + token) * d + start + at, mask=start + at < d, other=0.0).to(tl.float32)
        mean = tl.load(total + row * d + start + at, mask=start + at < d, other=0.0) / n
        product += value * mean
        square += value * value
        other += mean * mean
    length = tl.maximum(tl.sqrt(tl.sum(square, 0)), 1e-12) * tl.maximum(tl.sqrt(tl.sum(other, 0)), 1e-12)
    tl.store(out + row * n + token, tl.sum(product, 0) / length)


@triton.jit
def _ahead(other, value, at, own, n, FALLING: tl.constexpr):
    """[TILE, SCAN], which keys stand before each of a tile's; not-a-number is the highest, as where torch sorts."""
    strange, odd = (other != other)[None], (value != value)[:, None]
    if FALLING:
        first = (other[None] > value[:, None]) | (strange & (odd == 0))
    else:
        first = (other[None] < value[:, None]) | (odd & (strange == 0))
    level = (other[None] == value[:, None]) | (strange & odd)
    return (first | (level & (at[None] < own[:, None]))) & (at[None] < n)


@triton.jit
def _foremost(score, window, left, out, n, windows, TILE: tl.constexpr, SCAN: tl.constexpr):
    """Whether few enough of a token's window stand before it."""
    own = tl.program_id(0) * TILE + tl.arange(0, TILE)
    row = tl.program_id(1).to(tl.int64)
    value = tl.load(score + row * n + own, mask=own < n, other=0.0)
    inside = tl.load(window + row * n + own, mask=own < n, other=0)
    before = tl.zeros((TILE,), tl.int32)
    for start in range(0, n, SCAN):
        at = start + tl.arange(0, SCAN)
        other = tl.load(score + row * n + at, mask=at < n, other=-float("inf"))
        beside = tl.load(window + row * n + at, mask=at < n, other=-1)
        ahead = _ahead(other, value, at, own, n, FALLING=True) & (beside[None] == inside[:, None])
        before += tl.sum(ahead.to(tl.int32), 1)
    most = tl.load(left + row * windows + inside, mask=own < n, other=0)
    tl.store(out + row * n + own, before < most, mask=own < n)


@triton.jit
def _ranks(score, out, n, TILE: tl.constexpr, SCAN: tl.constexpr):
    """How many scores stand before each of a tile's."""
    own = tl.program_id(0) * TILE + tl.arange(0, TILE)
    row = tl.program_id(1).to(tl.int64)
    value = tl.load(score + row * n + own, mask=own < n, other=0.0)
    before = tl.zeros((TILE,), tl.int32)
    for start in range(0, n, SCAN):
        at = start + tl.arange(0, SCAN)
        other = tl.load(score + row * n + at, mask=at < n, other=-float("inf"))
        before += tl.sum(_ahead(other, value, at, own, n, FALLING=True).to(tl.int32), 1)
    tl.store(out + row * n + own, before.to(tl.int64), mask=own < n)


@triton.jit
def _ordered(key, out, n, FALLING: tl.constexpr, TILE: tl.constexpr, SCAN: tl.constexpr):
    """Each of a tile's keys finds out how many stand before it, and writes its index there."""
    own = tl.program_id(0) * TILE + tl.arange(0, TILE)
    row = tl.program_id(1).to(tl.int64)
    value = tl.load(key + row * n + own, mask=own < n, other=0)
    before = tl.zeros((TILE,), tl.int32)
    for start in range(0, n, SCAN):
        at = start + tl.arange(0, SCAN)
        other = tl.load(key + row * n + at, mask=at < n, other=0)
        before += tl.sum(_ahead(other, value, at, own, n, FALLING=FALLING).to(tl.int32), 1)
    tl.store(out + row * n + before, own.to(tl.int64), mask=own < n)


@triton.jit
def _best(
    score, allowed, each, out, n, most, ALLOWED: tl.constexpr, EACH: tl.constexpr, TILE: tl.constexpr,
    SCAN: tl.constexpr,
):  # fmt: skip
    """Whether few enough of those that are allowed stand before each of a tile's scores."""
    own = tl.program_id(0) * TILE + tl.arange(0, TILE)
    row = tl.program_id(1).to(tl.int64)
    value = tl.load(score + row * n + own, mask=own < n, other=0.0).to(tl.float32)
    before = tl.zeros((TILE,), tl.int32)
    for start in range(0, n, SCAN):
        at = start + tl.arange(0, SCAN)
        other = tl.load(score + row * n + at, mask=at < n, other=0.0).to(tl.float32)
        if ALLOWED:
            other = tl.where(tl.load(allowed + row * n + at, mask=at < n, other=0) != 0, other, -float("inf"))
        before += tl.sum(_ahead(other, value, at, own, n, FALLING=True).to(tl.int32), 1)
    wanted = most
    if EACH:
        wanted = tl.load(each + row)
    kept = before < wanted
    if ALLOWED:
        kept &= tl.load(allowed + row * n + own, mask=own < n, other=0) != 0
    tl.store(out + row * n + own, kept, mask=own < n)


def unit(x: Tensor) -> Tensor:
    """What `core.rows.unit` says, on tensors of one CUDA device."""
    x = x.contiguous()
    out = torch.empty(x.shape, dtype=torch.float32, device=x.device)
    count = x.numel() // max(1, x.shape[-1])
    if count:
        with on(x):
            _unit[(count,)](x, out, x.shape[-1], WIDE=WIDE)
    return out


def to_mean(x: Tensor) -> Tensor:
    """What `core.rows.to_mean` says, on tensors of one CUDA device; the sum is torch's."""
    x = x.contiguous()
    total = x.sum(1, dtype=torch.float32)
    out = torch.empty(x.shape[:2], dtype=torch.float32, device=x.device)
    if out.numel():
        with on(x):
            _cosine[x.shape[1], len(x)](x, total, out, x.shape[1], x.shape[2], WIDE=WIDE)
    return out


def foremost(score: Tensor, window: Tensor, left: Tensor) -> Tensor:
    """What `core.rows.foremost` says, on tensors of one CUDA device."""
    if score.shape[1] > rows.RANKED:
        return rows.foremost.plain(score, window, left)
    score, window, left = score.contiguous(), window.contiguous(), left.contiguous()
    out = torch.empty(score.shape, dtype=torch.bool, device=score.device)
    if out.numel():
        with on(score):
            _foremost[triton.cdiv(score.shape[1], TILE), len(score)](
                score, window, left, out, score.shape[1], left.shape[1], TILE=TILE, SCAN=SCAN
            )
    return out


def ranks(score: Tensor) -> Tensor:
    """What `core.rows.ranks` says, on tensors of one CUDA device."""
    if score.shape[1] > rows.RANKED:
        return rows.ranks.plain(score)
    score = score.contiguous()
    out = torch.empty(score.shape, dtype=torch.long, device=score.device)
    if score.numel():
        with on(score):
            _ranks[triton.cdiv(score.shape[1], TILE), len(score)](score, out, score.shape[1], TILE=TILE, SCAN=SCAN)
    return out


def ordered(key: Tensor, falling: bool) -> Tensor:
    """What `core.rows.ordered` says, on tensors of one CUDA device."""
    if key.shape[1] > rows.RANKED:
        return rows.ordered.plain(key, falling)
    key = key.contiguous()
    key = key.view(torch.uint8) if key.dtype == torch.bool else key
    out = torch.empty(key.shape, dtype=torch.long, device=key.device)
    if out.numel():
        with on(key):
            _ordered[triton.cdiv(key.shape[1], TILE), len(key)](
                key, out, key.shape[1], FALLING=falling, TILE=TILE, SCAN=SCAN
            )
    return out


def best(score: Tensor, allowed: Tensor | None, each: Tensor | None, most: int) -> Tensor:
    """What `core.rows.best` says, on tensors of one CUDA device."""
    if score.shape[1] > rows.RANKED:
        return rows.best.plain(score, allowed, each, most)
    score = score.contiguous()
    out = torch.empty(score.shape, dtype=torch.bool, device=score.device)
    mask = out if allowed is None else allowed.contiguous()
    kinds = {"ALLOWED": allowed is not None, "EACH": each is not None, "TILE": TILE, "SCAN": SCAN}
    if out.numel():
        with on(score):
            _best[triton.cdiv(score.shape[1], TILE), len(score)](
                score, mask.view(torch.uint8), mask if each is None else each, out, score.shape[1], most, **kinds
            )
    return out


def on(x: Tensor) -> torch.device | torch.cuda.device:
    """Within it, kernels are launched where the tensor lies."""
    return torch.cuda.device(x.device) if x.is_cuda else torch.device("cpu")
