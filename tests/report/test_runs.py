"""Which runs become a cell, which cells stand in one table, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from meteor_bench.config.run_config import RunConfig
from meteor_bench.core.errors import RecordError
from meteor_bench.report.layout import lay_out
from meteor_bench.report.render import frames
from meteor_bench.report.runs import load
from meteor_bench.report.sections import Section, sections
from tests import synthetic


def test_seeds_become_one_cell_and_every_cell_finds_its_unpruned_run(runs: Mapping[str, Path]) -> None:
    cells = load(runs["none"].parent)
    assert [(c.label, c.ratio, c.seeds) for c in cells] == [
        ("unpruned", 0.0, [0]),
        ("meteor", 0.5, [0]),
        ("meteor", 0.76, [0]),
        ("random", 0.76, [0, 1, 2]),
    ]
    assert [c.unpruned is None for c in cells] == [True, False, False, False]


def test_several_folders_are_read_as_one(runs: Mapping[str, Path]) -> None:
    whole = load(runs["none"].parent)
    apart = load(runs["meteor0.76"], *(runs[f"random{seed}"] for seed in range(3)), runs["none"].parent, runs["none"])
    assert [(c.label, c.seeds, c.unpruned is None) for c in apart] == [
        (c.label, c.seeds, c.unpruned is None) for c in whole
    ]


def test_an_unpruned_run_beside_the_folder_is_found(runs: Mapping[str, Path]) -> None:
    (cell,) = load(runs["meteor0.5"])
    assert cell.unpruned is not None and cell.unpruned.runs[0].path == runs["none"]
    (section,) = sections([cell])
    assert section.labels == ("unpruned", "meteor")


def test_rows_are_unpruned_then_by_ratio_controls_then_the_best(tmp_path: Path) -> None:
    for method, right in {"none": 0.9, "fastv": 0.6, "meteor": 0.8, "downsample": 0.5, "random": 0.4}.items():
        ratios = (0.0,) if method == "none" else (0.76, 0.5)
        for ratio in ratios:
            synthetic.write(RunConfig(method=method, ratio=ratio, out=tmp_path), share_right=right)
    (section,) = sections(load(tmp_path))
    order = ["random", "downsample", "meteor", "fastv"]
    assert section.labels == ("unpruned", *order, *order)
    assert [cell.ratio for cell in section.cells] == [0.0] + [0.5] * 4 + [0.76] * 4


def test_of_a_repeated_run_the_later_one_counts(tmp_path: Path) -> None:
    config = RunConfig(method="meteor", ratio=0.5, out=tmp_path / "a")
    first = synthetic.write(config, share_right=0.2)
    again = synthetic.write(replace(config, out=tmp_path / "b"), share_right=0.9, started="2026-01-03T00:00:00+00:00")
    for order in ((first, again), (again, first)):
        (cell,) = load(*order)
        assert cell.runs[0].path == again


def test_cells_of_one_name_are_told_apart(tmp_path: Path) -> None:
    environment = replace(synthetic.ENVIRONMENT, dtype="bfloat16")
    config = RunConfig(method="fastv", ratio=0.5, out=tmp_path)
    synthetic.write(config)
    synthetic.write(replace(config, dtype="bfloat16"), environment=environment)
    other = replace(environment, code="e" * 64)
    synthetic.write(replace(config, dtype="bfloat16", out=tmp_path / "x"), environment=other, fingerprint="f" * 64)
    (section,) = sections(load(tmp_path, tmp_path / "x"))
    assert set(section.labels) == {
        "fastv (float32)",
        "fastv (bfloat16, code cccccccc)",
        "fastv (bfloat16, code eeeeeeee)",
    }


def test_models_and_suites_stand_apart(tmp_path: Path) -> None:
    synthetic.write(RunConfig(out=tmp_path))
    synthetic.write(RunConfig(model="pocket-independent", out=tmp_path))
    config = RunConfig(dtype="float16", out=tmp_path)
    synthetic.write(config, rows=[s for s in synthetic.samples(config) if s.task == "pocket_gqa"])
    found = {(s.model, len(s.tasks)) for s in sections(load(tmp_path))}
    assert found == {("pocket", 5), ("pocket-independent", 5), ("pocket", 1)}


def test_labels(tmp_path: Path) -> None:
    config = RunConfig(
        method="meteor",
        ratio=0.5,
        stages=("encode", "fuse"),
        parameters={"layer": 3},
        positions="renumber",
        out=tmp_path,
    )
    synthetic.write(config)
    assert load(tmp_path)[0].label == "meteor[encode,fuse](layer=3, positions=renumber)"


@pytest.mark.parametrize(
    "where", [{"note": "shared fusion: training-free adaptation"}, {"facts": {"meteor.kind": "x"}}]
)
def test_an_adaptation_is_called_one_where_the_record_says_so(tmp_path: Path, where: dict) -> None:
    if "facts" in where:
        where = {"facts": {"meteor.kind": "training-free adaptation"}}
    synthetic.write(RunConfig(method="meteor", ratio=0.5, out=tmp_path / "a"), **where)
    synthetic.write(RunConfig(method="meteor", ratio=0.5, out=tmp_path / "b"), note="no class token")
    assert load(tmp_path / "a")[0].label == "meteor (training-free adaptation)"
    assert load(tmp_path / "b")[0].label == "meteor"


def test_different_questions_are_not_compared_with_the_unpruned_run(tmp_path: Path) -> None:
    synthetic.write(RunConfig(out=tmp_path), n=8)
    synthetic.write(RunConfig(method="meteor", ratio=0.5, out=tmp_path), n=4)
    with pytest.raises(RecordError, match="answered different questions in pocket_gqa") as caught:
        load(tmp_path)
    assert "-none-" in str(caught.value) and "-meteor-" in str(caught.value)


def test_different_questions_do_not_stand_in_one_table(tmp_path: Path) -> None:
    """Neither other documents nor the same ones with other content: each has tables of its own, whose titles say so."""
    for name, changes in {"limit": {"n": 4}, "data": {}}.items():
        config = RunConfig(method="fastv", ratio=0.5, out=tmp_path / name)
        synthetic.write(config, n=8)
        other = replace(config, method="random")
        if name == "data":
            record = synthetic.record(other, synthetic.samples(other, n=8), None)
            changes = {"n": 8, "tasks": tuple(replace(t, data="e" * 64) for t in record.tasks)}
        synthetic.write(other, **changes)
        apart = sections(load(tmp_path / name))
        assert [[cell.label for cell in section.cells if cell.pruned] for section in apart] == [["fastv"], ["random"]]
        first, second = apart
        assert first.of != second.of and first.data != second.data and first.model == second.model == "pocket"
        assert [section.questions for section in apart] == [8 * 5, changes["n"] * 5]
        if name == "limit":
            assert [section.of for section in apart] == [", 40 questions", ", 20 questions"]
        titles = {table.title for table in lay_out(load(tmp_path / name))}
        assert all(any(title.endswith(section.of) for title in titles) for section in apart)
        frame = frames(load(tmp_path / name))["accuracy"]
        assert frame.groupby("data")["method"].unique().map(set).to_dict() == {
            first.data: {"fastv", "random"} & {cell.label for cell in first.cells},
            second.data: {"random"},
        }


def test_own_data_are_told_apart_by_what_was_given(tmp_path: Path) -> None:
    for at, given in enumerate(("photos.jsonl", "pictures/: what is it")):
        config = RunConfig(method="fastv", ratio=0.5, tasks=(given,), out=tmp_path / str(at))
        samples = synthetic.samples(config, n=8)
        first = synthetic.record(config, samples, None).tasks[0]
        rows = [replace(sample, task="own_photos") for sample in samples if sample.task == first.task]
        synthetic.write(config, rows=rows, tasks=(replace(first, task="own_photos", data=str(at) * 64),))
    both = [cell for at in "01" for cell in load(tmp_path / at)]
    said = [section.of for section in sections(both)]
    assert said == [", 8 questions of photos.jsonl", ", 8 questions of pictures/: what is it"]


def test_other_documents_of_the_same_number_are_found(tmp_path: Path, section: Section) -> None:
    """Should a record's digests be equal although its samples are of other documents."""
    from meteor_bench.report.accuracy import accuracy

    config = RunConfig(method="fastv", ratio=0.5, out=tmp_path)
    synthetic.write(config)
    other = replace(config, method="random")
    synthetic.write(other, rows=[replace(s, doc_id=s.doc_id + 1) for s in synthetic.samples(other)])
    (mixed,) = sections(load(tmp_path))
    with pytest.raises(RecordError, match="answered different documents of pocket_scienceqa"):
        accuracy(mixed)


def test_samples_that_are_not_the_records(tmp_path: Path) -> None:
    config = RunConfig(out=tmp_path / "a")
    rows = synthetic.samples(config)
    synthetic.write(config, rows=rows[:-1], tasks=synthetic.record(config, rows, None).tasks)
    with pytest.raises(RecordError, match=r"run.json has 40 answers of pocket_videomme, its samples 39"):
        _ = load(tmp_path / "a")[0].scores
    extra = [*rows, replace(rows[0], task="pocket_new")]
    path = synthetic.write(replace(config, out=tmp_path / "b"), rows=extra)
    with pytest.raises(RecordError, match=r"samples of pocket_new, which run.json does not list"):
        _ = load(path)[0].scores


def test_a_score_on_another_scale_is_refused(tmp_path: Path) -> None:
    config = RunConfig(out=tmp_path)
    tasks = synthetic.record(config, synthetic.samples(config), None).tasks
    synthetic.write(config, tasks=(replace(tasks[0], score=1508.0), *tasks[1:]))
    with pytest.raises(RecordError, match="pocket_scienceqa scores 1508, which is on no scale of 0 to 100"):
        load(tmp_path)


def test_unfinished_runs_are_named_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unfinished = synthetic.write(RunConfig(out=tmp_path), status="partial")
    with pytest.raises(RecordError, match="is unfinished"):
        load(tmp_path)
    synthetic.write(RunConfig(method="meteor", ratio=0.5, out=tmp_path))
    assert [c.label for c in load(tmp_path)] == ["meteor"]
    assert f"{unfinished} is unfinished" in capsys.readouterr().err


def test_a_cut_record_is_named(tmp_path: Path) -> None:
    synthetic.write(RunConfig(out=tmp_path))
    path = synthetic.write(RunConfig(method="meteor", ratio=0.5, out=tmp_path))
    for name in ("samples.jsonl.gz", "run.json"):
        file = path / name
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        with pytest.raises(RecordError, match=name) as caught:
            _ = [cell.scores for cell in load(tmp_path)]
        assert "cut" in str(caught.value) and "\n" not in str(caught.value)


def test_a_foreign_folder(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing", encoding="utf-8")
    with pytest.raises(RecordError, match="holds no run"):
        load(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"name": "somebody else's"}), encoding="utf-8")
    with pytest.raises(RecordError, match="is no meteor-bench record"):
        load(tmp_path)
