"""Which cells a report shows, and in which groups: with fifty methods a table of all of them is read by nobody."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from meteor_bench.core.errors import ConfigError
from meteor_bench.report.by import By
from meteor_bench.report.listing import FACTS
from meteor_bench.report.runs import Cell
from meteor_bench.report.sections import CONTROLS, sections

__all__ = ["grouped", "only", "top"]

STAGES = ("input", "encode", "fuse", "decode")


def only(cells: Sequence[Cell], names: Sequence[str]) -> list[Cell]:
    """The cells of these methods, and the unpruned ones of the same model and questions.

    Raises:
        ConfigError: a name of which there is no run.
    """
    there = {cell.record.config.method for cell in cells}
    if missing := [name for name in names if name not in there]:
        known = ", ".join(sorted(there - {"none"}))
        raise ConfigError(f"there is no run of {', '.join(missing)} among these; there are {known}")
    chosen = {cell.record.fingerprint for cell in cells if cell.record.config.method in names}
    beside: set[str] = set()
    for section in sections(cells):
        prints = {cell.record.fingerprint for cell in section.cells}
        beside |= {cell.record.fingerprint for cell in section.cells if not cell.pruned and prints & chosen}
    return [cell for cell in cells if cell.record.fingerprint in chosen | beside]


def top(cells: Sequence[Cell], count: int) -> list[Cell]:
    """Of each ratio the ``count`` best averages, the controls beside them, and the unpruned cells."""
    shown: set[str] = set()
    for section in sections(cells):
        left: dict[float, int] = {}
        for cell in section.cells:  # of each ratio the best first
            control = cell.record.config.method in CONTROLS
            left[cell.ratio] = left.get(cell.ratio, count) - (cell.pruned and not control)
            if not cell.pruned or control or left[cell.ratio] >= 0:
                shown.add(cell.record.fingerprint)
    return [cell for cell in cells if cell.record.fingerprint in shown]


def grouped(cells: Sequence[Cell], by: By) -> list[Cell]:
    """The cells with the group that tables put them in, by where their method decides or the year of its paper."""
    facts = json.loads(FACTS.read_text(encoding="utf-8"))
    shown = []
    for cell in cells:
        control = cell.record.config.method in CONTROLS  # they stand first, whatever they do
        shown.append(replace(cell, group=_group(cell, facts, by)) if cell.pruned and not control else cell)
    return shown


def _group(cell: Cell, facts: dict[str, dict[str, object]], by: By) -> tuple[int, str]:
    parts = [facts.get(name, {}) for name in cell.record.config.method.split("+")]
    if cell.record.config.method in facts:  # prumerge+ is a name of its own
        parts = [facts[cell.record.config.method]]
    if by == By.YEAR:
        year = max((int(str(part.get("year") or 0)) for part in parts), default=0)
        return year, str(year) if year else "no year"
    said = {stage for part in parts for stage in STAGES if stage in str(part.get("stages", ""))}
    if len(said) == 1:
        (stage,) = said
        return STAGES.index(stage), stage
    return len(STAGES), "several stages" if said else "unknown stage"
