"""`meteor-bench compare`: tests and flips of made-up runs against hand counts, scipy and brute force."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from meteor_bench import cli
from meteor_bench.cli.compare import run
from meteor_bench.config.run_config import RunConfig
from meteor_bench.core.errors import ConfigError, RecordError
from meteor_bench.records.reader import read_run
from meteor_bench.records.run_folder import find_runs
from meteor_bench.report.compare import Pair, comparison, lay_out, pair
from meteor_bench.runs.patches.flips import Flip, draw, flips, print_flips, rows, table
from tests import synthetic
from tests.estimates import mean

REFERENCE = Path(__file__).parents[2] / "results" / "reference" / "pocket"

# Documents (four to an image) that each run has wrong.
A_WRONG = {"pocket_gqa": [0, 1, 2, 3, 8, 9, 10, 20, 21], "pocket_pope": [5], "pocket_scienceqa": [0, 1]}
B_WRONG = {"pocket_gqa": [30], "pocket_pope": [5], "pocket_scienceqa": [4, 5, 6, 8, 9, 12, 13, 14, 16, 20, 24, 28]}


def written(out: Path, method: str, wrong: Mapping[str, list[int]], **changes: Any) -> Path:
    config = RunConfig(method=method, ratio=0.5, out=out)
    rows = [
        replace(s, score=float(s.doc_id not in wrong.get(s.task, [])), question=f"which colour has thing {s.doc_id}?")
        for s in synthetic.samples(config)
    ]
    if fraction := changes.pop("fraction", None):
        rows = [replace(s, score=s.score * fraction) if s.task == "pocket_textvqa" else s for s in rows]
    return synthetic.write(config, rows=rows, **changes)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    out = tmp_path_factory.mktemp("pair")
    return written(out, "fastv", A_WRONG), written(out, "tome", B_WRONG, fraction=0.9)


@pytest.fixture(scope="module")
def compared(paths: tuple[Path, Path]) -> Pair:
    return pair(*paths)


@pytest.fixture(scope="module")
def frame(compared: Pair) -> pd.DataFrame:
    return comparison(compared)


@pytest.fixture
def row(frame: pd.DataFrame) -> Callable[[str], dict[str, Any]]:
    return lambda name: next(r for r in frame.to_dict("records") if r["name"] == name)


def difference(task: str) -> np.ndarray:
    return np.array([float(d in A_WRONG.get(task, [])) - float(d in B_WRONG.get(task, [])) for d in range(40)])


@pytest.mark.parametrize("task", ["pocket_gqa", "pocket_pope", "pocket_scienceqa", "pocket_videomme"])
def test_a_benchmark_of_right_and_wrong(row: Callable[[str], dict[str, Any]], task: str) -> None:
    change, got = difference(task), row(task)
    gained, lost = int((change > 0).sum()), int((change < 0).sum())
    assert (got["gained"], got["lost"], got["n"]) == (gained, lost, 40)
    assert got["difference"] == pytest.approx(100 * change.mean()) == got["b"] - got["a"]
    wanted = mean(100 * change, [d // 4 for d in range(40)], span=100)
    assert (got["difference_low"], got["difference_high"]) == pytest.approx(wanted[1:])
    assert got["test"] == "McNemar"
    assert got["p"] == pytest.approx(stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0)
    # All signs that the images could have had.
    totals = change.reshape(10, 4).sum(1)
    sums = [abs(np.dot(signs, totals)) for signs in itertools.product((1, -1), repeat=10)]
    assert got["p_image"] == pytest.approx(np.mean([s >= abs(totals.sum()) for s in sums]))


def test_the_benchmarks_are_corrected_for_their_number(frame: pd.DataFrame) -> None:
    own = frame[frame["kind"] == "benchmark"]
    p = own["p_image"].tolist()
    order = sorted(range(5), key=lambda i: p[i])
    worst, wanted = 0.0, dict[int, float]()
    for rank, i in enumerate(order):
        worst = max(worst, min(1.0, (5 - rank) * p[i]))
        wanted[i] = worst
    assert own["holm"].tolist() == pytest.approx([wanted[i] for i in range(5)])
    assert frame.loc[frame["kind"] != "benchmark", "holm"].isna().all()
    assert (frame["different"] == (frame["holm"].fillna(frame["p_image"]) < 0.05)).all()
    assert frame["different"].any() and not frame["different"].all()


def test_fractions_are_resampled(row: Callable[[str], dict[str, Any]]) -> None:
    got = row("pocket_textvqa")
    assert (got["test"], got["gained"], got["lost"]) == ("bootstrap", 0, 40)
    assert got["p"] == pytest.approx(2 / 10_001), "no resample of forty losses is a gain; never exactly 0"
    assert got["p_image"] == pytest.approx(2 / 2**10, abs=4 * math.sqrt(2 / 2**10 / 20_000))


def test_an_average(compared: Pair, row: Callable[[str], dict[str, Any]]) -> None:
    got = row("average")
    change = [100 * difference(task).mean() for task in synthetic.GROUPS if task != "pocket_textvqa"]
    assert got["difference"] == pytest.approx((sum(change) - 10) / 5)
    assert got["n"] == 200 and got["test"] == "bootstrap"
    assert (got["gained"], got["lost"]) == (9 + 2, 1 + 12 + 40)


def test_seeds_are_compared_by_their_mean(tmp_path: Path) -> None:
    for seed in range(2):
        synthetic.write(RunConfig(method="random", ratio=0.5, seed=seed, out=tmp_path / "seeds"))
    other = written(tmp_path, "fastv", A_WRONG)
    made = pair(tmp_path / "seeds", other)
    assert made.a.seeds == [0, 1]
    got = comparison(made).to_dict("records")[0]
    headlines = [t.score for r in made.a.runs for t in r.record.tasks if t.task == got["name"]]
    assert got["a"] == pytest.approx(np.mean(headlines)) and got["test"] == "bootstrap"
    with pytest.raises(ConfigError, match=r"random 0.5 is 2 seeds with answers of their own"):
        flips(made)


def test_flips_are_listed_with_both_answers(compared: Pair) -> None:
    found = [flip for flip in flips(compared) if flip.a.task != "pocket_textvqa"]
    up = {flip.name for flip in found if flip.gained}
    down = {flip.name for flip in found if not flip.gained}
    assert up == {f"pocket_gqa/{d}" for d in A_WRONG["pocket_gqa"]} | {"pocket_scienceqa/0", "pocket_scienceqa/1"}
    assert down == {"pocket_gqa/30"} | {f"pocket_scienceqa/{d}" for d in B_WRONG["pocket_scienceqa"]}
    assert [flip.a.task for flip in found] == sorted((f.a.task for f in found), key=list(synthetic.GROUPS).index)


def printed(paths: tuple[Path, Path], **options: Any) -> str:
    stream = io.StringIO()
    run(*paths, stream, **{"format": "terminal", "samples": True, **options})
    return stream.getvalue()


def test_the_terminal(paths: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = printed(paths)
    assert max(map(len, text.splitlines())) <= 80
    line = next(line.split() for line in text.splitlines() if line.startswith("pocket_gqa "))
    assert line[1:4] == ["77.5", "97.5", "+20.0"] and line[5:7] == ["9", "1"]
    assert "pocket_gqa/30  down, 1 to 0  colour" in text and "which colour has thing 30?" in text
    assert "pocket_gqa/30" not in printed(paths, samples=False)


def test_programs_can_read_it(paths: tuple[Path, Path], frame: pd.DataFrame) -> None:
    document = json.loads(printed(paths, format="json"))
    assert (document["a"]["name"], document["b"]["folders"]) == ("fastv 0.5", [paths[1].name])
    by_name = {r["name"]: r for r in document["tables"]["comparison"]}
    assert by_name["pocket_gqa"]["p"] == pytest.approx(frame.set_index("name").loc["pocket_gqa", "p"], rel=1e-5)
    flipped = {r["sample"]: r for r in document["tables"]["samples"]}
    assert flipped["pocket_gqa/30"]["reference"] == "red" and flipped["pocket_gqa/30"]["b_score"] == 0
    lines = list(csv.DictReader(io.StringIO(printed(paths, format="csv"))))
    assert {line["table"] for line in lines} == {"comparison", "samples"}
    assert len(lines) == sum(map(len, document["tables"].values()))
    assert "samples" not in json.loads(printed(paths, format="json", samples=False))["tables"]


def test_the_list_names_the_pictures(compared: Pair, tmp_path: Path) -> None:
    found = flips(compared)
    assert "picture" not in rows(found)[0] and "--pictures DIR draws" in listed(found, None)
    wanted = tmp_path / "pocket_gqa-30.png"
    assert {r["sample"]: r["picture"] for r in rows(found, tmp_path)}["pocket_gqa/30"] == str(wanted)
    assert [row[-1] for row in table(found, tmp_path).rows] == [r["picture"] for r in rows(found, tmp_path)]
    assert f"kept patches: {wanted}" in listed(found, tmp_path) and "--pictures DIR" not in listed(found, tmp_path)


def listed(found: Sequence[Flip], pictures: Path | None) -> str:
    out = io.StringIO()
    print_flips(found, out, 2000, pictures)
    return out.getvalue()


@pytest.mark.parametrize("form", ["markdown", "latex"])
def test_for_papers(paths: tuple[Path, Path], form: str) -> None:
    text = printed(paths, format=form)
    for said in ("fastv 0.5 (A) and tome 0.5 (B)", "which colour has thing 30?", "Holm"):
        assert said in text


def test_only_what_is_different_is_bold(compared: Pair, frame: pd.DataFrame) -> None:
    table = lay_out(compared, frame)
    assert {table.rows[i][0].removesuffix(" (mean)") for i, _ in table.bold} == set(
        frame.loc[frame["different"], "name"]
    )


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["meteor-bench", "compare", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit:
            cli.main()
        captured = capsys.readouterr()
        return int(exit.value.code or 0), captured.out, captured.err

    return call


def test_from_the_command_line(call: Callable[..., tuple[int, str, str]], paths: tuple[Path, Path]) -> None:
    code, out, err = call(*paths, "--samples", "--format", "csv")
    assert (code, err) == (0, "") and out.startswith("table,kind,name")


def test_what_cannot_be_compared_is_one_line_that_names_both(
    call: Callable[..., tuple[int, str, str]], tmp_path: Path, paths: tuple[Path, Path]
) -> None:
    good = paths[0]
    config = RunConfig(method="trim", ratio=0.5, out=tmp_path / "limit")
    tasks = synthetic.record(config, synthetic.samples(config), None).tasks
    fewer = synthetic.write(config, n=8)
    data = synthetic.write(
        replace(config, out=tmp_path / "data"), tasks=tuple(replace(t, data="e" * 64) for t in tasks)
    )
    rows = [s for s in synthetic.samples(config) if s.task != "pocket_gqa"]
    benchmarks = synthetic.write(replace(config, out=tmp_path / "tasks"), rows=rows)
    for other in (fewer, data, benchmarks):
        code, out, err = call(good, other)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert str(good) in err and str(other) in err and "answered different questions in" in err
    assert "pocket_gqa;" in call(good, benchmarks)[2], "and which"


def test_what_is_no_pair(call: Callable[..., tuple[int, str, str]], tmp_path: Path, paths: tuple[Path, Path]) -> None:
    (tmp_path / "empty").mkdir()
    cut = written(tmp_path, "fastv", A_WRONG)
    (cut / "run.json").write_bytes((cut / "run.json").read_bytes()[:300])
    for arguments, said in [
        ((paths[0], paths[0]), "are the same run"),
        ((paths[0].parent, paths[1]), "holds 2 settings (fastv 0.5, tome 0.5 ...)"),
        ((paths[0], tmp_path / "empty"), "holds no run"),
        ((paths[0], cut), "run.json is cut or no record"),
        ((paths[0],), "Missing argument 'B'"),
    ]:
        code, out, err = call(*arguments)
        assert (code, out, err.count("\n")) == (2, "", 1) and said in err


def test_other_documents_under_equal_digests(tmp_path: Path, paths: tuple[Path, Path]) -> None:
    config = RunConfig(method="trim", ratio=0.5, out=tmp_path)
    other = synthetic.write(config, rows=[replace(s, doc_id=s.doc_id + 1) for s in synthetic.samples(config)])
    with pytest.raises(RecordError, match="answered different documents of pocket_scienceqa"):
        pair(paths[0], other)


def test_pictures_that_are_there_are_left(tmp_path: Path, compared: Pair) -> None:
    found = flips(compared)[:2]
    for flip in found:
        (tmp_path / f"{flip.name.replace('/', '-')}.png").write_bytes(b"drawn")
    assert draw(compared, found, tmp_path) == 0


@pytest.mark.slow
def test_pictures_of_flips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both settings and the unpruned model are drawn, and answer as they did in the committed records."""
    from PIL import Image

    folders = {(r.config.method, r.config.ratio): f for f in find_runs(REFERENCE) if (r := read_run(f))}
    made = pair(folders["none", 0.0], folders["fastv", 0.76])
    found = flips(made)[:2]
    assert draw(made, found, tmp_path) == 2
    for flip in found:
        with Image.open(tmp_path / f"{flip.name.replace('/', '-')}.png") as picture:
            assert (
                picture.width > 400 and len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 99
            )
    assert "answered differently now" not in capsys.readouterr().err
