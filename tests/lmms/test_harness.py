"""What the door to lmms-eval keeps from the terminal."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# As lmms-eval's GQA does with its documents, in a split of one.
ONE_ROW = """
from meteor_bench.lmms.harness import load_evaluator
load_evaluator()
import datasets
datasets.Dataset.from_dict({"a": [0]}).map(lambda row: row, num_proc=8)
"""


@pytest.mark.slow
def test_a_small_split_is_no_warning() -> None:
    """In a process of its own: ``datasets`` reads how much it may say when it is imported."""
    surroundings = {name: value for name, value in os.environ.items() if name != "DATASETS_VERBOSITY"}
    done = subprocess.run([sys.executable, "-c", ONE_ROW], env=surroundings, capture_output=True, text=True)
    assert done.returncode == 0 and "num_proc must be" not in done.stderr, done.stderr
