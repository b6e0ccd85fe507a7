"""Student's t without scipy, which reports do without."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

__all__ = ["t_quantile", "t_quantiles"]


def t_quantiles(p: float, freedoms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quantiles of Student's t for many degrees of freedom; broken ones are rounded down, as in printed tables.

    Args:
        p: in (0.5, 1).
        freedoms: [...] at least 1, NaN where there are none.
    """
    known = np.isfinite(freedoms)
    # A whole number that rounding has brought just below itself stays what it is.
    whole, where = np.unique(np.floor(np.where(known, freedoms, 1.0) + 1e-6), return_inverse=True)
    values = np.array([t_quantile(p, int(freedom)) for freedom in whole])
    return np.where(known, values[where].reshape(freedoms.shape), np.nan)


@lru_cache(maxsize=4096)
def t_quantile(p: float, freedom: int) -> float:
    """Quantile of Student's t for p in (0.5, 1), by Newton's method on its distribution function.

    It starts at the expansion of the quantile in 1/freedom around the normal one (Abramowitz and Stegun, 26.7.5). The
    function falls and is convex there, so whichever side that is on, no step leads above the root.
    """
    z = NormalDist().inv_cdf(p)
    t = z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(freedom * math.pi)
    for _ in range(100):
        density = scale * (1 + t * t / freedom) ** (-(freedom + 1) / 2)
        step = (_t_upper(t, freedom) - (1 - p)) / density
        t += step
        if abs(step) < 1e-12 * t:
            break
    return t


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
