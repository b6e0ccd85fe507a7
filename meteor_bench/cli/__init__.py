"""The command line. Nothing heavy is imported before a command is known; see ruff's TID253.

A module a group of commands, each a thin function over a module elsewhere that does the work.
"""

from __future__ import annotations

# In the order of --help.
from meteor_bench.cli import run, report, measure, info  # isort: skip
from meteor_bench.cli.app import app, main

__all__ = ["app", "info", "main", "measure", "report", "run"]
