"""`paper` on a fresh clone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from meteor_bench.config.run_config import RunConfig
from meteor_bench.runs.paper import REFERENCE
from tests import synthetic


def test_where_nothing_was_run_the_shipped_runs_are_shown_and_said(call: Callable[..., Any], tmp_path: Path) -> None:
    assert (Path(__file__).parents[2] / REFERENCE).is_dir(), "the repository ships them there"
    synthetic.write(RunConfig(suite="pocket11", out=REFERENCE))
    shown = call("paper", "meteor", "--table", "claims")
    assert shown.code == 0
    assert f"results/runs holds no runs; these are of {REFERENCE} (another folder: --out)" in " ".join(
        shown.err.split()
    )
    shutil.rmtree(REFERENCE)
    assert "these are of" not in call("paper", "meteor", "--table", "claims").err
