"""Benchmark visual-token pruning in vision-language models with several encoders.

    from meteor_bench import Session

    session = Session("pocket", method="meteor", ratio=0.76)
    print(session.answer(picture, "What colour is the star?").text)

Everything named here is imported when it is first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from meteor_bench.core.version import __version__

if TYPE_CHECKING:
    from meteor_bench.core.budget import TokenBudget
    from meteor_bench.core.pruner import (
        Decision,
        DecodePoint,
        DecodeView,
        EncodePoint,
        EncodeView,
        Fact,
        FusePoint,
        FuseView,
        Points,
        Pruner,
        keep_top,
    )
    from meteor_bench.core.request import Answer
    from meteor_bench.core.settings import Range
    from meteor_bench.methods.shared.scorers import DecodeScorer, FuseChooser, FuseScorer
    from meteor_bench.methods.shared.selection import EncodeScorer
    from meteor_bench.runs.python_api import Session, load_model, load_runs, load_tables, pruned, run, sweep

__all__ = [
    "Answer",
    "Decision",
    "DecodePoint",
    "DecodeScorer",
    "DecodeView",
    "EncodePoint",
    "EncodeScorer",
    "EncodeView",
    "Fact",
    "FuseChooser",
    "FusePoint",
    "FuseScorer",
    "FuseView",
    "Points",
    "Pruner",
    "Range",
    "Session",
    "TokenBudget",
    "__version__",
    "keep_top",
    "load_model",
    "load_runs",
    "load_tables",
    "pruned",
    "run",
    "sweep",
]

_PLACES = {
    "meteor_bench.core.budget": ("TokenBudget",),
    "meteor_bench.core.pruner": (
        "DecodePoint",
        "DecodeView",
        "Decision",
        "EncodePoint",
        "EncodeView",
        "Fact",
        "FusePoint",
        "FuseView",
        "Points",
        "Pruner",
        "keep_top",
    ),
    "meteor_bench.core.request": ("Answer",),
    "meteor_bench.core.settings": ("Range",),
    "meteor_bench.methods.shared.scorers": ("DecodeScorer", "FuseChooser", "FuseScorer"),
    "meteor_bench.methods.shared.selection": ("EncodeScorer",),
    "meteor_bench.runs.python_api": ("Session", "load_model", "load_runs", "load_tables", "pruned", "run", "sweep"),
}
_HOME = {name: module for module, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'meteor_bench' has no attribute '{name}'")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
