"""p-values against scipy, enumeration and loops."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from meteor_bench.report.paired import bootstrap, exchange, holm, mcnemar
from meteor_bench.report.statistics import Design


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (0, 1), (5, 0), (3, 12), (12, 3), (9, 9), (40, 61), (0, 2500)])
def test_mcnemar_is_the_exact_binomial_test(gained: int, lost: int) -> None:
    wanted = stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert mcnemar(gained, lost) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize(("gained", "lost"), [(0, 1), (5, 0), (3, 12), (9, 9), (40, 61)])
def test_exchange_is_mcnemar_where_each_question_has_its_own_image(gained: int, lost: int) -> None:
    totals = [1] * gained + [-1] * lost + [0] * 30
    assert exchange(totals) == pytest.approx(mcnemar(gained, lost), rel=1e-9)


def test_exchange_against_all_signs() -> None:
    totals = [3, -1, -4, 2, 2, -6, -1, 0, -3]
    sums = [abs(np.dot(signs, totals)) for signs in itertools.product((1, -1), repeat=len(totals))]
    assert exchange(totals) == pytest.approx(np.mean([s >= abs(sum(totals)) for s in sums]))


def test_exchange_of_fractions_is_near_all_signs() -> None:
    totals = np.array([0.31, -1.2, -0.4, 0.25, 0.2, -0.61, -1.7, -0.33, -0.5, -0.05])
    sums = [abs(np.dot(signs, totals)) for signs in itertools.product((1, -1), repeat=totals.size)]
    wanted = np.mean([s >= abs(totals.sum()) - 1e-9 for s in sums])
    assert exchange(totals, draws=40_000) == pytest.approx(wanted, abs=4 * math.sqrt(wanted / 40_000))


def test_common_fate_is_no_evidence() -> None:
    """Twelve answers lost in one image say less than one lost in each of twelve."""
    assert exchange([-12]) == 1.0
    assert exchange([-1] * 12) == pytest.approx(2 / 2**12)


def test_bootstrap_against_a_loop() -> None:
    rng = np.random.default_rng(0)
    labels = [[f"a{i // 3}" for i in range(60)], [f"b{i // 2}" for i in range(30)]]
    values = rng.choice([-1.0, -0.4, 0.0, 0.7], 90, p=[0.1, 0.1, 0.7, 0.1])
    design, shares = Design(labels), [0.5, 0.5]
    draws = design.resampled(values, shares, 4000, np.random.default_rng(1))
    loop = []
    for _ in range(4000):
        means = []
        for part, clusters, size in ((values[:60], 20, 3), (values[60:], 15, 2)):
            chosen = rng.integers(0, clusters, clusters)
            means.append(part.reshape(clusters, size)[chosen].mean())
        loop.append(np.mean(means))
    assert draws.mean() == pytest.approx(np.mean(loop), abs=4 * np.std(loop) / math.sqrt(2000))
    assert draws.std() == pytest.approx(np.std(loop), rel=0.06)
    share = np.mean(np.array(loop) >= 0)
    assert bootstrap(design, values, shares) == pytest.approx(2 * min(share, 1 - share), abs=0.02)


def test_resampled_clusters_of_unequal_size_give_a_ratio() -> None:
    design = Design([["p", "q", "q", "q"]])
    draws = design.resampled([1.0, 0.0, 0.0, 0.0], [1.0], 2000, np.random.default_rng(0))
    assert set(np.unique(draws)) == {0.0, 0.25, 1.0}, "p twice, one of each, q twice"


def test_an_image_of_two_benchmarks_is_drawn_for_both() -> None:
    design = Design([["p", "q"], ["p", "q"]])
    draws = design.resampled([1.0, 0.0, -1.0, 0.0], [0.5, 0.5], 500, np.random.default_rng(0))
    assert not draws.any()


def test_nothing_differs() -> None:
    assert mcnemar(0, 0) == exchange([0, 0]) == exchange([]) == 1.0
    assert bootstrap(Design([list(range(5))]), np.zeros(5), [1.0]) == 1.0


def test_equal_runs_are_rarely_called_different() -> None:
    """Under the null p falls below 0.05 at most about that often, also where whole images flip together."""
    rng = np.random.default_rng(0)
    hits = np.zeros(2)
    for _ in range(400):
        image = rng.choice([-1, 0, 1], 40, p=[0.2, 0.6, 0.2])
        flips = np.where(rng.random((40, 5)) < 0.8, image[:, None], 0)
        hits += exchange(flips.sum(1)) < 0.05, mcnemar(int((flips > 0).sum()), int((flips < 0).sum())) < 0.05
    assert hits[0] / 400 < 0.08
    assert hits[1] / 400 > 0.2, "McNemar's test counts an image's questions one by one"


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    corrected = holm([0.02, math.nan, 0.01])
    assert corrected[0] == 0.02 and math.isnan(corrected[1]) and corrected[2] == 0.02
    assert holm([]) == []
