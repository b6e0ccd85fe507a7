"""What a ratio is of: the tokens after the last prune, the tokens of all layers, the KV cache, or the FLOPs.

Methods that end with equally many tokens may have handed any number of them to the language model's first layers, and
may have spent anything on choosing them. A measure says what is made equal: of a sample, what a method leaves of it and
what the unpruned reference model has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

__all__ = ["MEASURES", "OF", "WORDS", "Left", "Measure", "left", "of_ratio", "realised", "to_first_token"]

Measure = Literal["tokens", "layer-mean", "kv", "flops"]
MEASURES: tuple[Measure, ...] = ("tokens", "layer-mean", "kv", "flops")
OF: Mapping[Measure, str] = {
    "tokens": "final tokens",
    "layer-mean": "tokens over the layers",
    "kv": "KV cache",
    "flops": "FLOPs",
}
"""As in "ratio of FLOPs"."""
WORDS: Mapping[Measure, str] = {
    "tokens": "visual tokens after the last prune",
    "layer-mean": "visual tokens averaged over the language model's layers",
    "kv": "KV cache of the visual tokens",
    "flops": "FLOPs to the first token: encoders, fusion, selection and prefill",
}


class Left(NamedTuple):
    """Of one measure and one sample (or the sum of several).

    Attributes:
        kept: what the method leaves.
        whole: what the unpruned reference model has.
    """

    kept: float
    whole: float


def to_first_token(flops: Mapping[str, float]) -> float:
    """Sum of the stages' FLOPs before the answer's second token."""
    return sum(count for stage, count in flops.items() if stage != "decode")


def left(tokens: Mapping[str, Any], flops: Mapping[str, float]) -> dict[Measure, Left]:
    """All four measures of a sample; FLOPs are missing where its record does not say what it would take unpruned.

    Args:
        tokens: as `SampleTrace.as_record` gives them.
        flops: stage -> FLOPs; "prune" is the selection.
    """
    whole = tokens["reference"]
    found: dict[Measure, Left] = {
        "tokens": Left(tokens["final"], whole),
        "layer-mean": Left(tokens["layer_mean"], whole),
        "kv": Left(tokens["kv_mean"], whole),
    }
    if tokens.get("reference_flops"):
        found["flops"] = Left(to_first_token(flops), tokens["reference_flops"])
    return found


def realised(samples: Iterable[Mapping[Measure, Left]]) -> dict[Measure, float]:
    """Measure -> the fraction removed, over all samples together; those that a sample does not tell are left out."""
    sums: dict[Measure, list[Left]] = {}
    count = 0
    for sample in samples:
        count += 1
        for measure, part in sample.items():
            sums.setdefault(measure, []).append(part)
    return {
        measure: 1 - sum(part.kept for part in parts) / sum(part.whole for part in parts)
        for measure, parts in sums.items()
        if len(parts) == count and any(part.whole for part in parts)
    }


def of_ratio(measure: Measure) -> str:
    """What stands behind a ratio that is not of the final tokens: " of FLOPs"."""
    return "" if measure == "tokens" else f" of {OF[measure]}"
