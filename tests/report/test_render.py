"""The printed tables: they fit, they agree with the records, programs can read them, every column is explained."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from meteor_bench.config.run_config import RunConfig
from meteor_bench.core.registry import METHODS
from meteor_bench.report import compare, formats, render
from meteor_bench.report.document import FORMATS
from meteor_bench.report.layout import lay_out, overview
from meteor_bench.report.rows import print_rows
from meteor_bench.report.runs import Cell, load
from meteor_bench.report.table import Table
from meteor_bench.runs.patches import flips
from tests import synthetic

EXPLAINED = Path(__file__).parents[2] / "results" / "README.md"


def terminal(cells: list[Cell], width: int) -> str:
    stream = io.StringIO()
    render.document(cells).write(stream, width=width)
    return stream.getvalue()


@pytest.mark.parametrize("width", [80, 200])
def test_the_terminal_is_not_overrun(runs: Mapping[str, Path], tmp_path: Path, width: int) -> None:
    config = RunConfig(
        method="meteor", ratio=0.889, stages=("encode", "fuse"), parameters={"heads": "all"}, out=tmp_path
    )
    synthetic.write(config)
    synthetic.write(replace(config, method="prumerge++sparsevlm"))
    for path in (runs["none"], runs["meteor0.76"], runs["none"].parent, tmp_path):
        text = terminal(load(path), width)
        assert max(map(len, text.splitlines())) <= width
        assert "…" not in text, "a cell was cut"


def test_all_methods_at_three_ratios(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Some eighty runs: a row for each setting, ratio by ratio, seeds folded; on a narrow and on a wide terminal."""
    cells = load(synthetic.whole(tmp_path_factory.mktemp("whole")))
    methods = [name for name in METHODS.names() if name != "none"]
    assert sum(len(cell.runs) for cell in cells) == 1 + 3 * (len(methods) + 2) and len(cells) == 1 + 3 * len(methods)
    wanted = {(method, ratio) for method in methods for ratio in (0.5, 0.76, 0.889)}
    for table in lay_out(cells):
        rows = [(i, *row[0].rsplit(" ", 1)) for i, row in enumerate(table.rows) if row[0] != "unpruned"]
        ratios = [float(ratio) for _, _, ratio in rows]
        assert {(name, float(ratio)) for _, name, ratio in rows} == wanted and len(rows) == len(wanted)
        assert ratios == sorted(ratios) and {float(ratio) for i, _, ratio in rows if i in table.breaks} >= {0.76, 0.889}
    averages = {row[0]: row for row in lay_out(cells)[0].rows}
    assert "±" in averages["random 0.5"][1] and "±" not in averages["uniform 0.5"][1]
    for width in (80, 200):
        text = terminal(cells, width)
        assert max(map(len, text.splitlines())) <= width and "…" not in text
        assert sum(line.startswith("random 0.76 ") for line in text.splitlines()) <= {80: 9, 200: 6}[width]


def test_a_table_too_wide_is_continued(runs: Mapping[str, Path]) -> None:
    cells = load(runs["none"].parent)
    narrow, wide = terminal(cells, 80), terminal(cells, 200)
    assert "Latency: pocket (continued)" in narrow and "(continued)" not in wide
    assert "Accuracy: pocket (continued)" not in narrow, "its last heading is stacked where that saves a part"
    for text in (narrow, wide):
        heads = [line.split() for line in text.splitlines()]
        assert sum("fused" in words for words in heads) == sum("faster" in words for words in heads) == 1
    assert "Difference to the unpruned model" in wide
    least = " ".join(terminal(cells, 60).split())
    assert "left out: Difference to the unpruned model per benchmark: pocket" in least


def test_the_overview_has_every_setting_and_benchmark(runs: Mapping[str, Path]) -> None:
    cells = load(runs["none"].parent)
    (table,) = overview(cells)
    # Ten images each.
    assert list(table.columns[4:]) == [f"{t.task.removeprefix('pocket_')}°" for t in cells[0].record.tasks]
    rows = {row[0]: row for row in table.rows}
    assert set(rows) == {"unpruned", "random 0.76", "meteor 0.5", "meteor 0.76"}
    (meteor,) = (cell for cell in cells if (cell.label, cell.ratio) == ("meteor", 0.76))
    scores = [task.score for task in meteor.record.tasks]
    assert rows["meteor 0.76"][1] == f"{sum(scores) / len(scores):.1f}" and rows["meteor 0.76"][3] == "61"
    assert list(rows["meteor 0.76"][4:]) == [f"{score:.1f}" for score in scores]
    assert "±" in rows["random 0.76"][1] and len(table.breaks) == 2


def test_one_setting_is_shown_beside_the_unpruned_run(runs: Mapping[str, Path]) -> None:
    text = terminal(load(runs["meteor0.76"]), 80)
    said_in = " ".join(text.split())
    score = next(t.score for t in load(runs["meteor0.76"])[0].record.tasks if t.task == "pocket_gqa")
    line = next(line for line in text.splitlines() if line.strip().startswith("pocket_gqa"))
    assert f"{score:.1f}" in line.split()
    for said in (
        "Accuracy",
        "Tokens",
        "Latency",
        "unpruned",
        "95 % interval",
        "METEOR average",
        "relative, %",
        "Ratio requested 0.7600 of 256 tokens, realised",
    ):
        assert said in said_in
    assert "adaptive: met on average" in said_in
    assert "meteor runs on pocket-independent; unpruned is pocket." in said_in


def test_what_was_measured_or_substituted_is_said(tmp_path: Path) -> None:
    facts = {"meteor.lambda": 31.5, "meteor.ranks": [{"a": 3.0}]}
    synthetic.write(RunConfig(method="meteor", ratio=0.5, out=tmp_path), facts=facts, note="tower 'c' is different")
    text = " ".join(terminal(load(tmp_path), 80).split())
    assert "meteor: tower 'c' is different." in text
    assert "which are never evaluated: meteor.lambda 31.5." in text


def test_a_substitution_names_its_method_once_or_its_ratios(tmp_path: Path) -> None:
    for method, ratio, note in [("fastv", 0.5, "n"), ("fastv", 0.76, "n"), ("trim", 0.5, "n"), ("trim", 0.76, "")]:
        synthetic.write(RunConfig(method=method, ratio=ratio, out=tmp_path), note=note)
    assert "fastv, trim 0.5: n." in terminal(load(tmp_path), 80)


def test_what_differs_between_runs_is_said_of_each(tmp_path: Path) -> None:
    synthetic.write(RunConfig(method="fastv", ratio=0.5, out=tmp_path))
    faster = replace(synthetic.ENVIRONMENT, device="GPU X", torch="2.16.0")
    synthetic.write(RunConfig(method="trim", ratio=0.5, out=tmp_path), environment=faster)
    text = " ".join(terminal(load(tmp_path), 80).split())
    assert "copied: fastv: lmms-eval 0.7.3, torch 2.15.0, transformers 5.23.0, float32, Test CPU, 1 thread(s)." in text
    assert "copied: trim: lmms-eval 0.7.3, torch 2.16.0, transformers 5.23.0, float32, GPU X, 1 thread(s)." in text


def test_few_images_are_marked(tmp_path: Path) -> None:
    """An image a question, but for one benchmark."""
    for method in ("none", "fastv", "trim"):
        config = RunConfig(method=method, ratio=0.0 if method == "none" else 0.5, out=tmp_path)
        rows = synthetic.samples(config)
        own = [replace(s, media_key=f"{s.task}/{s.doc_id}") if s.task != "pocket_pope" else s for s in rows]
        synthetic.write(config, rows=own)
    several, single = load(tmp_path), load(*tmp_path.glob("*fastv*"))
    benchmarks = next(t for t in lay_out(several) if t.title.startswith("Accuracy per benchmark"))
    assert [c for c in benchmarks.columns if "°" in c] == ["pope°"]
    assert [row[0] for row in lay_out(single)[0].rows if "°" in row[-1]] == ["pocket_pope"]
    for cells in (several, single):
        notes = [note for note in lay_out(cells)[0].notes if note.startswith("°")]
        assert notes == ["° on fewer than 30 images (pocket_pope 10), where an interval may be too narrow."]
    compared = compare.pair(*(run.path for cell in several if cell.pruned for run in cell.runs))
    table = compare.lay_out(compared, compare.comparison(compared))
    assert [row[0] for row in table.rows if "°" in row[3]] == ["pocket_pope"] and table.notes[-1].startswith("° fewer")


def test_a_rescaled_benchmark_is_said_to_be(tmp_path: Path) -> None:
    config = RunConfig(out=tmp_path)
    tasks = synthetic.record(config, synthetic.samples(config), None).tasks
    mme = replace(tasks[0], metric="mme_perception_score,none", score=75.4, metrics={"mme_perception_score,none": 1508})
    synthetic.write(config, tasks=(mme, replace(tasks[1], metrics={tasks[1].metric: tasks[1].score / 100}), *tasks[2:]))
    text = " ".join(terminal(load(tmp_path), 80).split())
    assert "pocket_scienceqa is rescaled: 1508 of mme_perception_score enters as 75.4." in text
    assert text.count("is rescaled") == 1


def test_an_adaptation_is_marked_in_every_table(tmp_path: Path) -> None:
    synthetic.write(RunConfig(out=tmp_path))
    for ratio in (0.5, 0.76):
        config = RunConfig(method="meteor", ratio=ratio, out=tmp_path)
        synthetic.write(config, note="shared fusion: training-free adaptation")
    text = terminal(load(tmp_path), 200)
    assert text.count("meteor† 0.5 ") == 6, "averages, benchmarks, differences, tokens, removed, latency"
    assert "†: training-free adaptation" in text


def test_several_settings_are_shown_a_row_each(runs: Mapping[str, Path]) -> None:
    lines = [line.split() for line in terminal(load(runs["none"].parent), 200).splitlines()]
    heads = [line[:2] for line in lines if line and line[0] in ("unpruned", "meteor", "random")]
    assert heads.count(["meteor", "0.5"]) == 6, "averages, benchmarks, differences, tokens, removed, latency"
    assert heads.count(["random", "0.76"]) == 6
    averages = next(line for line in lines if line[:2] == ["random", "0.76"])
    assert averages[3].startswith("±"), "mean and standard deviation over the seeds"


def test_only_the_best_is_bold(runs: Mapping[str, Path]) -> None:
    averages = lay_out(load(runs["none"].parent))[0]
    names = {averages.rows[i][0] for i, _ in averages.bold}
    assert names == {"meteor 0.76"}, "far ahead of random; at 0.5 it is alone"
    text = render.document(load(runs["none"].parent)).render("markdown")
    assert re.search(r"^\| meteor 0\.76 \| \*\*\d", text, flags=re.M)


def test_markdown_has_one_cell_per_column(runs: Mapping[str, Path]) -> None:
    for path in (runs["meteor0.5"], runs["none"].parent):
        tables = re.split(r"^### ", render.document(load(path)).render("markdown"), flags=re.M)[1:]
        assert len(tables) >= 3
        for table in tables:
            rows = [line for line in table.splitlines() if line.startswith("|")]
            assert len({row.count("|") for row in rows}) == 1 and len(rows) > 2


def test_markdown_takes_text_as_text() -> None:
    table = Table("t", ["", "a|b"], [["meteor[encode](layer=3)", "<b>x</b>\ny"]])
    assert formats.markdown([table]).splitlines()[2:] == [
        "|  | a\\|b |",
        "| --- | ---: |",
        "| meteor[encode]\\(layer=3) | &lt;b>x&lt;/b> y |",
    ]


def test_csv_and_json_agree(runs: Mapping[str, Path]) -> None:
    cells = load(runs["none"].parent)
    document = json.loads(render.document(cells).render("json"))
    assert len(document["runs"]) == len(runs)
    rows = list(csv.DictReader(io.StringIO(render.document(cells).render("csv"))))
    about = ("table", "model", "method", "ratio", "seeds", "name", "unit")
    lines = {tuple(r[key] for key in about): r for r in rows}
    assert len(lines) == len(rows), "no line is given twice"
    assert len(rows) == sum(map(len, document["tables"].values()))
    for table, content in document["tables"].items():
        for entry in content:
            text = {key: str(entry.get(key, "")) for key in about} | {"table": table, "ratio": f"{entry['ratio']:g}"}
            line = lines[tuple(text[key] for key in about)]
            for column, value in entry.items():
                if isinstance(value, float):
                    assert float(line[column]) == pytest.approx(value)


def test_no_path_of_this_machine_is_in_a_report(runs: Mapping[str, Path]) -> None:
    cells = load(runs["meteor0.5"])
    for form in FORMATS:
        text = render.document(cells).render(form)
        if form == "json":
            # The folder of runs is what the user gave with --out.
            text = text.replace(json.dumps(str(runs["none"].parent))[1:-1], "")
        assert "/" not in text.replace("unpruned / pruned", ""), form


def explained() -> set[str]:
    """What the tables of results/README.md explain: the words in code type of their first column."""
    lines = [line for line in EXPLAINED.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    return set(re.findall(r"`([^`]+)`", " ".join(line.split("|")[1] for line in lines)))


def test_every_column_is_explained(runs: Mapping[str, Path], tmp_path: Path) -> None:
    """Headings and rows' names of the printed tables, and the columns of CSV and JSON."""
    synthetic.write(RunConfig(method="meteor", ratio=0.5, out=tmp_path / "alone"), peak_memory=2**30)
    synthetic.write(RunConfig(method="random", ratio=0.5, out=tmp_path / "alone"), peak_memory=2**30)
    printed: set[str] = set()
    for path in (runs["none"], runs["meteor0.76"], runs["none"].parent, tmp_path / "alone"):
        cells = load(path)
        for table in lay_out(cells):
            printed |= set(table.columns)
            if table.title.startswith(("Tokens: pocket-", "Latency: pocket-")) or len(cells) == 1:
                printed |= {row[0] for row in table.rows}
        for frame in render.frames(cells).values():
            printed |= {"table", *frame.columns}
            if "unit" in frame or "mean" in frame:
                printed |= set(frame["name"])
    pair = compare.pair(runs["meteor0.5"], runs["meteor0.76"])
    frame = compare.comparison(pair)
    found = flips.flips(pair)
    printed |= {*compare.lay_out(pair, frame).columns, *frame.columns}
    printed |= {*flips.table(found).columns, *flips.rows(found)[0]}
    groups = set(synthetic.GROUPS.values())
    benchmarks = {name for task in synthetic.GROUPS for name in (task, f"{task.removeprefix('pocket_')}°")}
    shown = {re.sub(r", (ms|GFLOPs‡?|MiB)$", "", name) for name in printed} - groups - benchmarks - {""}
    shown = {re.sub(r"^encode(r?) [abc]$", r"encode\1", name) for name in shown} - {"a", "b", "c"}
    shown = {"(mean)" if name.endswith(" (mean)") else name for name in shown}
    assert shown - explained() == set()


def test_rows() -> None:
    stream = io.StringIO()
    print_rows([{"name": "x", "many": ["a", "b"], "flag": True, "long": "words"}], stream, aside=("long",))
    words = [word for word in stream.getvalue().split() if "─" not in word]
    assert words == ["name", "many", "flag", "x", "a,", "b", "yes", "x", "long:", "words"]
    stream = io.StringIO()
    print_rows([{"name": "x"}], stream, as_json=True)
    assert json.loads(stream.getvalue()) == [{"name": "x"}]
