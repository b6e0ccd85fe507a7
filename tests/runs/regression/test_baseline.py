"""The baseline file: reads back as written, and says in one line what is wrong with any other."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from meteor_bench import cli
from meteor_bench.config.run_config import Setting
from meteor_bench.core.errors import ConfigError, MeteorBenchError, RecordError
from meteor_bench.runs.regression.baseline import read, write
from meteor_bench.runs.regression.command import METHODS, RATIO, check

SHIPPED = Path(__file__).parents[3] / "results" / "reference" / "check.yaml"


def test_it_reads_back_as_written(tmp_path: Path) -> None:
    """Floats, digits that look like numbers, parameters and stages included."""
    baseline = read(SHIPPED)
    odd = Setting("meteor", {"layer": 3, "heads": "all"}, ("encode", "fuse"), "keep", 0.5)
    assert odd.label == "meteor[encode,fuse](layer=3, heads=all, positions=keep) 0.5"
    measured = replace(baseline.cells["meteor 0.76"], right={t: "1" * 12 for t in baseline.data})
    partial = replace(measured, right={t: (0.25,) * 12 for t in baseline.data})
    config = replace(baseline.config, methods=(odd, Setting("random", ratio=0.1)))
    cells = {"unpruned": baseline.cells["unpruned"], odd.label: measured, "random 0.1": partial}
    changed = replace(baseline, config=config, cells=cells)
    write(tmp_path / "b.yaml", changed)
    assert read(tmp_path / "b.yaml") == changed
    assert [path.name for path in tmp_path.iterdir()] == ["b.yaml"], "no temporary file is left"


def test_the_shipped_one() -> None:
    """Small enough to review; every kind of method; written by this version."""
    baseline = read(SHIPPED)
    assert [s.method for s in baseline.config.methods] == list(METHODS)
    assert all(s.ratio == RATIO for s in baseline.config.methods) and baseline.config.suite == "ci"
    assert SHIPPED.stat().st_size < 12_000
    assert baseline.cells["unpruned"].tokens["final"] == 256
    assert all(cell.tokens["final"] == 61 for cell in baseline.cells.values() if cell.exact and cell.latency.selection)


def test_a_cut_file_is_never_read_as_a_whole_one(tmp_path: Path) -> None:
    content = SHIPPED.read_bytes()
    file = tmp_path / "cut.yaml"
    for size in range(0, len(content) - 1, 211):
        file.write_bytes(content[:size])
        with pytest.raises(RecordError) as error:
            read(file)
        assert str(file) in str(error.value) and "\n" not in str(error.value)


def edited(path: Path, *place: Any, value: Any) -> Path:
    """A copy of the shipped file with one value changed."""
    content = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    at = content
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = value
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (
            ("format",),
            "meteor-bench-check/0",
            "has format meteor-bench-check/0; this version reads meteor-bench-check/1",
        ),
        (("format",), "something-else/1", "is no baseline of `meteor-bench check`"),
        (("tolerances", "lots"), 1, "tolerances.lots: unknown key 'lots'; did you mean 'lost'?"),
        (("tolerances", "lost"), "much", "tolerances.lost: expected a number, found 'much'"),
        (("config", "methods", 0, "ratio"), 0.5, "config.methods and cells do not agree on random 0.5, random 0.76"),
        (("config", "methods", 1), {"method": "random", "ratio": 0.76}, "config.methods holds the same method twice"),
        (("data", "pocket_gqa"), "0", "cells.unpruned.right and data do not agree on pocket_gqa"),
        (("cells", "fastv 0.76", "loss"), {}, "cells.fastv 0.76.loss and data do not agree on pocket_pope"),
        (("cells", "fastv 0.76", "right", "pocket_pope"), "1", "right holds other numbers of documents"),
        (("cells", "fastv 0.76", "right", "pocket_pope"), "1" * 11 + "2", "expected 0 and 1"),
        (
            ("cells", "fastv 0.76", "tokens", "final"),
            {"pocket_pope": 61},
            "tokens.final does not hold a number for each",
        ),
        (("cells", "fastv 0.76", "latency", "ttft"), "fast", "cells.fastv 0.76.latency.ttft: expected a number"),
        (("cells", "fastv 0.76", "latency"), {"ttft": 1.0}, "cells.fastv 0.76.latency.selection: the key is missing"),
    ],
)
def test_what_does_not_fit(tmp_path: Path, place: tuple[Any, ...], value: Any, message: str) -> None:
    with pytest.raises(RecordError) as error:
        read(edited(tmp_path / "b.yaml", *place, value=value))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read the baseline .*No such file or directory; `check --update` makes one"),
        (b"", "is no baseline"),
        (b"- 1\n", "is no baseline"),
        (b"schema: 1\n", "is no baseline"),
        (b"\xff\xfe\x00", "is cut or no baseline"),
        (b"format: [1", "is cut or no baseline"),
    ],
)
def test_what_is_no_baseline(tmp_path: Path, content: bytes | None, message: str) -> None:
    file = tmp_path / "b.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(RecordError, match=message):
        read(file)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"suite": "pocket"}, "is of suite ci, not pocket; leave --suite out, or make another baseline with --update"),
        ({"model": "pocket-independent"}, "is of model pocket, not pocket-independent"),
        ({"limit": 3}, "is of limit 12, not 3"),
        ({"methods": ["random"]}, "is of methods random 0.76, divprune 0.76, .* not random 0.76"),
    ],
)
def test_other_settings_need_an_update(given: dict[str, Any], message: str) -> None:
    with pytest.raises(RecordError, match=message):
        check(SHIPPED, given, lambda document: None, update=False)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"methods": ["fastvv"]}, "unknown method 'fastvv'; did you mean 'fastv'"),
        ({"methods": ["none"]}, "the unpruned model is always measured"),
        ({"suite": "cii"}, "unknown suite 'cii'; did you mean 'ci'"),
        ({"ratio": 1.0}, "--ratio: expected a number, in .0, 1., found 1.0"),
        ({"limit": 0}, "--limit: expected a whole number, 1 or more"),
    ],
)
def test_a_new_baseline_is_checked_before_anything_runs(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(tmp_path / "new.yaml", given, lambda document: None, update=True)
    assert not any(tmp_path.iterdir())


def test_somebody_elses_file_is_not_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "notes.yaml"
    file.write_text("shopping: [milk]\n", encoding="utf-8")
    with pytest.raises(MeteorBenchError, match="is no baseline"):
        check(file, {}, lambda document: None, update=True)
    assert file.read_text(encoding="utf-8") == "shopping: [milk]\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("check", "Missing option '--baseline'"),
        ("check --baseline no.yaml", "cannot read the baseline no.yaml: No such file or directory"),
        (f"check --baseline {SHIPPED} --suite pocket", "is of suite ci, not pocket"),
        ("check --baseline new.yaml --update --methods fastvv", "unknown method 'fastvv'; did you mean 'fastv'?"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(
    arguments: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["meteor-bench", *arguments.split()])
    with pytest.raises(SystemExit) as exit:
        cli.main()
    said = capsys.readouterr()
    assert exit.value.code == 2 and said.out == ""
    assert message in said.err and said.err.count("\n") == 1
