"""Intervals for means and paired differences whose samples come in clusters (questions that share an image).

One estimator serves all: a weighted sum of stratum means (a stratum is a benchmark), with the variance of its
cluster totals and Student's t for the quantile ("cluster-robust"). With one stratum and clusters of one sample it is
the textbook t interval; on paired differences it is the paired one.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["Estimate", "Stratum", "mean", "mean_of_means", "t_quantile"]


class Stratum(NamedTuple):
    """Samples of one benchmark.

    Attributes:
        values: one number per sample (a score, or a paired difference of scores).
        clusters: one label per sample; equal labels, in whatever stratum, are samples that depend on each other.
    """

    values: ArrayLike
    clusters: Sequence[Hashable]


class Estimate(NamedTuple):
    """A value with its interval; the bounds are NaN where fewer than two clusters give no variance."""

    value: float
    low: float
    high: float


def mean(values: ArrayLike, clusters: Sequence[Hashable], level: float = 0.95) -> Estimate:
    """Mean with its cluster-robust interval."""
    return mean_of_means([Stratum(values, clusters)], level)


def mean_of_means(strata: Sequence[Stratum], level: float = 0.95, weights: Sequence[float] | None = None) -> Estimate:
    """Weighted sum of the strata's means with its cluster-robust interval.

    Var = G/(G-S) · Σ_g (Σ_{i in g} w_s/n_s · (y_i - mean_s))², with G clusters and S strata; t with G-S degrees of
    freedom.

    Args:
        strata: none of them empty.
        level: coverage of the interval.
        weights: one per stratum; equal shares of 1 by default.

    Raises:
        ValueError: no stratum, or one without samples.
    """
    if not strata or any(np.size(s.values) == 0 for s in strata):
        raise ValueError("a mean needs samples")
    shares = [1 / len(strata)] * len(strata) if weights is None else list(weights)
    total, influence = 0.0, []
    labels: list[Hashable] = []
    for (values, clusters), share in zip(strata, shares, strict=True):
        y = np.asarray(values, dtype=float)
        total += share * float(y.mean())
        influence.append(share / y.size * (y - y.mean()))
        labels.extend(clusters)
    number = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    index = np.fromiter((number[label] for label in labels), dtype=np.intp, count=len(labels))
    sums = np.bincount(index, np.concatenate(influence))
    freedom = sums.size - len(strata)
    if freedom < 1:
        return Estimate(total, math.nan, math.nan)
    half = t_quantile(0.5 + level / 2, freedom) * math.sqrt(sums.size / freedom * float(sums @ sums))
    return Estimate(total, total - half, total + half)


@lru_cache(maxsize=4096)
def t_quantile(p: float, freedom: int) -> float:
    """Quantile of Student's t for p in (0.5, 1), by bisection of its distribution function."""
    low, high = 0.0, 2.0
    while _t_upper(high, freedom) > 1 - p:
        high *= 2
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _t_upper(middle, freedom) > 1 - p else (low, middle)
    return (low + high) / 2


def _t_upper(t: float, freedom: int) -> float:
    """P(T > t) for t >= 0: half the regularised incomplete beta function at freedom/(freedom + t²)."""
    return 0.5 * _incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t))


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """I_x(a, b) by its continued fraction, evaluated from the end where it converges."""
    if x <= 0.0 or x >= 1.0:
        return float(x >= 1.0)
    if x > (a + 1) / (a + b + 2):
        return 1.0 - _incomplete_beta(b, a, 1.0 - x)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a
    # Lentz's method; the odd and even terms of the fraction are taken together.
    c, d = 1.0, 1.0 / (1.0 - (a + b) * x / (a + 1))
    fraction = d
    for m in range(1, 300):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d, c = 1.0 / (1.0 + even * d), 1.0 + even / c
        fraction *= c * d
        d, c = 1.0 / (1.0 + odd * d), 1.0 + odd / c
        step = c * d
        fraction *= step
        if abs(step - 1.0) < 1e-15:
            break
    return front * fraction
