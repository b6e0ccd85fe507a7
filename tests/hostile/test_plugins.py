"""Somebody else's method: broken at import it is one row, broken in what it gives one line, at its exit one failure."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from meteor_bench.config import sweep_config
from meteor_bench.config.run_config import RunConfig
from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import (
    MeteorBenchError,
    PluginError,
)
from meteor_bench.core.interrupts import Terminated, contained, watched
from meteor_bench.core.model import VLM
from meteor_bench.core.pruner import Decision, EncodePoint, FusePoint, Points, Pruner, Restored, View
from meteor_bench.core.pruner import DecodePoint as Layer
from meteor_bench.core.registry import METHODS
from meteor_bench.engine.session import Session
from meteor_bench.report import listing as catalogue
from meteor_bench.runs.doctor import _methods
from meteor_bench.runs.sweep import grid
from tests import tiny

BROKEN = {
    "raises": "raise ValueError('of\\nits own')",
    "exits": "import sys; sys.exit(0)",
    "lacks": "x = 1",
    "number": "Mine = 3",
    "function": "def Mine(): ...",
    "other": "class Mine: ...",
    "needs": "class Mine(__import__('meteor_bench.core.pruner').core.pruner.Pruner):\n    def __init__(self, a): ...",
    "syntax": "class",
}


def install(folder: Path, name: str, source: str) -> None:
    """What `pip install .` of a package with one method leaves behind."""
    (folder / f"broken_{name}.py").write_text(source)
    info = folder / f"broken_{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: broken-{name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[meteor_bench.methods]\n{name} = broken_{name}:Mine\n")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, source in BROKEN.items():
        install(tmp_path, name, source)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("installed")
def test_a_broken_method_is_one_marked_row() -> None:
    rows = {row["name"]: row for row in catalogue.methods()}
    assert set(METHODS.rows) | set(BROKEN) == set(rows)
    for name in BROKEN:
        assert rows[name]["stages"] == ["broken"]
        said = rows[name]["paper"]
        assert said.startswith(f"method '{name}' of the package broken-{name} cannot be used: ") and "\n" not in said
    assert not [name for name in METHODS.rows if rows[name]["stages"] == ["broken"]]
    found = list(_methods())
    assert [state for state, _ in found] == ["note"] * len(BROKEN) + ["ok"]
    assert found[-1][1] == f"{len(METHODS.rows)} load"


@pytest.mark.usefixtures("installed")
def test_a_sweep_of_all_has_cells_for_the_broken_and_the_sound() -> None:
    runs = grid.cells(sweep_config.SweepConfig(methods=("all",), ratios=(0.5,)))
    assert {run.method for run in runs} == set(METHODS.rows) | set(BROKEN)


@dataclass(frozen=True)
class Mine(Pruner):
    """Decides what a test says, at a point of one kind."""

    kind: str
    give: Callable[[View], Any]

    def points(self, vlm: Any, budget: TokenBudget) -> Points:
        if self.kind == "decode":
            return Points(decode=(Layer(before=1),))
        return Points(encode=(EncodePoint(after={"a": 1}),)) if self.kind == "encode" else Points(fuse=FusePoint())

    def encode(self, views: Mapping[str, View]) -> Mapping[str, Decision]:
        given: Mapping[str, Decision] = self._all(views)
        return given

    fuse = encode

    def decode(self, view: View) -> Decision:
        given: Decision = self.give(view)
        return given

    def _all(self, views: Mapping[str, View]) -> Any:
        return {name: self.give(view) for name, view in views.items()}


def keep(view: View, **more: Any) -> Decision:
    return Decision(keep=view.tokens.visual.clone(), **more)


def dropped(view: View, into: int) -> Decision:
    """All but the first merge into one token."""
    first = torch.zeros_like(view.tokens.visual)
    first[:, 0] = True
    return Decision(keep=first, merge_into=torch.full(first.shape, into))


WRONG: dict[str, tuple[Callable[[View], Any], str]] = {
    "None": (lambda view: None, r"gave None; expected a Decision"),
    "tensor": (lambda view: view.tokens.visual, r"gave bool \[\d, \d+\] on cpu; expected a Decision"),
    "no mask": (lambda view: Decision(keep=None), r"Decision.keep is None; expected bool \[\d, \d+\] on cpu"),
    "list": (lambda view: Decision(keep=[True]), r"Decision.keep is a list; expected bool"),
    "floats": (
        lambda view: Decision(keep=view.tokens.visual.float()),
        r"keep is float32 .* on cpu; expected bool",
    ),
    "short": (lambda view: Decision(keep=view.tokens.visual[:, 1:]), r"keep is bool \[\d, \d+\] on cpu; expected bool"),
    "one row": (
        lambda view: Decision(keep=view.tokens.visual[0]),
        r"keep is bool \[\d+\] on cpu; expected bool \[\d, ",
    ),
    "merge floats": (lambda view: keep(view, merge_into=view.tokens.size), r"merge_into is float32 .*; expected int64"),
    "merge shape": (lambda view: keep(view, merge_into=torch.zeros(2, 1).long()), r"merge_into is int64 \[2, 1\]"),
    "merge outside": (lambda view: dropped(view, 9999), r"merge_into leads to token 9999; there are \d+, from 0"),
    "merge lost": (lambda view: dropped(view, 1), r"leads from token 1 of row 0 to 1, which is not kept"),
    "total away": (
        lambda view: keep(view, merge_into=torch.zeros_like(view.tokens.origin), total=True),
        r"total says that every token ends in a kept one; token \d+ of row 0 leads to 0",
    ),
    "total lost": (lambda view: replace(dropped(view, -1), total=True), r"token \d+ of row 0 leads to -1"),
    "weight": (lambda view: keep(view, weight=torch.ones(2)), r"Decision.weight is float32 \[2\] on cpu"),
    "weights": (
        lambda view: replace(dropped(view, 0), weight=-view.tokens.size),
        r"Decision.weight has weights that are not positive",
    ),
    "score": (lambda view: keep(view, score=view.tokens.visual), r"Decision.score is bool .*; expected numbers"),
    "order": (lambda view: keep(view, order=1), r"Decision.order is a int; expected numbers"),
    "mix": (
        lambda view: keep(view, mix=torch.ones(2, 3, 4)),
        r"mix is float32 \[2, 3, 4\] .*; expected floating",
    ),
    "memo": (lambda view: keep(view, memo=3), r"Decision.memo is a int; expected a mapping"),
    "memo rows": (
        lambda view: keep(view, memo={"a": torch.ones(3)}),
        r"memo\['a'\] is float32 \[3\] .* \[\d, \.\.\.\]",
    ),
}


@cache
def model() -> VLM:
    """One for all of these tests: nothing changes it."""
    return tiny.build("shared")


def ask(pruner: Pruner) -> None:
    session = Session(model(), pruner, TokenBudget.from_ratio(0.5))
    session.answer(tiny.requests(2), lambda request, answer: None)


@pytest.mark.parametrize("kind", ["encode", "fuse", "decode"])
def test_a_wrong_decision_names_method_hook_and_shape(kind: str) -> None:
    for name, (give, said) in WRONG.items():
        with pytest.raises(PluginError, match=said) as caught:
            ask(Mine(kind, give))
        assert str(caught.value).startswith(f"Mine.{kind}") and "\n" not in str(caught.value), name


def back(view: View, gone: bool = True, **changes: Any) -> Decision:
    """All cells that no token stands for come back (or those that have one), as zeros."""
    tokens = view.tokens
    cells = tokens.group < 0 if gone else tokens.group >= 0
    x = torch.zeros(*cells.shape, tokens.x.shape[2])
    return keep(view, restored=replace(Restored(cells, x), **changes))


WRONGLY_BACK: dict[str, tuple[Callable[[View], Any], str]] = {
    "there": (lambda view: back(view, gone=False), r"restored brings back cell 0 of row 0, which has its token"),
    "cells": (
        lambda view: back(view, cells=view.tokens.visual),
        r"restored.cells is bool .*; expected bool \[\d, 64\]",
    ),
    "narrow": (lambda view: back(view, x=torch.zeros(2, 3)), r"restored.x is float32 \[2, 3\] .*; expected floating"),
    "count": (
        lambda view: back(view, count=torch.full((len(view.tokens.x),), 7)),
        r"restored.count says \[7.*\]; its cells are \[0",
    ),
}


@pytest.mark.parametrize("name", WRONGLY_BACK)
def test_what_comes_back_is_looked_at(name: str) -> None:
    give, said = WRONGLY_BACK[name]
    with pytest.raises(PluginError, match=said) as caught:
        ask(Mine("encode", give))
    assert str(caught.value).startswith("Mine.encode (a): Decision.") and "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["fuse", "decode"])
def test_nothing_comes_back_behind_the_encoders(kind: str) -> None:
    with pytest.raises(PluginError, match=rf"Mine.{kind}.*: Decision.restored brings tokens back into encoders only"):
        ask(Mine(kind, back))


def test_a_mapping_is_expected_of_several_towers() -> None:
    class Off(Mine):
        def _all(self, views: Mapping[str, View]) -> Any:
            return self.give(next(iter(views.values())))

    with pytest.raises(PluginError, match=r"Off.encode gave a Decision; expected a mapping from tower to Decision"):
        ask(Off("encode", keep))
    with pytest.raises(PluginError, match=r"Off.fuse decided on 'z'; it was shown fused"):
        ask(Off("fuse", lambda view: {"z": keep(view)}))


def ends(error: BaseException) -> Callable[[View], Any]:
    def give(view: View) -> Any:
        raise error

    return give


@pytest.fixture
def interruptible() -> Iterator[None]:
    """As in a terminal: a shell that starts this in the background lets it ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("kind", ["encode", "fuse", "decode"])
def test_a_method_that_exits_has_failed(kind: str) -> None:
    with pytest.raises(PluginError, match=rf"Mine.{kind} tried to end the process: sys.exit\(0\)"):
        ask(Mine(kind, ends(SystemExit(0))))
    with watched(), pytest.raises(PluginError, match=rf"Mine.{kind} raised KeyboardInterrupt, and nobody interrupted"):
        ask(Mine(kind, ends(KeyboardInterrupt())))


def hit(number: int) -> None:
    """Send this process a signal and wait for it."""
    os.kill(os.getpid(), number)
    threading.Event().wait(5)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_a_signal_is_passed_on(number: int, kind: type[BaseException]) -> None:
    with pytest.raises(kind), watched(), contained("it"):
        hit(number)


def test_a_failed_cell_does_not_end_the_sweep(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from meteor_bench.runs.model_cache import ModelCache
    from meteor_bench.runs.sweep import task as cell

    class Own(Exception):
        pass

    def prepare(run: RunConfig, shared: ModelCache) -> Any:
        raise Own("of its\nown")

    monkeypatch.setattr(cell, "prepare", prepare)
    result = cell.attempt(RunConfig(out=tmp_path), ModelCache(), timed=False)
    assert result.path is None and result.reason.startswith("Own: of its own (traceback: ")


@pytest.mark.slow
def test_sys_exit_in_a_method_is_that_cells_failure_alone(tmp_path: Path) -> None:
    source = (
        "import sys\nfrom meteor_bench.core.pruner import *\n"
        "class Mine(Pruner):\n"
        "    def points(self, vlm, budget): return Points(decode=(DecodePoint(before=1),))\n"
        "    def decode(self, view): sys.exit(0)\n"
    )
    install(tmp_path, "leaves", source)
    arguments = ["sweep", "--methods", "leaves,fastv", "--ratios", "0.5", "--tasks", "pocket_pope", "--limit", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "meteor_bench", *arguments, "--no-latency"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "leaves at 0.5: FAILED: Mine.decode tried to end the process: sys.exit(0)" in done.stderr
    assert "fastv at 0.5: " in done.stderr and "1 of 3 cells failed" in done.stderr


def test_every_error_of_a_plug_in_is_a_users() -> None:
    assert issubclass(PluginError, MeteorBenchError)
