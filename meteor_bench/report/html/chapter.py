"""A chapter of the page: settings that may be compared, with all that is said of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from meteor_bench.core.match import Measure
from meteor_bench.report.html.data import Setting
from meteor_bench.report.html.reported import Reported
from meteor_bench.report.html.samples import Questions
from meteor_bench.report.table import Table

__all__ = ["PARTS", "Chapter"]

PARTS = ("encode", "fuse", "prune", "prefill")


@dataclass(frozen=True)
class Chapter:
    """Settings that may be compared: one model, the same questions.

    Attributes:
        settings: the unpruned one first.
        match: what their ratios are of.
        apart: `Section.apart`.
        tasks: benchmark -> its group, in order.
        facts: what is said of the measurement: name -> text.
        notes: sentences about it.
        runs: a row for each setting: heading -> text.
        pictures: as `runs.patches.report_pictures.draw` gives them.
        why_no_pictures: said where there are none.
        reported: papers' tables with rows that were run here.
        subscores: a table for each benchmark that has more to it than its score.
    """

    model: str
    settings: Sequence[Setting]
    tasks: Mapping[str, str]
    facts: Mapping[str, str]
    notes: Sequence[str]
    runs: Sequence[Mapping[str, str]]
    questions: Questions
    pictures: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    why_no_pictures: str = ""
    match: Measure = "tokens"
    apart: str = ""
    reported: Sequence[Reported] = ()
    subscores: Sequence[Table] = ()

    @property
    def towers(self) -> list[str]:
        """Names of the encoders."""
        names = (key for s in self.settings for key in s.tokens if key.startswith("encoder "))
        return [name.removeprefix("encoder ") for name in dict.fromkeys(names)]

    @property
    def ratios(self) -> list[float]:
        """Ratios that were asked for, ascending."""
        return sorted({s.ratio for s in self.settings if s.pruned})

    @property
    def middle(self) -> float:
        """The ratio that is looked at first."""
        return self.ratios[len(self.ratios) // 2] if self.ratios else 0.0
