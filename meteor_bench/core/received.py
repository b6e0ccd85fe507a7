"""Attention received: what each key gets of all queries, as one operation that a GPU has a kernel of its own for.

On a CPU, and where Triton is missing, it is a softmax of as many rows at a time as fit (`received_in_chunks`). On CUDA
`core.received_triton` works out the log-sum-exp of each query and then adds up exp(QK - log-sum-exp) column by column,
so that no weights ever stand in memory. Before its first use in a process the kernel is held against the chunks.
"""

from __future__ import annotations

from functools import lru_cache, partial

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from meteor_bench.core.fused import agrees, has_triton

__all__ = ["received", "received_in_chunks", "softmax"]

CHUNK = 1 << 26  # attention entries held at once
CHUNK_CPU = 1 << 21  # they fit in a CPU's cache
TOLERANCE = 1e-3  # of the kernel beside the chunks, relative to the largest value


def received(
    query: Tensor, key: Tensor, mask: Tensor | None, queries: Tensor | None, scaling: float, causal: bool, peak: bool,
    over: int = 1,
) -> Tensor:  # fmt: skip
    """[B, K] float32 sum over queries of the mean (``peak``: maximum) over heads of the attention each key gets.

    Args:
        query: [B, H, Q, d].
        key: [B, H_kv, K, d], each for as many consecutive heads.
        mask: [B or 1, 1 or H, Q or 1, K], bool (what is seen) or added to the logits; None: see ``causal``. One query
            head meets a bias of each of several heads as that many heads.
        queries: [B, Q] bool, those that count; None: all.
        causal: without a mask, a query sees the keys up to its own place.
        over: what the sums are divided by.
    """
    if query.is_cuda and has_triton():
        out: Tensor = _received(query, key, mask, queries, scaling, causal, peak, over)
        return out
    return received_in_chunks(query, key, mask, queries, scaling, causal, peak, over)


def received_in_chunks(
    query: Tensor, key: Tensor, mask: Tensor | None, queries: Tensor | None, scaling: float, causal: bool, peak: bool,
    over: int = 1,
) -> Tensor:  # fmt: skip
    """The same, by the softmax of some rows at a time."""
    b, h, q, _ = query.shape
    total: Tensor | None = None
    step = max(1, (CHUNK if query.is_cuda else CHUNK_CPU) // max(1, b * h * key.shape[2]))
    for start in range(0, q, step):
        rows = slice(start, start + step)
        seen = None if mask is None else mask.expand(b, -1, q, -1)[:, :, rows]
        if seen is None and causal and q > 1:
            at = torch.arange(start, min(q, start + step), device=query.device)
            seen = torch.arange(key.shape[2], device=query.device) <= at[:, None]
        part = softmax(query[:, :, rows], key, seen, scaling)  # [B, H, r, K]
        over_heads = part.amax(1) if peak else part.mean(1)
        counted = over_heads if queries is None else over_heads * queries[:, rows, None]
        total = counted.sum(1) if total is None else total + counted.sum(1)
    assert total is not None, "no queries"
    return total if over == 1 else total / over


def softmax(query: Tensor, key: Tensor, mask: Tensor | None, scaling: float) -> Tensor:
    """[B, H (or the bias's), R, K] softmax, in float32, of queries [B, H, R, d] over keys [B, H_kv, K, d]."""
    b, h, r, d = query.shape
    grouped = query.reshape(b, key.shape[1], -1, d)  # the heads that share a key, one below another
    scores = (grouped @ key.transpose(-1, -2)).float().mul_(scaling).view(b, h, r, -1)
    if mask is not None:
        if mask.dtype == torch.bool:
            scores.masked_fill_(~mask, -torch.inf)
        else:
            # Out of place where one head over all of them meets a bias of each head: as many rows as biases come out.
            scores = scores.add_(mask) if mask.dim() < 4 or mask.shape[1] in (1, h) else scores + mask
    return scores.softmax(-1)


@torch.library.custom_op(
    "meteor_bench::received",
    mutates_args=(),
    schema="(Tensor query, Tensor key, Tensor? mask, Tensor? queries, float scaling, bool causal, bool peak,"
    " SymInt over=1) -> Tensor",
)
def _received(
    query: Tensor, key: Tensor, mask: Tensor | None, queries: Tensor | None, scaling: float, causal: bool, peak: bool,
    over: int = 1,
) -> Tensor:  # fmt: skip
    return received_in_chunks(query, key, mask, queries, scaling, causal, peak, over)


@_received.register_kernel("cuda")
def _on_a_gpu(
    query: Tensor, key: Tensor, mask: Tensor | None, queries: Tensor | None, scaling: float, causal: bool, peak: bool,
    over: int = 1,
) -> Tensor:  # fmt: skip
    if not _proven(query.device, query.dtype):
        return received_in_chunks(query, key, mask, queries, scaling, causal, peak, over)
    from meteor_bench.core import received_triton

    return received_triton.received(query, key, mask, queries, scaling, causal, peak, over)


@lru_cache(maxsize=8)
def _proven(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the kernel can be built here and says the same as the chunks; told in one line if not."""
    draw = torch.Generator().manual_seed(0)
    query, key = (torch.randn(1, 2, n, 64, generator=draw).to(device, dtype) for n in (96, 80))
    wanted = received_in_chunks(query.double(), key.double(), None, None, 0.125, False, False).float()
    return agrees("attention received is read by torch", partial(_kernel, query, key), wanted, TOLERANCE)


def _kernel(query: Tensor, key: Tensor) -> Tensor:
    from meteor_bench.core import received_triton

    return received_triton.received(query, key, None, None, 0.125, False, False)


@register_flop_formula(torch.ops.meteor_bench.received)
def _flops(query: tuple[int, ...], key: tuple[int, ...], *_: object, out_shape: object = None, **kwargs: object) -> int:
    """The product of queries and keys, made twice."""
    b, heads, q, d = query
    return 2 * 2 * b * heads * q * key[2] * d
