"""Is the difference of two runs on the same questions more than chance? p-values, and their correction for many.

Three tests, all two-sided:

- `mcnemar` for scores of 0 and 1, exact at any count: of the questions that only one of both answered right, each is
  equally likely to be either's. It takes questions for independent.
- `exchange`, the same idea by image: were both runs alike, each image's total difference could as well have its other
  sign. With one question per image and scores of 0 and 1 it *is* McNemar's exact test; where several questions share
  an image it does not count their common fate as evidence.
- `bootstrap` for what is no 0 or 1, and for averages: whole images are drawn again, benchmark by benchmark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from meteor_bench.report.statistics import Design

__all__ = ["bootstrap", "exchange", "holm", "mcnemar"]

Floats = NDArray[np.float64]
_CHUNK = 1000
# Totals within rounding of each other count as equal.
_SLACK = 1e-9


def mcnemar(gained: int, lost: int) -> float:
    """McNemar's exact p: a fair coin falls at least this unevenly in ``gained + lost`` throws."""
    n, few = gained + lost, min(gained, lost)
    tails: int = 2 * sum(math.comb(n, k) for k in range(few + 1))
    return min(1.0, tails / (1 << n))


def exchange(totals: ArrayLike, *, draws: int = 20_000, seed: int = 0) -> float:
    """The p-value of the sum of the images' total differences when each could have either sign.

    Exact for whole numbers (the distribution of the signed sum, built up image by image); else from ``draws`` random
    choices of signs, the observed one counted among them.

    Args:
        totals: one number per image; zeros do not matter.
    """
    array = np.asarray(totals, dtype=float)
    array = array[np.abs(array) > _SLACK]
    if array.size == 0:
        return 1.0
    whole = np.rint(array)
    if np.allclose(array, whole, rtol=0, atol=_SLACK):
        return _exchange_exact(np.abs(whole).astype(int), abs(int(whole.sum())))
    generator = np.random.default_rng(seed)
    observed = abs(array.sum())
    extreme = 0
    for start in range(0, draws, _CHUNK):
        signs = generator.integers(0, 2, (min(_CHUNK, draws - start), array.size)) * 2 - 1
        extreme += int((np.abs(signs @ array) >= observed - _SLACK * array.size).sum())
    return (extreme + 1) / (draws + 1)


def _exchange_exact(sizes: NDArray[np.int_], observed: int) -> float:
    """P(|sum of ±size| >= observed) by convolution."""
    reach = int(sizes.sum())
    chance = np.zeros(2 * reach + 1)
    chance[reach] = 1.0
    for size in sizes:
        moved = np.zeros_like(chance)
        moved[size:] += chance[:-size] / 2
        moved[:-size] += chance[size:] / 2
        chance = moved
    sums = np.abs(np.arange(-reach, reach + 1))
    return min(1.0, float(chance[sums >= observed].sum()))


def bootstrap(
    design: Design, differences: ArrayLike, shares: ArrayLike, *, draws: int = 10_000, seed: int = 0
) -> float:
    """The p-value of a weighted sum of mean differences being 0, from resampling whole images.

    The share of resamples on the other side of 0, doubled; the observed one is counted on both sides, so that p is
    never 0.

    Args:
        differences: [n samples] in the order of the design.
        shares: [S] weights of the strata.
    """
    values = np.asarray(differences, dtype=float)
    if not np.any(np.abs(values) > _SLACK):
        return 1.0
    sums = design.resampled(values, shares, draws, np.random.default_rng(seed))
    below, above = int((sums <= _SLACK).sum()), int((sums >= -_SLACK).sum())
    return min(1.0, 2 * (min(below, above) + 1) / (draws + 1))


def holm(values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: p-values that may be read side by side; NaN stays NaN and does not count."""
    known = sorted((p, i) for i, p in enumerate(values) if not math.isnan(p))
    corrected = list(values)
    worst = 0.0
    for rank, (p, i) in enumerate(known):
        worst = max(worst, min(1.0, (len(known) - rank) * p))
        corrected[i] = worst
    return corrected
