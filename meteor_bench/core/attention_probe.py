"""The one attention probe: attention statistics computed beside the fast kernel, never instead of it.

`register()` adds one attention function (and its mask function) to transformers' tables under `KERNEL`. Models are
built with it; it runs the library's own SDPA and, while a `Probe` is active, also computes the few rows that the
probe wants. A context variable carries the probe, because some library attentions (SigLIP) drop unknown keyword
arguments before they reach the kernel.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from meteor_bench.core.clock import Clock
from meteor_bench.core.host import places
from meteor_bench.core.received import received, softmax

__all__ = ["KERNEL", "Probe", "plainly", "probing", "register", "unattended"]

KERNEL = "meteor_bench_sdpa"


@dataclass
class Probe:
    """What to read from one attention call, and what was read.

    Attributes:
        mode: "rows" reads the softmax rows of chosen queries; "received" the mean over queries and heads of the
            attention each key gets.
        rows: [B, R] long, query indices for "rows"; None: the last ones.
        last: how many those are.
        queries: [B, N] bool, the queries that count for "received"; None: all.
        peak: for "received", the maximum over heads instead of their mean.
        single_head: take all heads as one of the full width D: scale D^-1/2, keys concatenated. Where each head has
            a bias of its own (SAM's positions), once with each, averaged.
        want_keys: also keep the keys.
        heads: keys averaged over heads ("mean") or with the heads side by side ("concat").
        want_values, want_logits: also keep the values, and the logits averaged over heads.
        clock: the reading is timed, and its FLOPs counted, as the stage "prune".
        attention: the result: "rows" [B, H, R, K], "received" [B, K].
        keys: [B, K, d or H_kv·d] the keys (rotated where the model rotates them).
        values: [B, K, H_kv, d].
        logits: [B, Q, K] float32, scaled, without any mask.
    """

    mode: Literal["rows", "received", "keys"]
    rows: Tensor | None = None
    last: int = 1
    queries: Tensor | None = None
    want_keys: bool = False
    peak: bool = False
    single_head: bool = False
    heads: Literal["mean", "concat"] = "mean"
    want_values: bool = False
    want_logits: bool = False
    clock: Clock | None = None
    attention: Tensor | None = None
    keys: Tensor | None = None
    values: Tensor | None = None
    logits: Tensor | None = None

    def read(
        self,
        query: Tensor,
        key: Tensor,
        mask: Tensor | None,
        scaling: float | None,
        causal: bool,
        groups: int,
        value: Tensor | None = None,
    ) -> None:
        """Compute the statistic from one call's [B, H, Q, d] queries and [B, H_kv, K, d] keys (and values)."""
        if self.want_values and value is not None:
            self.values = value.transpose(1, 2)
        if self.want_logits:
            self.logits = _mean_logits(query, key, scaling, groups)
        if self.single_head:
            query, key = _one_head(query), _one_head(_each(key, groups))
            scaling, groups = None, 1
        if self.want_keys:
            self.keys = _mean_heads(key) if self.heads == "mean" else key.transpose(1, 2).flatten(2)
        if self.mode == "keys":
            return
        scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
        if self.mode == "rows":
            if self.rows is None:
                self.attention = _softmax_last(query, key, mask, scaling, causal, self.last)
            else:
                self.attention = _softmax_rows(query, key, mask, scaling, causal, self.rows)
            return
        over = max(1, query.shape[2]) if self.queries is None else 1
        total = received(query, key, mask, self.queries, scaling, causal, self.peak, over)
        self.attention = total if self.queries is None else total / self.queries.sum(1, keepdim=True).clamp(min=1)


def _mean_logits(query: Tensor, key: Tensor, scaling: float | None, groups: int) -> Tensor:
    """[B, Q, K]: the mean over heads of products is the product of the heads side by side, divided by their number."""
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    every = _one_head(_each(key, groups))[:, 0]
    # Scaled before: float16 holds each head's products, not the sum of all heads'.
    return (_one_head(query * (scale / query.shape[1]))[:, 0] @ every.transpose(1, 2)).float()


def _each(key: Tensor, groups: int) -> Tensor:
    """[B, H, K, d] the key of each query head."""
    return key if groups == 1 else key.repeat_interleave(groups, dim=1)


def _mean_heads(key: Tensor) -> Tensor:
    return key[:, 0] if key.shape[1] == 1 else key.mean(1)


def _one_head(x: Tensor) -> Tensor:
    """[B, H, N, d] -> [B, 1, N, H·d]."""
    return x.transpose(1, 2).flatten(2)[:, None]


def _softmax_rows(
    query: Tensor, key: Tensor, mask: Tensor | None, scaling: float, causal: bool, rows: Tensor
) -> Tensor:
    """Softmax rows [B, H, R, K] in float32 of the chosen queries, under the same mask as the kernel's."""
    b, h, q, d = query.shape
    k = key.shape[2]
    picked = query.gather(2, rows[:, None, :, None].expand(b, h, -1, d))
    if mask is not None:
        mask = mask.expand(b, -1, q, k)
        mask = mask.gather(2, rows[:, None, :, None].expand(b, mask.shape[1], -1, k))
    elif causal and q > 1:
        mask = places(k, query.device) <= rows[:, None, :, None]
    return softmax(picked, key, mask, scaling)


def _softmax_last(query: Tensor, key: Tensor, mask: Tensor | None, scaling: float, causal: bool, last: int) -> Tensor:
    """The same of the last queries, which nobody has to look for; the very last one sees every key."""
    b, _, q, _ = query.shape
    k = key.shape[2]
    if mask is not None:
        mask = mask.expand(b, -1, q, k)[:, :, -last:]
    elif causal and last > 1:
        mask = places(k, query.device) <= places(q, query.device)[-last:, None]
    return softmax(query[:, :, -last:], key, mask, scaling)


_active: ContextVar[Probe | None] = ContextVar("meteor_bench_probe", default=None)
_plain: ContextVar[bool] = ContextVar("meteor_bench_plain", default=False)
_idle: ContextVar[bool] = ContextVar("meteor_bench_idle", default=False)


@contextmanager
def probing(probe: Probe | None) -> Iterator[None]:
    """Let the attention calls inside the block report to ``probe`` (None: nothing is read)."""
    if probe is None:
        yield
        return
    token = _active.set(probe)
    try:
        yield
    finally:
        _active.reset(token)


@contextmanager
def plainly() -> Iterator[None]:
    """Inside the block attention is the library's eager one, which writes out every weight, instead of the fast kernel.

    What a method costs that needs those weights; for timing only, the results are the same up to rounding.
    """
    token = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(token)


@contextmanager
def unattended() -> Iterator[None]:
    """Inside the block no attention is computed: its output is not wanted, only what is cached or a probe reads."""
    token = _idle.set(True)
    try:
        yield
    finally:
        _idle.reset(token)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The library's SDPA, plus the probe's reading while one is active."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    probe = _active.get()
    asked = kwargs.get("is_causal")
    causal = bool(getattr(module, "is_causal", False) if asked is None else asked)
    if probe is not None:
        groups = int(getattr(module, "num_key_value_groups", 1))
        with nullcontext() if probe.clock is None else probe.clock.stage("prune"):
            probe.read(query, key, attention_mask, kwargs.get("scaling"), causal, groups, value)
    if _idle.get():
        return query.transpose(1, 2), None  # of the right shape
    if not _plain.get():
        out, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
        return out, None
    eager = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    if eager is None:  # a module of ours: torch's unfused attention does the same work
        with sdpa_kernel(SDPBackend.MATH):
            out, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
        return out, None
    out, _ = eager(module, query, key, value, _additive(query, key, attention_mask, causal), **kwargs)
    return out, None


def _additive(query: Tensor, key: Tensor, mask: Tensor | None, causal: bool) -> Tensor | None:
    """The mask as eager attention wants it: what is added to the logits."""
    if mask is None and causal and query.shape[2] > 1:
        mask = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device).tril()[None, None]
    if mask is None or mask.dtype != torch.bool:
        return mask
    lowest = torch.finfo(query.dtype).min
    return torch.zeros(mask.shape, dtype=query.dtype, device=query.device).masked_fill_(~mask, lowest)


def register() -> str:
    """Add the kernel and its mask function to transformers' tables (idempotent); returns the kernel's name.

    Without the mask function the library's own forward would silently drop padding masks for an unknown kernel.
    """
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    AttentionInterface.register(KERNEL, _attention)
    AttentionMaskInterface.register(KERNEL, sdpa_mask)
    return KERNEL
