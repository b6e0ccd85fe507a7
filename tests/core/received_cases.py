"""Attention received, by brute force and by Triton's kernels; run as a program under TRITON_INTERPRET=1 it compares.

Triton decides when it is imported whether it interprets, so a process of its own is needed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

TOLERANCE = 2e-6


def brute(
    query: Tensor, key: Tensor, mask: Tensor | None, queries: Tensor | None, scaling: float, causal: bool, peak: bool,
    over: int = 1,
) -> Tensor:  # fmt: skip
    """[B, K] float64, every weight written out."""
    h, q = query.shape[1:3]
    k = key.shape[2]
    logits = query.double() @ key.double().repeat_interleave(h // key.shape[1], 1).transpose(-1, -2) * scaling
    if mask is None:
        seen = torch.ones(q, k, dtype=torch.bool).tril() if causal and q > 1 else torch.ones(q, k, dtype=torch.bool)
        logits = logits.masked_fill(~seen, -torch.inf)
    else:
        logits = logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask.double()
    weights = logits.softmax(-1)
    each = weights.amax(1) if peak else weights.mean(1)
    return (each if queries is None else each * queries[..., None]).sum(1) / over


def cases() -> dict[str, tuple[Any, ...]]:
    """Arguments of `core.received.received`, each with something that another has not."""
    draw = torch.Generator().manual_seed(0)

    def rand(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw)

    q, k = rand(2, 4, 70, 40), rand(2, 4, 70, 40)
    some = torch.rand(2, 70, generator=draw) > 0.3
    seen = (torch.rand(2, 1, 70, 70, generator=draw) > 0.4) | torch.eye(70, dtype=torch.bool)
    bias = rand(2, 4, 70, 70)
    return {
        "plain": (q, k, None, None, 0.2, False, False),
        "of all queries": (q, k, None, None, 0.2, False, False, 70),
        "counted queries": (q, k, None, some, 0.2, False, False),
        "causal": (q, k, None, some, 0.2, True, False),
        "grouped heads": (q, rand(2, 2, 90, 40), None, None, 0.2, False, False),
        "seen": (q, k, seen, some, 0.2, False, False),
        "one row for all": (q, k, seen[:, :, :1], None, 0.2, False, False),
        "a bias of each head": (q, k, bias, None, 0.2, False, False),
        "one head, several biases": (rand(2, 1, 70, 160), rand(2, 1, 70, 160), bias, some, 0.08, False, False),
        "peak": (q, k, None, some, 0.2, False, True),
        "peak under a bias": (q, k, bias.masked_fill(~seen, -torch.inf), None, 0.2, False, True),
        "strided": (q.transpose(1, 2).contiguous().transpose(1, 2), k, None, None, 0.2, False, False),
    }


def main() -> None:
    from meteor_bench.core.received_triton import received

    for name, case in cases().items():
        wanted = brute(*case)
        apart = float((received(*case) - wanted).abs().max() / wanted.max())
        assert apart < TOLERANCE, f"{name}: {apart:.1e}"
    half = [x.half() for x in cases()["plain"][:2]]  # the interpreter has no bfloat16
    wanted = brute(*half, None, None, 0.2, False, False)
    assert float((received(*half, None, None, 0.2, False, False) - wanted).abs().max()) < 1e-3


if __name__ == "__main__":
    main()
