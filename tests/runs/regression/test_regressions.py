"""The check on the shipped model: methods that somebody broke, registered under the good one's name, are caught."""

from __future__ import annotations

import io
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from meteor_bench import cli
from meteor_bench.core.errors import RecordError
from meteor_bench.core.registry import METHODS
from meteor_bench.runs.regression.baseline import read
from meteor_bench.runs.regression.command import check

NAME = "subject"
pytestmark = pytest.mark.xdist_group("lmms_eval")


def row(kind: str) -> str:
    return f"tests.runs.regression.subjects:{kind}"


def accept(folder: Path, **asked: Any) -> Path:
    """A baseline of the good method."""
    file = folder / "baseline.yaml"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS.rows, NAME, row("Good"))  # type: ignore[arg-type]
        assert not check(file, {"methods": [NAME], "ratio": 0.76, **asked}, lambda document: None, update=True)
    return file


@pytest.fixture(scope="module")
def accepted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made on few questions, so that a check takes a second."""
    return accept(tmp_path_factory.mktemp("check"), tasks=("pocket_textvqa",), limit=6)


@pytest.fixture(scope="module")
def accepted_more(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made on enough questions to lose a fifth of them."""
    return accept(tmp_path_factory.mktemp("check"), tasks=("pocket_scienceqa", "pocket_textvqa"), limit=16)


@pytest.fixture
def become(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let the name mean another class."""
    return lambda kind: monkeypatch.setitem(METHODS.rows, NAME, row(kind))  # type: ignore[arg-type]


def told(file: Path) -> tuple[set[str], str]:
    """The metrics that failed, and what was printed."""
    out = io.StringIO()
    failed = check(file, {}, lambda document: document.write(out), update=False)
    found = {line.split(": ")[1] for line in out.getvalue().splitlines() if line.startswith(f"{NAME} 0.76: ")}
    assert failed == bool(found), out.getvalue()
    return found, out.getvalue()


def test_one_token_too_many(
    accepted: Path, become: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys
) -> None:
    """Through the command line, with its exit status and the JUnit file."""
    become("OneTokenTooMany")
    junit = tmp_path / "check.xml"
    monkeypatch.setattr(sys, "argv", ["meteor-bench", "check", "--baseline", str(accepted), "--junit", str(junit)])
    with pytest.raises(SystemExit) as exit:
        cli.main()
    assert exit.value.code == 1
    printed = capsys.readouterr().out
    assert "subject 0.76: tokens: fused 61 -> 62 in pocket_textvqa/0, 6 of 6 questions, mean +1.00" in printed
    cases = ElementTree.parse(junit).iter("testcase")
    failed = {(c.get("classname"), c.get("name")) for c in cases if c.find("failure") is not None}
    assert {("subject 0.76", "tokens"), ("subject 0.76", "flops")} <= failed
    assert not any(cell == "unpruned" for cell, _ in failed)


@pytest.mark.slow
def test_swapped_index_order(accepted: Path, become: Callable[[str], None]) -> None:
    """The same tokens at each other's places: no count moves, the answers' loss does."""
    become("SwappedOrder")
    found, printed = told(accepted)
    assert "loss" in found and not found & {"tokens", "flops"}, printed


@pytest.mark.slow
def test_accuracy_loss(accepted_more: Path, become: Callable[[str], None]) -> None:
    become("Worse")
    found, printed = told(accepted_more)
    assert "accuracy" in found and not found & {"tokens", "flops"}, printed
    (line,) = (line for line in printed.splitlines() if line.startswith("subject 0.76: accuracy: "))
    assert float(line.split("lost ")[1].split(",")[0]) == pytest.approx(20, abs=9), line


@pytest.mark.slow
def test_selection_twice_as_slow(accepted: Path, become: Callable[[str], None]) -> None:
    become("TwiceAsSlow")
    found, printed = told(accepted)
    assert found == {"selection"}, printed


@pytest.mark.slow  # `make check`, which CI runs too, is the same on every method
def test_nothing_moves_when_nothing_changed(accepted: Path, become: Callable[[str], None]) -> None:
    """Then the same file for other documents and other weights."""
    become("Good")
    before = accepted.read_bytes()
    found, printed = told(accepted)
    assert not found and printed.splitlines()[-1] == "no regression in 12 checks of 2 cells"
    assert accepted.read_bytes() == before


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("data", {"pocket_textvqa": "0" * 16}, "was made with other documents of pocket_textvqa than are here"),
        ("cells", {"unpruned": {"checkpoint": "pocket 123"}}, "unpruned was measured on pocket 123, this is pocket "),
    ],
)
def test_other_data_or_weights(
    accepted: Path, become: Callable[[str], None], tmp_path: Path, key: str, value: dict[str, object], message: str
) -> None:
    become("Good")
    content = yaml.safe_load(accepted.read_text(encoding="utf-8"))
    for name, changed in value.items():
        content[key][name] = {**content[key][name], **changed} if isinstance(changed, dict) else changed
    file = tmp_path / "other.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    with pytest.raises(RecordError, match=message):
        check(file, {}, lambda document: None, update=False)


@pytest.mark.slow
def test_an_update_accepts_what_was_found_and_keeps_what_people_wrote(
    accepted: Path, become: Callable[[str], None], tmp_path: Path
) -> None:
    content = yaml.safe_load(accepted.read_text(encoding="utf-8"))
    content["tolerances"]["lost"] = 7.5
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    become("OneTokenTooMany")
    out = io.StringIO()
    assert not check(file, {}, lambda document: document.write(out), update=True) and "tokens" in out.getvalue()
    assert not told(file)[0]
    after = read(file)
    assert after.tolerances.lost == 7.5 and after.cells["subject 0.76"].tokens["final"] == 62
    become("Good")
    assert "tokens" in told(file)[0], "one token less is no less of a surprise"
