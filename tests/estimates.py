"""The estimator of `meteor_bench.report.statistics` for one row of numbers at a time."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from meteor_bench.report.statistics import Design


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


def mean(values: ArrayLike, clusters: Sequence[Hashable], level: float = 0.95, span: float | None = None) -> Estimate:
    """Mean with its cluster-robust interval."""
    return mean_of_means([Stratum(values, clusters)], level, span=span)


def mean_of_means(
    strata: Sequence[Stratum],
    level: float = 0.95,
    weights: Sequence[float] | None = None,
    span: float | None = None,
) -> Estimate:
    """Weighted sum of the strata's means with its cluster-robust interval.

    Args:
        strata: none of them empty.
        level: coverage of the interval.
        weights: one per stratum; equal shares of 1 by default.
        span: the most that one sample can change by (1 for scores of 0 to 1 and their differences), which gives the
            interval its floor; None where values have no bounds.

    Raises:
        ValueError: no stratum, or one without samples.
    """
    design = Design([s.clusters for s in strata])
    shares = np.full(len(strata), 1 / len(strata)) if weights is None else np.asarray(weights, dtype=float)
    values = np.concatenate([np.asarray(s.values, dtype=float) for s in strata])
    total = float(design.means(values) @ shares)
    half = float(design.half_width(design.deviations(values), shares, level=level, span=span))
    return Estimate(total, total - half, total + half)
