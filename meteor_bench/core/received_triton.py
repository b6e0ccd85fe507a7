"""Attention received, as two Triton kernels: a log-sum-exp of each query, then sums of exp(QK - it) over columns.

Nothing of the size H x Q x K is written; a tile of it lives in registers, and is made once in each kernel. All is done
in float32 but the inputs, which are multiplied as they are (float32 without TF32). Sums are made in a fixed order: no
atomics. Its arithmetic is tested by Triton's interpreter on a CPU; it has not run on a card.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["received"]

TILE, DEEP = 64, 64  # queries and keys of a tile; features multiplied at a time


@triton.jit
def _scores(
    query, key, mask, rows, columns,
    n_q, n_k, d, scaling,
    q_n, q_d, k_n, k_d, m_q, m_k,
    MASK: tl.constexpr, CAUSAL: tl.constexpr, TILE: tl.constexpr, DEEP: tl.constexpr,
):  # fmt: skip
    """[TILE, TILE] logits of one head; -inf where a key is not seen or not there."""
    scores = tl.zeros((TILE, TILE), tl.float32)
    for start in range(0, d, DEEP):
        at = start + tl.arange(0, DEEP)
        some = tl.load(
            query + rows[:, None] * q_n + at[None] * q_d, mask=(rows[:, None] < n_q) & (at[None] < d), other=0.0
        )
        others = tl.load(
            key + columns[None] * k_n + at[:, None] * k_d, mask=(columns[None] < n_k) & (at[:, None] < d), other=0.0
        )
        scores += tl.dot(some, others, input_precision="ieee")
    scores *= scaling
    there = (rows[:, None] < n_q) & (columns[None] < n_k)
    seen = columns[None] < n_k
    if CAUSAL:
        seen = seen & (columns[None] <= rows[:, None])
    if MASK != 0:
        given = tl.load(mask + rows[:, None] * m_q + columns[None] * m_k, mask=there, other=0)
        if MASK == 1:
            seen = seen & (given != 0)
        else:
            scores += given.to(tl.float32)
    return tl.where(seen, scores, -float("inf"))


@triton.jit
def _row_sums(
    query, key, mask, out,
    heads, groups, n_q, n_k, d, scaling,
    q_b, q_h, q_n, q_d, k_b, k_h, k_n, k_d,
    m_b, m_h, m_q, m_k,
    MASK: tl.constexpr, CAUSAL: tl.constexpr, TILE: tl.constexpr, DEEP: tl.constexpr,
):  # fmt: skip
    """Log-sum-exp of each query, [B, H, Q], in one pass over the keys."""
    rows = tl.program_id(0) * TILE + tl.arange(0, TILE)
    row = tl.program_id(1).to(tl.int64)
    b, h = row // heads, row % heads
    query += b * q_b + h * q_h
    key += b * k_b + (h // groups) * k_h
    mask += b * m_b + h * m_h
    highest = tl.full((TILE,), -float("inf"), tl.float32)
    total = tl.zeros((TILE,), tl.float32)
    for start in range(0, n_k, TILE):
        columns = start + tl.arange(0, TILE)
        scores = _scores(
            query, key, mask, rows, columns, n_q, n_k, d, scaling,
            q_n, q_d, k_n, k_d, m_q, m_k, MASK, CAUSAL, TILE, DEEP,
        )  # fmt: skip
        higher = tl.maximum(highest, tl.max(scores, 1))
        base = tl.where(higher == -float("inf"), 0.0, higher)
        total = total * tl.exp(highest - base) + tl.sum(tl.exp(scores - base[:, None]), 1)
        highest = higher
    tl.store(out + row * n_q + rows, highest + tl.log(total), mask=rows < n_q)


@triton.jit
def _column_sums(
    query, key, mask, counted, sums, out,
    heads, groups, n_q, n_k, d, scaling, parts,
    q_b, q_h, q_n, q_d, k_b, k_h, k_n, k_d,
    m_b, m_h, m_q, m_k, over,
    MASK: tl.constexpr, CAUSAL: tl.constexpr, COUNTED: tl.constexpr, PEAK: tl.constexpr,
    TILE: tl.constexpr, DEEP: tl.constexpr,
):  # fmt: skip
    """[B, parts, K]: a part is a head over all queries, or (PEAK) the maximum over heads of a tile of queries."""
    columns = tl.program_id(0) * TILE + tl.arange(0, TILE)
    part = tl.program_id(1)
    b = tl.program_id(2).to(tl.int64)
    first, last, begin, end = part, part + 1, 0, n_q
    if PEAK:
        first, last, begin, end = 0, heads, part * TILE, (part + 1) * TILE
    total = tl.zeros((TILE,), tl.float32)
    for start in range(begin, end, TILE):
        rows = start + tl.arange(0, TILE)
        best = tl.zeros((TILE, TILE), tl.float32)
        for h in range(first, last):
            wide = tl.cast(h, tl.int64)
            scores = _scores(
                query + b * q_b + wide * q_h, key + b * k_b + (wide // groups) * k_h, mask + b * m_b + wide * m_h,
                rows, columns, n_q, n_k, d, scaling, q_n, q_d, k_n, k_d, m_q, m_k, MASK, CAUSAL, TILE, DEEP,
            )  # fmt: skip
            base = tl.load(sums + (b * heads + h) * n_q + rows, mask=rows < n_q, other=float("inf"))
            weights = tl.exp(scores - base[:, None])
            best = tl.maximum(best, weights)
        if COUNTED:
            counts = tl.load(counted + b * n_q + rows, mask=rows < n_q, other=0)
            best = tl.where(counts[:, None] != 0, best, 0.0)
        total += tl.sum(best, 0)
    tl.store(out + (b * parts + part) * n_k + columns, total / over, mask=columns < n_k)


def received(
    query: Tensor, key: Tensor, mask: Tensor | None, queries: Tensor | None, scaling: float, causal: bool, peak: bool,
    over: int = 1,
) -> Tensor:  # fmt: skip
    """What `core.received.received` says, on tensors of one CUDA device."""
    b, own, q, d = query.shape
    k = key.shape[2]
    heads = own if mask is None or mask.shape[1] == 1 else mask.shape[1]
    query = query.expand(b, heads, q, d)
    kind, given = 0, query
    steps: tuple[int, ...] = 0, 0, 0, 0
    if mask is not None:
        given = mask.view(torch.uint8) if mask.dtype == torch.bool else mask
        given = given.expand(b, heads, q, k)
        kind, steps = 1 if mask.dtype == torch.bool else 2, given.stride()
    counted = query if queries is None else queries.contiguous().view(torch.uint8)
    sums = torch.empty(b, heads, q, dtype=torch.float32, device=query.device)
    tiles = triton.cdiv(q, TILE)
    parts = tiles if peak else heads
    out = torch.empty(b, parts, k, dtype=torch.float32, device=query.device)
    shape = heads, heads // key.shape[1], q, k, d, scaling
    strides = *query.stride(), *key.stride(), *steps
    sizes = {"MASK": kind, "CAUSAL": causal and mask is None and q > 1, "TILE": TILE, "DEEP": DEEP}
    with torch.cuda.device(query.device) if query.is_cuda else torch.device("cpu"):
        _row_sums[tiles, b * heads](query, key, given, sums, *shape, *strides, **sizes)
        _column_sums[triton.cdiv(k, TILE), parts, b](
            query, key, given, counted, sums, out, *shape, parts, *strides,
            over, COUNTED=queries is not None, PEAK=peak, **sizes,
        )  # fmt: skip
    return out.sum(1) if peak else out.mean(1)
