"""Samples into the summary that a run's record holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from meteor_bench.core.match import left, realised
from meteor_bench.records.schema import SampleRecord, Spread, TokenRecord

__all__ = ["mean_flops", "summarise_tokens"]

_COUNTS = ("fused", "llm_input", "final", "layer_mean", "kv_mean", "text", "answer", "reference", "target")


def summarise_tokens(samples: Sequence[SampleRecord], ratio: float) -> TokenRecord:
    """Token counts over the samples of a run.

    Args:
        samples: at least one.
        ratio: the fraction that was asked to be removed.
    """
    counts = [s.tokens for s in samples]
    final = np.array([c["final"] for c in counts])
    return TokenRecord(
        towers={name: _spread([c["towers"][name] for c in counts]) for name in counts[0]["towers"]},
        **{name: _spread([c[name] for c in counts]) for name in _COUNTS},
        requested_ratio=ratio,
        realised_ratio=float(1 - final.sum() / max(1, sum(c["reference"] for c in counts))),
        # An unpruned model with a projector for each encoder has more tokens than its kin, whose number the target is.
        missed=int((final != np.array([c["target"] for c in counts])).sum()) if ratio > 0 else 0,
        realised=realised(left(s.tokens, s.flops) for s in samples),
    )


def mean_flops(samples: Sequence[SampleRecord]) -> Mapping[str, float]:
    """Mean FLOPs per question and stage, each question counted as if it were answered alone."""
    stages = dict.fromkeys(stage for s in samples for stage in s.flops)
    return {stage: float(np.mean([s.flops.get(stage, 0) for s in samples])) for stage in stages}


def _spread(values: Sequence[float]) -> Spread:
    array = np.asarray(values, dtype=float)
    return Spread(float(array.mean()), float(array.min()), float(array.max()), float(array.std()))
