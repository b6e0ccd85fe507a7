"""Tables of the committed records need no model and little more time than their libraries need to load."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys
from meteor_bench import cli
sys.argv[1:] = ["report", *sys.argv[1:]]
try:
    cli.main()
except SystemExit as exit:
    assert not exit.code
heavy = {"torch", "transformers", "datasets", "lmms_eval"} & set(sys.modules)
sys.exit(f"imported {heavy}" if heavy else 0)
"""


def seconds(script: str, *arguments: str) -> float:
    """CPU time of a Python process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", script, *arguments], check=True, capture_output=True, cwd=ROOT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_the_reference_is_printed_without_torch_and_soon() -> None:
    """At most three times what importing pandas takes, of 88 runs: the unpruned model's and those after it.

    The least of three each, in turn: what shares the machine's caches comes and goes, and can add half of it to one.
    """
    runs = sorted(str(file.parent) for file in (ROOT / "results" / "reference" / "pocket").glob("*/run.json"))[:88]
    taken = [(seconds(SCRIPT, *runs), seconds("import pandas")) for _ in range(3)]
    report, pandas = (min(column) for column in zip(*taken, strict=True))
    assert report <= 3 * pandas
