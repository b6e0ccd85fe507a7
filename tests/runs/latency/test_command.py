"""`meteor-bench latency` on the shipped model, and what it says to mistakes."""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path

import pytest

from meteor_bench import cli
from meteor_bench.core.interrupts import Terminated
from meteor_bench.models import synthetic
from meteor_bench.runs.latency import command
from meteor_bench.runs.latency.records import read_cells
from meteor_bench.runs.latency.requests import QUESTION
from tests import hubs


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["meteor-bench", "latency", *arguments])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


def test_cells_are_timed_written_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--methods", "fastv", "--param", "fastv:layer=1", "--ratio", "0.5", "--batch", "1,2", "--warmup", "1"]
    given += ["--new-tokens", "2", "--out", str(tmp_path), "--device", "cpu"]
    assert call(monkeypatch, *given, "--passes", "2") == 0
    told = capsys.readouterr()
    assert told.out.rstrip().endswith(str(tmp_path)) and "A CPU" in told.out
    alone, pair = read_cells(tmp_path)
    assert (alone.batch, pair.batch) == (1, 2)
    assert [row.name for row in pair.rows] == ["unpruned", "eager", "fastv(layer=1)"]
    for row in pair.rows:
        kept = [count for sample in row.samples for count in sample["tokens"]["kept"]]
        assert kept == [128 if row.name.startswith("fastv") else 256] * 4
    assert {p.name for p in tmp_path.iterdir()} >= {"latency.md", "latency.csv", "latency.json"}

    # Again: what is finished is kept.
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*-b*")}
    assert call(monkeypatch, *given, "--passes", "2", "--format", "json") == 0
    told = capsys.readouterr()
    assert told.err.count("taken from") == 2 and len(json.loads(told.out)["cells"]) == 2
    assert {p: p.stat().st_mtime_ns for p in tmp_path.glob("*-b*")} == before
    # Another setting is timed beside it, and replaces nothing; going back times nothing.
    given[given.index("1,2")] = "1"
    assert call(monkeypatch, *given, "--passes", "1") == 0
    assert "taken from" not in capsys.readouterr().err
    assert {p: p.stat().st_mtime_ns for p in before} == before
    found = read_cells(tmp_path)
    assert sorted(len(c.rows[0].samples) for c in found if c.batch == 1) == [1, 2] and len(found) == 3
    tables = (tmp_path / "latency.md").read_text(encoding="utf-8")
    assert all(f"ratio 0.5, batch 1, record {c.record}" in tables for c in found if c.batch == 1)
    assert call(monkeypatch, *given, "--passes", "2") == 0
    assert capsys.readouterr().err.count("taken from") == 1 and len(read_cells(tmp_path)) == 3


@pytest.mark.parametrize("named", [True, False])
def test_what_is_stopped_says_what_is_kept_and_goes_on(
    named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    given = ["--model", str(hubs.folder("llava")), "--methods", "random", "--ratio", "0.5", "--batch", "1,2"]
    given += ["--warmup", "1", "--passes", "1"]
    given += ["--new-tokens", "2", "--device", "cpu"]
    out = ["--out", "mine"] if named else []
    with monkeypatch.context() as patch:
        patch.setattr(command, "write_tables", stop)  # when the first cell is on disk
        assert call(patch, *given, *out) == 143
        told = capsys.readouterr().err.splitlines()[-1]
        (folder,) = {path.parent.relative_to(tmp_path) for path in tmp_path.rglob("*-b1-*.json")}
        again = "the same command" + ("" if named else f" with --out {folder}")
        assert told == f"terminated: what is finished is kept in {folder}; {again} goes on from there"
    assert call(monkeypatch, *given, "--out", str(folder)) == 0
    assert capsys.readouterr().err.count("taken from") == 1 and len(read_cells(folder)) == 2


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ([], "command.time_cells"),
        (["--selection"], "selection.time_selection"),
        (["--count-launches"], "launches.count_launches"),
    ],
)
def test_what_is_stopped_before_anything_is_finished_keeps_nothing(
    given: list[str],
    place: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(f"meteor_bench.runs.latency.{place}", stop)
    assert call(monkeypatch, *given) == 143
    assert capsys.readouterr().err.splitlines()[-1] == "terminated: nothing is kept; the same command begins anew"


def stop(*given: object, **named: object) -> None:
    """What SIGTERM does."""
    raise Terminated


def test_the_first_layers_alone_are_timed_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--model", str(hubs.folder("deepseek_vl_hybrid")), "--random-weights", "--limit-layers", "2"]
    given += ["--methods", "divprune", "--ratio", "0.5", "--warmup", "1", "--passes", "1", "--new-tokens", "2"]
    assert call(monkeypatch, *given, "--device", "cpu", "--out", str(tmp_path)) == 0
    assert "are of its first 2 layers only" in capsys.readouterr().out
    (cell,) = read_cells(tmp_path)
    assert cell.limit_layers == 2
    (vlm,) = {row.name: row for row in cell.rows}["unpruned"].samples
    whole = hubs.build("deepseek_vl_hybrid").decoder
    tokens = 16 + 1 + len(QUESTION.split()) + 1  # the picture, and a word each of what stands around it
    assert vlm["flops"]["prefill"] == 2 * whole.flops_layer(tokens, tokens) + whole.flops_head(1)


def test_a_try_is_small_and_what_is_said_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["--model", str(hubs.folder("qwen2_5_vl")), "--random-weights", "--limit-layers", "2", "--ratio", "0.5"]
    given += ["--new-tokens", "2", "--device", "cpu"]
    found = []
    for name, more in (("small", []), ("said", ["--pixels", "64", "--passes", "1", "--methods", "random"])):
        assert call(monkeypatch, *given, *more, "--out", str(tmp_path / name)) == 0
        found += read_cells(tmp_path / name)
    native = hubs.build("qwen2_5_vl").native[0]  # 24 x 24 cells
    for cell, side, passes, methods in zip(
        found, (native // 2, 64), (2, 1), (["divprune", "evoprune"], ["random"]), strict=True
    ):
        assert cell.pictures == f"noise, {side} x {side} px"
        assert [row.name.partition("(")[0] for row in cell.rows] == ["unpruned", "eager", *methods]
        for row in cell.rows:
            assert not row.failure and len(row.samples) == passes
            assert {sample["tokens"]["reference"] for sample in row.samples} == {(side // (native // 24)) ** 2}


@pytest.mark.slow
def test_graphs_stand_beside_what_they_are_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--methods", "fastv,mustdrop", "--ratio", "0.5", "--warmup", "1", "--passes", "1", "--device", "cpu"]
    assert call(monkeypatch, *given, "--new-tokens", "3", "--graphs", "cuda", "--out", str(tmp_path)) == 0
    told = capsys.readouterr().out
    (cell,) = read_cells(tmp_path)
    timed = [row.name for row in cell.rows if row.samples]
    assert timed == ["unpruned", "unpruned, graphs", "eager", "fastv", "fastv, graphs", "mustdrop"]
    assert {row.name: row.failure for row in cell.rows if not row.samples} == {
        "mustdrop, graphs": "its count is the sample's own, so there is no fixed shape to capture"
    }
    assert "nothing captured on a CPU" in told and "fastv, graphs" in told
    assert not any(row.uncaptured for row in cell.rows)


def test_the_cost_of_choosing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = functools.partial(synthetic.Shape, tower_dim=32, tower_depth=6, tower_heads=2, dim=64, depth=8, heads=2)
    monkeypatch.setattr(synthetic, "Shape", small)
    given = ["--selection", "--tokens", "64", "--batch", "1,3", "--passes", "1", "--out", str(tmp_path)]
    assert call(monkeypatch, *given, "--device", "cpu", "--ratio", "0.5") == 0
    told = capsys.readouterr().out
    found = json.loads((tmp_path / "selection.json").read_text(encoding="utf-8"))["selection"]
    assert [one["batch"] for one in found] == [1, 3]
    from meteor_bench.core.registry import METHODS

    for one in found:
        assert {row["name"].partition("(")[0] for row in one["rows"]} == set(METHODS.names()) - {"none"}
        for row in one["rows"]:
            assert row["name"] in told and len(row["decide_ms"]) == len(one["vit_ms"]) == 1
            assert min(row["decide_ms"]) > 0 and len(row["kept"]) == one["batch"]
            assert row["encoders"] == (2 if row["name"] == "meteor" else 1)
            assert one["shares"][row["name"]] > 0
            if row["name"] in ("fastv", "evoprune", "cdpruner", "dart", "pool", "downsample"):
                assert set(row["kept"]) == {32}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--methods", "metoer"], "unknown method 'metoer'; did you mean 'meteor'?"),
        (["--methods", "none"], "--methods names no method"),
        (["--ratio", "1.0"], "--ratio[0]: expected a number, in [0, 1), found 1.0"),
        (["--ratio", "0.5,-0.1"], "--ratio[1]: expected a number, in [0, 1), found -0.1"),
        (["--ratio", "half"], "--ratio[0]: expected a number, in [0, 1), found 'half'"),
        (["--batch", "-8"], "--batch[0]: expected a whole number, 1 or more, found -8"),
        (["--batch", "1.5"], "--batch[0]: expected a whole number, 1 or more, found '1.5'"),
        (["--batch", "1000", "--methods", "random"], "no 1000 shipped samples of 1 pictures"),
        (["--frames", "3", "--methods", "random"], "13 with --frames 4"),
        (["--passes", "0"], "--passes: expected a whole number, 1 or more, found 0"),
        (["--new-tokens", "1"], "--new-tokens: expected a whole number, 2 or more, found 1"),
        (["--seconds", "0"], "--seconds: expected a number or nothing, above 0, found 0"),
        (["--model", "pockt"], "unknown model 'pockt'; did you mean 'pocket'?"),
        (["--methods", "fastv", "--param", "fastv:layr=1"], "did you mean 'layer'?"),
        (["--methods", "fastv", "--param", "random:x=1"], "no --method random is given"),
        (["--device", "abacus", "--methods", "random"], "unknown device 'abacus'"),
        (["--methods", "fastv", "--param", "fastv:layer=9"], "needs a deeper language model than 'pocket'"),
        (["--selection", "--ratio", "0.5,0.76"], "--selection and --count-launches take one --ratio"),
        (["--count-launches", "--ratio", "0.5,0.76"], "--selection and --count-launches take one --ratio"),
        (["--count-launches", "--selection"], "give one of --selection and --count-launches"),
        (["--count-launches", "--frames", "4"], "--count-launches counts passes over one picture"),
        (["--count-launches", "--graphs", "cuda"], "--count-launches makes no use of --graphs, --out; leave them out"),
        (["--count-launches", "--methods", "random"], "--count-launches makes no use of --out; leave it out"),
        (["--count-launches", "--device", "cuda", "--passes", "3"], "no use of --passes, --out, --device;"),
        (["--count-launches", "--dtype", "bfloat16", "--warmup", "1"], "no use of --dtype, --warmup, --out;"),
        (["--selection", "--graphs", "cuda"], "--selection makes no use of --graphs; leave it out"),
        (["--selection", "--model", "base-cpu", "--frames", "4"], "makes no use of --model, --frames;"),
        (["--selection", "--new-tokens", "2", "--seconds", "9"], "makes no use of --new-tokens, --seconds;"),
        (["--tokens", "64"], "a run without --selection makes no use of --tokens;"),
        (["--selection", "--tokens", "1000"], "--tokens 1000 is no square"),
        (["--limit-layers", "2"], "--limit-layers is for timing with --random-weights"),
        (["--pixels", "64"], "--pixels is for timing with --random-weights"),
        (["--limit-layers", "0"], "--limit-layers: expected"),
        (["--limit-layers", "2", "--random-weights"], "model 'pocket' is built with all of its layers"),
    ],
)
def test_mistakes_end_with_one_line(
    given: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert call(monkeypatch, *given, "--out", str(out)) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and said in error
    assert not out.exists()
