"""LaTeX, read back cell by cell by a parser that is not ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from pylatexenc.latexwalker import LatexWalkerParseError

from meteor_bench.config.run_config import RunConfig
from meteor_bench.report import formats, render
from meteor_bench.report.compare import comparison, pair
from meteor_bench.report.compare import lay_out as lay_out_pair
from meteor_bench.report.layout import lay_out, overview
from meteor_bench.report.paper.layout import tables
from meteor_bench.report.paper.numbers import papers
from meteor_bench.report.runs import load
from meteor_bench.report.table import Table
from meteor_bench.runs.paper import Request
from meteor_bench.runs.patches.flips import flips
from meteor_bench.runs.patches.flips import table as sample_table
from tests.latex import plain, read

NASTY = "x & y {z} \\ ~ ^ # $ | 50 % a_b <c> §†‡ ° ±1 −2 → ≤ ≥ ² × –"


def assert_same(made: list[Table], text: str) -> None:
    """Every caption, cell, bold mark and note came through."""
    found = read(text)
    assert [t.caption for t in found] == [plain(t.title) for t in made]
    for there, table in zip(found, made, strict=True):
        assert re.fullmatch("lr+", there.columns) and len(there.columns) == len(table.columns)
        assert there.rows == [[plain(cell) for cell in row] for row in (table.columns, *table.rows)]
        assert there.bold == {(i + 1, j) for i, j in table.bold}
        for note in table.notes:
            assert plain(note) in there.notes


def test_reports(runs: Mapping[str, Path]) -> None:
    for path in (runs["meteor0.5"], runs["none"], runs["none"].parent):
        cells = load(path)
        assert_same(lay_out(cells), render.document(cells).render("latex"))
    assert_same(overview(cells), formats.latex(overview(cells)))


@pytest.mark.parametrize("name", papers())
def test_papers(name: str, runs: Mapping[str, Path]) -> None:
    made = tables(Request(name, RunConfig(out=runs["none"].parent)).filled())
    assert_same(made, formats.latex(made))


def test_comparisons(runs: Mapping[str, Path]) -> None:
    compared = pair(runs["none"], runs["meteor0.5"])
    made = [lay_out_pair(compared, comparison(compared)), sample_table(flips(compared))]
    assert made[1].rows
    assert_same(made, formats.latex(made))


@pytest.mark.parametrize("detail", [False, True])
def test_text_is_text(detail: bool) -> None:
    rows = [[NASTY, NASTY], ["[x] y", "-0.5 ±0.1"], ["*", "[-0.1, +2.0]"]]
    table = Table(NASTY, ["", NASTY], rows, frozenset({1}), [NASTY, "b"], frozenset({(0, 0), (1, 1)}), detail)
    text = formats.latex([table, table])
    assert_same([table, table], text)
    assert text.count("\\midrule") == 4 and text.count("\\toprule") == text.count("\\bottomrule") == 2
    # What follows a row's end or a rule is not its argument.
    assert not re.search(r"(\\\\|rule)\s*[\[*]", text)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\\textbf{", "\\textbf"),
        ("\\end{tabular}", ""),
        ("\\_", "_"),
        ("\\%", "%"),
        ("\\#", "#"),
        ("$\\pm$", "$\\pm"),
        ("$\\pm$", "\\pm"),
        ("\\&", "&"),
        (" & ", " "),
        (" \\\\\n\\bottomrule", "\n\\bottomrule"),
    ],
)
def test_what_is_broken_is_noticed(old: str, new: str) -> None:
    table = Table("a_b", ["", "c"], [[NASTY, "1"], ["d", "2"]], bold=frozenset({(0, 1)}))
    text = formats.latex([table])
    assert old in text
    with pytest.raises((AssertionError, LatexWalkerParseError)):
        assert_same([table], text.replace(old, new, 1))
