"""Our number beside the reported one, or apart from it; marks, sources, empty cells; all formats."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from meteor_bench.config.run_config import RunConfig
from meteor_bench.records.reader import read_latency, read_run
from meteor_bench.report.document import FORMATS
from meteor_bench.report.paper.document import document as document_of
from meteor_bench.report.paper.layout import Filled, tables
from meteor_bench.report.paper.numbers import CONFIDENCE, paper, papers
from meteor_bench.report.table import Table
from meteor_bench.runs.paper import Request

Fill = Callable[..., tuple[Request, list[Filled]]]


def cells(table: Table) -> dict[str, dict[str, str]]:
    """Row -> heading -> text."""
    return {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}


def scores(path: Path) -> dict[str, float]:
    return {task.task: task.score for task in read_run(path).tasks}


def test_beside_each_other_on_the_papers_model(fill: Fill, runs: Mapping[str, Path]) -> None:
    table, other = tables(fill()[1])
    shown = cells(table)
    unpruned, pruned = scores(runs["none"]), scores(runs["meteor0.76"])
    assert shown["unpruned"]["gqa"] == f"{unpruned['pocket_gqa']:.1f} (95.0§)"
    assert shown["METEOR"]["gqa"] == f"{pruned['pocket_gqa']:.1f} (93.0§)"
    assert shown["METEOR"]["tokens"] == "61 (4x15§)"
    assert shown["METEOR"]["mmvet"] == "(30.0§)", "no such benchmark was asked"
    assert shown["METEOR"]["acc"] == "(75.0§)", "an average that lacks a term is none"
    assert shown["FastV"]["pope"] == "(81.0§)" and shown["resampler"]["gqa"] == "(50.5§)", "not run"
    assert shown["METEOR"]["general"] == f"{(pruned['pocket_gqa'] + pruned['pocket_pope']) / 2:.1f}", "not reported"
    assert set(cells(other)["FastV"].values()) == {"FastV", ""}, "neither"
    assert table.breaks == {4} and table.columns[1:] == [c.title for c in fill()[1][0].columns]
    (told,) = (note for note in table.notes if "§" in note)
    source = paper("madeup").sources["fastv"]
    assert source.title in told and source.where in told and CONFIDENCE["readme"] in told and "LLaVA-1.5" in told
    assert "A note of the table." in table.notes and any(
        note == "METEOR; one half, not a quarter: runs on pocket-independent." for note in table.notes
    )


def test_numbers_worked_out_by_hand(fill: Fill, runs: Mapping[str, Path]) -> None:
    asked = ("pocket_scienceqa", "pocket_gqa", "pocket_pope", "pocket_textvqa")
    unpruned, pruned = scores(runs["none"]), scores(runs["meteor0.76"])
    rows = fill()[1][0].measured
    meteor = {name: value.value for name, value in rows[1].items()}
    average = np.mean([pruned[task] for task in asked])
    assert meteor["average"] == pytest.approx(average)
    general = (pruned["pocket_gqa"] + pruned["pocket_pope"]) / 2
    groups = [pruned["pocket_scienceqa"], general, pruned["pocket_textvqa"]]
    assert meteor["group_average"] == pytest.approx(np.mean(groups))
    assert meteor["dropped"] == pytest.approx(np.mean([unpruned[task] for task in asked]) - average)
    ends: dict[str, list[float]] = {"run": [], "unpruned": []}
    for sample in read_latency(runs["meteor0.76"]):
        ends[sample.session].append(sample.times["end_to_end_ms"])
    assert meteor["overall"] == pytest.approx(np.median(ends["run"]) / np.median(ends["unpruned"]))
    seeds = [scores(runs[f"random{seed}"])["pocket_gqa"] for seed in range(3)]
    assert rows[4]["gqa"].value == pytest.approx(np.mean(seeds))
    assert rows[5]["gqa"].value == pytest.approx(scores(runs["meteor0.5"])["pocket_gqa"] - pruned["pocket_gqa"])
    assert rows[0]["overall"].value == 1.0 and not rows[2] and not rows[3]


def test_a_baseline_that_does_not_reproduce_is_marked(fill: Fill) -> None:
    """The reported figure lies outside the interval of the unpruned model's score."""
    _, filled = fill(gqa=70.0)
    table = tables(filled)[0]
    assert "baseline does not reproduce" in table.title and table.columns[2] == "gqa†" and table.columns[3] == "pope"
    (note,) = (note for note in table.notes if note.startswith("†"))
    assert "reported 70.0" in note
    assert filled[0].baseline == "does not reproduce" and filled[1].baseline == "not compared"
    document = json.loads(document_of(filled).render("json"))
    assert document["tables"]["main"]["baseline"] == "does not reproduce"
    assert {n["column"] for n in document["tables"]["main"]["numbers"] if "mark" in n} == {"gqa"}
    _, close = fill()
    assert close[0].baseline == "reproduces" and "†" not in document_of(close).render("markdown")


def test_apart_on_another_model(fill: Fill, runs: Mapping[str, Path]) -> None:
    _, filled = fill(like="llava-1.5-7b")
    ours, theirs, other = tables(filled)
    assert "on pocket" in ours.title and "not the paper's model" in ours.notes[0] and "§" not in str(ours.rows)
    assert "mmvet" not in ours.columns and "mmvet" in " ".join(ours.notes)
    assert cells(ours)["METEOR"]["gqa"] == f"{scores(runs['meteor0.76'])['pocket_gqa']:.1f}"
    assert "resampler" not in cells(ours), "it cannot be run here"
    assert theirs.title == "Made-up main, reported§ for another model" and "LLaVA-1.5" in theirs.notes[0]
    assert cells(theirs)["METEOR"]["gqa"] == "93.0" and "control: random" not in cells(theirs)
    assert len(theirs.columns) == 12 and other.title == "Made-up: Another, on pocket"
    assert filled[0].baseline == "not compared", "figures of two models have nothing to reproduce"


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("like", ["pocket", "llava-1.5-7b"])
def test_every_format_has_every_reported_figure(fill: Fill, form: str, like: str) -> None:
    _, filled = fill(like=like)
    text = document_of(filled).render(form)
    for figure in ("93.0", "50.5", "4x15") if form in ("markdown", "latex") else ("93", "50.5", "4x15"):
        assert figure in text
    if form == "csv":
        rows = list(csv.DictReader(io.StringIO(text)))
        reported = [row for row in rows if row["origin"] == "reported"]
        assert all(row["source"] and row["confidence"] == "readme" for row in reported)
        given = [f for row in filled[0].table.rows for f in row.reported if f is not None]
        assert len(reported) == len(given) and not any(row["value"] == row["text"] == "" for row in rows)
        assert {row["model"] for row in rows if row["origin"] == "measured"} == {"pocket"}


@pytest.mark.parametrize("name", papers())
@pytest.mark.parametrize("model", ["pocket", None])
def test_without_any_run_the_tables_have_the_papers_shape(name: str, model: str | None, tmp_path: Path) -> None:
    """Every reported row and figure is there; of ours, only the empty cells."""
    of = paper(name)
    for table in of.tables:
        request = Request(name, RunConfig(out=tmp_path / "none"), table.name, model or (*table.like, "pocket")[0])
        made = tables(request.filled())
        shown = [cell for one in made for row in one.rows for cell in row[1:]]
        figures = [figure for row in table.rows for figure in row.reported if figure is not None]
        assert sum(cell != "" for cell in shown) == len(figures)
        if any(row.reported for row in table.rows):
            wide = made[-1]
            assert [column.rstrip("†") for column in wide.columns[1:]] == [c.title for c in of.columns_of(table)]
            assert {row.name for row in table.rows if row.reported} <= set(cells(wide))


def test_the_terminal_prints_them_all(fill: Fill) -> None:
    request, _ = fill()
    out = io.StringIO()
    request.document().write(out)
    assert "A table" in out.getvalue() and "Another" in out.getvalue()
