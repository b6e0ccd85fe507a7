"""`latency --count-launches`."""

from __future__ import annotations

import json

import pytest
import torch
from typer.testing import CliRunner

from meteor_bench.cli.app import app

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="a real GPU would be taken for the pretended one")


def test_the_command_counts_the_unpruned_model_and_the_methods() -> None:
    call = ["latency", "--count-launches", "--methods", "fastv,random", "--ratio", "0.5", "--format", "json"]
    done = CliRunner().invoke(app, [*call, "--batch", "1,2"])
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout[done.stdout.index("{") :])["launches"]
    assert [(row["name"], row["batch"]) for row in rows] == [
        (name, batch) for batch in (1, 2) for name in ("unpruned", "random", "fastv")
    ]
    assert all(not row["waits"] and not row["mixed"] for row in rows)
    assert all(sum(row["kernels"].values()) > 100 for row in rows)
    assert [row["kernels"].get("prune", 0) > 0 for row in rows] == [False, True, True] * 2
