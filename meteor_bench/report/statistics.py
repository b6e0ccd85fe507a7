"""Intervals for means and paired differences whose samples come in clusters (questions that share an image).

One estimator serves all: a weighted sum of stratum means (a stratum is a benchmark). Strata that share clusters are
taken together; such a part of G clusters and S strata has the variance of its cluster totals,
G/(G-S) · Σ_g (Σ_{i in g} w_s/n_s · (y_i - mean_s))², on G-S degrees of freedom. The parts are independent: their
variances add up, and their degrees of freedom join as Welch and Satterthwaite have it, (Σ v)² / Σ v²/(G-S), so that
an average whose noise is that of one benchmark with few images has the wide quantile of few images. With one stratum
and clusters of one sample it is the textbook t interval, with two strata Welch's; on paired differences it is the
paired one. For clusters of equal size and one stratum it is also the bias-reduced CR2 with Bell and McCaffrey's
degrees of freedom.

Why this sandwich and not a cluster bootstrap: it is what the bootstrap converges to (a test compares them), it draws
nothing, so a table is the same each time it is printed, it allows for few clusters through t, and deviations are
linear in the values, so that a table of a hundred rows costs a few matrix products. `paired` draws, for p-values.

What it gets wrong alone: where no answer differs it says [0, 0], and where one or two do it is far too sure (it holds
the truth in 45 to 78 of 100 simulated benchmarks of 300 questions instead of 95; with the floor in 99, and from six
differing answers on in 93 and more). Hence a **floor** for scores of a bounded
range: no interval is narrower than the one that honesty allows when *nothing* was seen to change. If a share p of n
independent samples changes, none is seen with probability (1-p)^n; the largest p that this leaves above 2.5 % is
1 - 0.025^(1/n), 3.7/n: the "rule of three" at two-sided 95 %. Samples of a cluster are not independent, and where
nothing changed their correlation cannot be estimated; `CORRELATION` stands in, with Kish's design effect
1 + (m-1)·CORRELATION for clusters of m.

What remains: on few images that flip as a whole an interval is still too narrow, for the image that would have flipped
may not be among them. `FEW` says below how many images a table has to say so.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from meteor_bench.report.student import t_quantiles

__all__ = ["CORRELATION", "FEW", "Design"]

# Correlation, within an image, of "this answer changed", assumed where none changed. Over the 98 benchmarks of the
# shipped model's first reference runs in which 8 to 60 answers went one way nine of ten stay below it (mean 0.03); with
# the mean in its place simulated benchmarks of 15 images are held in 85 of 100 where the correlation is this one, with
# it in 92 and more (docs/LOG.md).
CORRELATION = 0.15
# Clusters below which cluster-robust intervals are not to be trusted: 20 to 50 by A. C. Cameron and D. L. Miller, "A
# Practitioner's Guide to Cluster-Robust Inference", Journal of Human Resources 50 (2015), section VI.
FEW = 30

Floats = NDArray[np.float64]
_NUMBERS_AT_ONCE = 2_000_000


class _Part(NamedTuple):
    """Strata that share clusters.

    Attributes:
        pairs: indices of their pairs, cluster by cluster.
        starts: where in ``pairs`` each cluster begins.
        strata: how many strata.
    """

    pairs: NDArray[np.int64]
    starts: NDArray[np.int64]
    strata: int


def _part(pairs: NDArray[np.int64], cluster: NDArray[np.int64], stratum: NDArray[np.int64]) -> _Part:
    order = np.argsort(cluster, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(cluster[order]) != 0])
    return _Part(pairs[order], starts, np.unique(stratum).size)


def _shared(cluster: NDArray[np.int64], stratum: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The strata of each cluster that has several."""
    order = np.argsort(cluster, kind="stable")
    strata = np.split(stratum[order], np.flatnonzero(np.diff(cluster[order])) + 1)
    return [members for members in strata if members.size > 1]


class Design:
    """Which samples belong to which stratum and which cluster; all arrays of values are ``[..., n samples]``.

    A *pair* below is the samples that share both stratum and cluster.

    Attributes:
        sizes: [S] samples per stratum.
        pair_stratum: [P] stratum of each pair.
    """

    def __init__(self, strata: Sequence[Sequence[Hashable]]) -> None:
        """Count the clusters.

        Args:
            strata: the clusters' labels, one per sample; equal labels in different strata are one cluster.

        Raises:
            ValueError: no stratum, or one without samples.
        """
        if not strata or any(len(labels) == 0 for labels in strata):
            raise ValueError("a mean needs samples")
        number: dict[Hashable, int] = {}
        cluster = np.array([number.setdefault(label, len(number)) for labels in strata for label in labels])
        self.sizes = np.array([len(labels) for labels in strata])
        stratum = np.repeat(np.arange(len(strata)), self.sizes)
        self._order = np.lexsort((cluster, stratum))
        stratum, cluster = stratum[self._order], cluster[self._order]
        new = np.r_[True, (np.diff(stratum) != 0) | (np.diff(cluster) != 0)]
        self._pair_starts = np.flatnonzero(new)
        self._stratum_starts = np.r_[0, np.cumsum(self.sizes)[:-1]]
        self.pair_stratum = stratum[new]
        self._pair_size = np.diff(np.r_[self._pair_starts, stratum.size])
        self._pair_cluster = cluster[new]
        self._known: dict[bytes, list[_Part]] = {}

    def clusters(self, shares: ArrayLike) -> int:
        """How many clusters a weighted sum of means rests on.

        Args:
            shares: [S] weights of the strata; those of weight 0 do not count.
        """
        return int(np.unique(self._pair_cluster[np.asarray(shares)[self.pair_stratum] != 0]).size)

    def means(self, values: ArrayLike) -> Floats:
        """[..., S] mean of each stratum."""
        sums = np.add.reduceat(np.asarray(values, dtype=float), self._stratum_starts, axis=-1)
        return np.asarray(sums / self.sizes, dtype=float)

    def deviations(self, values: ArrayLike) -> Floats:
        """[..., P] each pair's part in its stratum's mean, less what it would be if all samples were alike.

        Linear in the values: deviations of a difference are the difference of the deviations.
        """
        array = np.asarray(values, dtype=float)
        size = self.sizes[self.pair_stratum]
        sums = np.add.reduceat(array[..., self._order], self._pair_starts, axis=-1)
        spread: Floats = (sums - self._pair_size * self.means(array)[..., self.pair_stratum]) / size
        return spread

    def half_width(
        self, deviations: Floats, shares: ArrayLike, *, level: float = 0.95, span: ArrayLike | None = None
    ) -> Floats:
        """[...] half the interval of Σ_s share_s · mean_s; NaN where there are too few clusters.

        Args:
            deviations: [..., P].
            shares: [S] weights of the strata; those of weight 0 do not count.
            span: the most that one sample can change by, for the floor, or [S] one for each stratum; None where
                values have no bounds.
        """
        weights = np.asarray(shares, dtype=float)
        parts = deviations * weights[self.pair_stratum]
        variance, spent = np.zeros(parts.shape[:-1]), np.zeros(parts.shape[:-1])
        for part in self._parts(weights != 0):
            clusters, freedom = part.starts.size, part.starts.size - part.strata
            if freedom < 1:
                return np.full(parts.shape[:-1], math.nan)
            totals = np.add.reduceat(parts[..., part.pairs], part.starts, axis=-1)
            own = clusters / freedom * np.einsum("...g,...g->...", totals, totals)
            variance += own
            spent += own**2 / freedom
        freedoms = np.divide(variance**2, spent, out=np.ones_like(variance), where=spent > 0)
        half: Floats = t_quantiles(0.5 + level / 2, freedoms) * np.sqrt(variance)
        return half if span is None else np.maximum(half, self.floor(weights * np.asarray(span, dtype=float), level))

    def _parts(self, used: NDArray[np.bool_]) -> list[_Part]:
        """The strata in use, those that share clusters together."""
        key = used.tobytes()
        if key not in self._known:
            pairs = np.flatnonzero(used[self.pair_stratum])
            stratum, cluster = self.pair_stratum[pairs], self._pair_cluster[pairs]
            group = np.arange(used.size)
            for members in _shared(cluster, stratum):
                group[np.isin(group, group[members])] = group[members[0]]
            self._known[key] = [
                _part(pairs[own], cluster[own], stratum[own])
                for own in (group[stratum] == g for g in np.unique(group[used]))
            ]
        return self._known[key]

    def cluster_totals(self, values: ArrayLike) -> Floats:
        """[G] sum of each cluster's values, whatever their stratum."""
        sums = np.add.reduceat(np.asarray(values, dtype=float)[self._order], self._pair_starts)
        return np.asarray(np.bincount(self._pair_cluster, sums), dtype=float)

    def resampled(self, values: ArrayLike, shares: ArrayLike, draws: int, generator: np.random.Generator) -> Floats:
        """[draws] the weighted sum of means after drawing as many clusters as there are, with replacement.

        Clusters are drawn among those of the same strata, so that every stratum keeps its number of them.
        """
        weights = np.asarray(shares, dtype=float)
        sums = np.add.reduceat(np.asarray(values, dtype=float)[self._order], self._pair_starts)
        members: dict[int, list[int]] = {}
        for pair, cluster in enumerate(self._pair_cluster):
            members.setdefault(int(cluster), []).append(pair)
        alike: dict[tuple[int, ...], list[list[int]]] = {}
        for pairs in members.values():
            alike.setdefault(tuple(self.pair_stratum[pairs].tolist()), []).append(pairs)
        total = np.zeros((draws, len(weights)))
        count = np.zeros((draws, len(weights)))
        for strata, group in alike.items():
            if not weights[list(strata)].any():
                continue
            table, chance = np.array(group), np.full(len(group), 1 / len(group))
            step = max(1, _NUMBERS_AT_ONCE // len(group))
            for rows in (slice(at, min(at + step, draws)) for at in range(0, draws, step)):
                times = generator.multinomial(len(group), chance, size=rows.stop - rows.start)
                for column, stratum in enumerate(strata):
                    total[rows, stratum] += times @ sums[table[:, column]]
                    count[rows, stratum] += times @ self._pair_size[table[:, column]]
        used = weights != 0
        means: Floats = total[:, used] / count[:, used]
        sums_of_means: Floats = means @ weights[used]
        return sums_of_means

    def floor(self, shares: ArrayLike, level: float = 0.95) -> float:
        """The half width where no sample was seen to change.

        Of all shares of changed samples, stratum by stratum, that go unseen often enough, the largest weighted sum:
        that of spending the whole allowance on the stratum where it weighs most.

        Args:
            shares: [S] weights of the strata, times the most that a sample of theirs can change by.
        """
        squares = np.bincount(self.pair_stratum, self._pair_size**2.0)
        design_effect = 1 + (squares / self.sizes - 1) * CORRELATION
        unseen = 1 - ((1 - level) / 2) ** (design_effect / self.sizes)
        return float(np.max(np.abs(np.asarray(shares, dtype=float)) * unseen))
