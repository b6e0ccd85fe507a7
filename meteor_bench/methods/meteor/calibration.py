"""METEOR's constants from calibration samples: the towers' mean ranks (D3), and lambda (D6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from meteor_bench.methods.shared.helpers import round_half_up

__all__ = ["adaptive_count", "fit_lambda", "limits", "mean_ranks", "solve_lambda"]


def solve_lambda(masses: Tensor, targets: Tensor, lows: Tensor, highs: Tensor) -> float:
    """The lambda for which the mean of ``clamp(round(lambda·mass), low, high)`` is nearest to the mean target.

    The mean is a staircase in lambda; the middle of its best step is returned, where no sample's count hangs on the
    last bit of its mass.

    Args:
        masses: [S] attention mass of each calibration sample.
        targets, lows, highs: [S] tokens.
    """
    masses = masses.double()
    goal = float(targets.double().mean())
    top = 2.0 * float(highs.max()) / max(float(masses.min()), 1e-9) + 1.0

    def mean(value: float) -> float:
        return float(adaptive_count(value, masses, lows, highs).double().mean())

    def edge(level: float) -> tuple[float, float]:
        """Two neighbouring lambdas between which the mean reaches ``level`` (`top` if it never does)."""
        low, high = 0.0, top
        for _ in range(80):
            middle = (low + high) / 2
            low, high = (middle, high) if mean(middle) < level else (low, middle)
        return low, high

    best = min(map(mean, edge(goal)), key=lambda level: abs(level - goal))
    return (edge(best)[1] + edge(best + 1e-9)[0]) / 2


def limits(target: Tensor, present: Tensor, clamp: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """[B] least and most tokens that stage 3 may keep: multiples of the target [B], at most the present [B]."""
    low = torch.ceil(target.double() * clamp[0]).long().clamp(min=1)
    high = torch.minimum(torch.floor(target.double() * clamp[1]).long(), present)
    return torch.minimum(low, high), high


def adaptive_count(value: float, mass: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """[B] long: ``clamp(round(value·mass), low, high)``."""
    return torch.minimum(torch.maximum(round_half_up(value * mass.double()), low), high)


def fit_lambda(observed: Mapping[str, Tensor]) -> dict[str, Any]:
    """lambda, with the counts that it gives on the calibration samples.

    Args:
        observed: [S] each: "mass" of attention, "target", "low" and "high" tokens.
    """
    mass, target, low, high = (observed[key] for key in ("mass", "target", "low", "high"))
    value = solve_lambda(mass, target, low, high)
    counts = adaptive_count(value, mass, low, high)
    return {
        "meteor.lambda": value,
        "meteor.calibrated": {
            "samples": len(counts),
            "target": float(target.double().mean()),
            "mean": float(counts.double().mean()),
            "min": int(counts.min()),
            "max": int(counts.max()),
        },
    }


def mean_ranks(observed: Mapping[str, Tensor]) -> Sequence[Mapping[str, float]]:
    """[point] -> {tower: mean rank}."""
    table: dict[int, dict[str, float]] = {}
    for key, ranks in observed.items():
        if not key.startswith("rank."):
            continue
        _, point, tower = key.split(".", 2)
        table.setdefault(int(point), {})[tower] = float(ranks.double().mean())
    return [table[point] for point in sorted(table)]
