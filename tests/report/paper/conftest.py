"""A made-up paper beside made-up runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from meteor_bench.config.run_config import RunConfig
from meteor_bench.report.paper import numbers
from meteor_bench.report.paper.layout import Filled
from meteor_bench.runs.paper import Request
from tests import fake_job, synthetic

PAPER = """
title: Made-up
tables:
  main:
    title: "A table"
    source: fastv
    model: "LLaVA-1.5"
    like: [{like}]
    suites: {{pocket: [pocket_scienceqa, pocket_gqa, pocket_pope, pocket_textvqa]}}
    notes: ["A note of the table."]
    columns: [tokens, gqa, pope, mmvet, general, average, group_average, acc_image, relative, overall, dropped]
    rows:
      - {{name: unpruned, run: {{method: none}}, reported: [256, {gqa}, 94.0, 31.0, null, 90.0, 90.0, 76.5, 100, 1, 0]}}
      - name: METEOR
        run: {{method: meteor, ratio: 0.76}}
        reported: ["4x15", 93.0, 92.0, 30.0, null, 89.0, 89.0, 75.0, 98.0, 0.5, 1.0]
      - {{name: FastV, run: {{method: fastv, ratio: 0.5}}, reported: [128, 80, 81, 29, null, 82, 82, 70, 91, 0.75, 8]}}
      - {{name: resampler, reported: [61, 50.5, 50, 20, null, 50, 50, 50, 50, 0.5, 40]}}
      - {{name: "control: random", run: {{method: random, ratio: 0.76}}, section: true}}
      - name: "one half, not a quarter"
        run: {{method: meteor, ratio: 0.5}}
        minus: {{method: meteor, ratio: 0.76}}
  other:
    title: "Another"
    source: meteor
    model: "LLaVA-1.5"
    like: [{like}]
    suites: {{pocket: [pocket_scienceqa, pocket_gqa, pocket_pope, pocket_textvqa]}}
    columns: [gqa]
    rows:
      - {{name: FastV, run: {{method: fastv, ratio: 0.5}}}}
      - {{name: FastV early, run: {{method: fastv, ratio: 0.5, parameters: {{layer: 1}}}}}}
"""


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Folders of unpruned, random (three seeds) and meteor at two ratios; nobody writes to them."""
    return synthetic.reference(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def fill(
    runs: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Request, list[Filled]]]:
    """The made-up paper over the made-up runs; ``like`` is its model, ``gqa`` what it reports unpruned."""
    shutil.copy(numbers.FOLDER / "common.yaml", tmp_path)
    monkeypatch.setattr(numbers, "FOLDER", tmp_path)

    def fill(like: str = "pocket", gqa: float = 95.0) -> tuple[Request, list[Filled]]:
        (tmp_path / "madeup.yaml").write_text(PAPER.format(like=like, gqa=gqa), encoding="utf-8")
        request = Request("madeup", RunConfig(out=runs["none"].parent), model="pocket")
        return request, request.filled()

    return fill


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> fake_job.Engine:
    """Jobs without models."""
    return fake_job.install(monkeypatch)
