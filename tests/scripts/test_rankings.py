"""Rank correlations of two folders of runs, beside scipy's and worked by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr

from scripts import rankings
from scripts.rankings import Suite, compared, methods_of, ranks, spearman

REFERENCE = Path("results/reference")


def test_ranks_and_correlation_are_scipys() -> None:
    rng = np.random.default_rng(0)
    for ties in (1, 4, 20):
        one, other = (np.floor(rng.random(20) * ties * 5) for _ in range(2))
        assert (ranks(one) == rankdata(one)).all()
        assert spearman(one, other) == pytest.approx(spearmanr(one, other).statistic)


def test_the_accuracy_is_that_of_questions_and_benchmarks_count_alike() -> None:
    right = {"a": np.array([[2.0, 1.0], [0.0, 1.0]]), "b": np.array([[1.0, 0.0]])}
    own = Suite(right, {"a": np.array([2.0, 1.0]), "b": np.array([1.0])})
    assert own.accuracy() == pytest.approx([100 * (2 / 3 + 1) / 2, 100 * (2 / 3) / 2])
    first = {"a": np.array([0, 0]), "b": np.array([0])}
    assert own.accuracy(first) == pytest.approx([100, 25])
    drawn = own.draw(np.random.default_rng(0))
    assert {name: len(index) for name, index in drawn.items()} == {"a": 2, "b": 1} and set(drawn["a"]) <= {0, 1}


def test_accuracies_are_those_of_the_records() -> None:
    """On the shipped references; POPE's headline is F1, of which single answers say nothing."""
    cells = methods_of(REFERENCE / "pocket", 0.76)
    tasks = ["pocket_gqa", "pocket_seed"]
    own = rankings.suite([cells["fastv"], cells["divprune"]], ["gqa", "seed"])
    expected = [np.mean([cells[name].headline(task).mean() for task in tasks]) for name in ("fastv", "divprune")]
    assert own.accuracy() == pytest.approx(expected)


def test_two_settings_of_one_suite() -> None:
    said = compared([REFERENCE / "pocket", REFERENCE / "pocket"], [0.76, 0.76], draws=20)
    assert said.startswith("Spearman 1.00, 95 % interval [0.9") and said.count("\n") > 40
    other = compared([REFERENCE / "pocket", REFERENCE / "pocket-flops"], [0.76, 0.3], draws=20)
    assert " methods, 0.76 and 0.3 removed, 12 benchmarks: " in other and not other.startswith("Spearman 1.00")


def test_methods_can_be_left_out() -> None:
    left = compared([REFERENCE / "pocket", REFERENCE / "natural"], [0.76, 0.76], ["random", "pool"], draws=5)
    whole = compared([REFERENCE / "pocket", REFERENCE / "natural"], [0.76, 0.76], draws=5)
    gone = {line.split(" | ")[0] for line in whole.splitlines()} - {line.split(" | ")[0] for line in left.splitlines()}
    assert {"| random", "| pool"} <= gone


def test_what_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        rankings.main([str(REFERENCE / "pocket"), str(REFERENCE / "pocket-flops"), "--ratio", "0.3"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "results/reference/pocket has no method at ratio 0.3\n"


def test_the_page_on_photographs_says_what_the_command_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(rankings.ROOT)
    folders = [Path("results/reference/pocket"), Path("results/reference/natural")]
    made = rankings.compared(folders, [0.76, 0.76], draws=2).splitlines()
    said, page = made[0], Path("docs/natural.md").read_text(encoding="utf-8")
    assert "\n".join(line for line in made if line.startswith("|")) in page
    correlation, methods = said.split()[1].rstrip(","), said.partition("(")[2].split()[0]
    assert f"between the {methods} methods" in page and f"rank correlation is {correlation} " in page
