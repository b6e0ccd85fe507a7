"""The figures of the papers: all with a source, in their table's shape, and beside the run that they belong to."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from meteor_bench.core.errors import DataError, UnknownNameError
from meteor_bench.report.paper import numbers
from meteor_bench.report.paper.numbers import CONFIDENCE, Paper, PaperTable, paper, papers

ALL = [(paper(name), table) for name in papers() for table in paper(name).tables]
each_table = pytest.mark.parametrize(("of", "table"), ALL, ids=[f"{p.name}-{t.name}" for p, t in ALL])


def test_the_papers() -> None:
    assert papers()[:2] == ["meteor", "evoprune"]
    assert [table.name for table in paper("meteor").tables] == ["main", "claims", "fusion", "parts", "stages"]
    assert [table.name for table in paper("evoprune").tables] == ["image", "video", "ttft", "switches", "schedules"]


@each_table
def test_every_figure_has_a_source_and_a_confidence(of: Paper, table: PaperTable) -> None:
    source = of.sources[table.source]
    assert source.title and source.where and source.confidence in CONFIDENCE
    for row in table.rows:
        assert len(row.reported) in (0, len(table.columns)), row.name
        for figure, column in zip(row.reported, of.columns_of(table), strict=False):
            assert figure is None or isinstance(figure, float) or column.name == "tokens", (row.name, column.name)


@each_table
def test_a_row_runs_at_the_budget_that_it_reports(of: Paper, table: PaperTable) -> None:
    """Tokens over those of the unpruned row are what its ratio leaves; a paper's words may round to one per cent."""
    if "tokens" not in table.columns or table.name == "fusion":
        return  # the ablation of fusion counts against 1024 tokens that none of its rows has: see the next test
    at = table.columns.index("tokens")

    def tokens(figure: object) -> int:
        return int(str(figure).removesuffix(".0").rpartition("x")[2])

    whole = next((tokens(r.reported[at]) for r in table.rows if r.run and r.run.method == "none" and r.reported), None)
    for row in table.rows:
        if whole and row.reported and row.run:
            assert 1 - row.run.ratio == pytest.approx(tokens(row.reported[at]) / whole, abs=0.005), row.name


def test_the_fusion_ablation_ends_at_576_of_1024() -> None:
    rows = {row.name: row for row in paper("meteor").table("fusion").rows}
    for name in ("post-projection, random", "post-projection, cooperative"):
        run, reported = rows[name].run, rows[name].reported
        assert run is not None and run.ratio == 1 - 576 / 1024 and reported[0] == 576
    assert rows["post-projection, resampler"].run is None


def test_figures_copied_by_hand() -> None:
    """A few of each confidence, read again in the source's own layout."""
    main = {row.name: row.reported for row in paper("meteor").table("main").rows}
    assert main["METEOR"] == (242, 13.42, 71.4, 73.4, 63.5, 87.9, 71.1, 71.4, 533, 69.0)
    image = [row for row in paper("evoprune").table("image").rows if row.name == "EvoPrune"]
    assert [row.reported[-2:] for row in image] == [(74.9, 97.9), (72.9, 95.3), (68.7, 89.8)]
    fastv = {row.name: row.reported for row in paper("fastv").tables[0].rows}
    assert fastv["FastV"] == (60.4, 59.9, 35.2, 1511.7, 349.3)


def test_printed_averages_follow_from_their_terms() -> None:
    """EvoPrune's acc is five terms over 4 on images and a mean of three on videos; ours is worked out alike."""
    of = paper("evoprune")
    for table, own, divisor in (
        (of.table("image"), ("vqav2", "mme_perception", "mmbench_en", "mmbench_cn", "mmvet"), 4),
        (of.table("video"), ("mvbench", "longvideobench_val", "videomme"), 3),
    ):
        headline = [c.name for c in of.columns_of(table) if c.is_ == "benchmark" and c.tasks]
        assert headline == list(own)
        acc = next(column for column in of.columns_of(table) if column.title == "acc")
        assert acc.times / len(own) == pytest.approx(1 / divisor)
        for row in (row for row in table.rows if row.reported):
            told = dict(zip(table.columns, row.reported, strict=True))
            terms = sum(float(str(told[name])) * of.columns[name].to_points for name in own)
            assert terms / divisor == pytest.approx(told[acc.name], abs=0.15), row.name


def test_every_row_can_be_configured() -> None:
    """Methods take the parameters, stages and ratios that the tables give them."""
    from meteor_bench.core.budget import TokenBudget
    from meteor_bench.engine.make_method import make_pruner

    runs = {repr(run): run for _, table in ALL for row in table.rows for run in row.runs}
    assert len(runs) > 80
    for ratio in {run.ratio for run in runs.values()}:
        TokenBudget.from_ratio(ratio)
    methods = {repr((r.method, r.parameters, r.stages)): r for r in runs.values()}
    for run in methods.values():
        assert make_pruner(run.method, run.parameters, run.stages)


def test_unknown_names() -> None:
    with pytest.raises(UnknownNameError, match="unknown paper 'metor'; did you mean 'meteor'"):
        paper("metor")
    with pytest.raises(UnknownNameError, match="unknown table of meteor 'mian'; did you mean 'main'"):
        paper("meteor").table("mian")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("source: fastv", "source: fastw", "unknown source 'fastw'; did you mean 'fastv'"),
        ("mmmu_val", "mmmu_vall", "unknown column 'mmmu_vall'; did you mean 'mmmu_val'"),
        ("[62.0, ", "[", "unpruned has not a figure for each column"),
        ("rows:", "row:", "unknown key 'row'; did you mean 'rows'"),
    ],
)
def test_a_damaged_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, message: str
) -> None:
    text = (numbers.FOLDER / "fastv.yaml").read_text(encoding="utf-8")
    assert old in text
    shutil.copy(numbers.FOLDER / "common.yaml", tmp_path)
    (tmp_path / "fastv.yaml").write_text(text.replace(old, new, 1), encoding="utf-8")
    monkeypatch.setattr(numbers, "FOLDER", tmp_path)
    with pytest.raises(DataError, match=message):
        paper("fastv")
