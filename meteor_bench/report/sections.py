"""Cells that may stand in one table: the same model, benchmarks and documents, ratios of the same measure; in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from meteor_bench.core.match import MEASURES, Measure, of_ratio
from meteor_bench.report.runs import Cell, same_questions

__all__ = ["CONTROLS", "Section", "sections"]

# What a method has to beat: they look at nothing but positions.
CONTROLS = ("random", "uniform", "pool", "downsample", "subsample", "midpool")


@dataclass(frozen=True)
class Section:
    """Cells side by side.

    Attributes:
        model: the model that was named, with the weights where those are not its own.
        tasks: the benchmarks.
        cells: the unpruned model, then ratio by ratio: controls, then methods, group by group where they have any, the
            best average first.
        labels: a name for each cell, unique together with its ratio.
        match: what the ratios are of.
    """

    model: str
    tasks: tuple[str, ...]
    cells: tuple[Cell, ...]
    labels: tuple[str, ...]
    match: Measure = "tokens"

    @property
    def what(self) -> str:
        """What the scores are, as in `Cell.what`."""
        return self.cells[0].what

    @property
    def of(self) -> str:
        """What a title adds where the ratios are not of the final tokens: ", ratio of FLOPs"."""
        return f", ratio{of_ratio(self.match)}" if self.match != "tokens" else ""


def sections(cells: Sequence[Cell]) -> list[Section]:
    """Cells by model, benchmarks and what their ratios are of; the unpruned cell of others is there.

    Raises:
        RecordError: two cells of the same model and benchmarks answered different documents.
    """
    groups: dict[tuple[str, tuple[str, ...]], dict[str, Cell]] = {}
    for cell in [*cells, *(c.unpruned for c in cells if c.unpruned)]:
        config = cell.record.config
        model = config.model if config.source is None else f"{config.model} ({config.source})"
        tasks = tuple(t.task for t in cell.record.tasks)
        groups.setdefault((model, tasks), {}).setdefault(cell.record.fingerprint, cell)
    result = []
    for (model, tasks), group in groups.items():
        same_questions([cell.runs[0] for cell in group.values()])
        asked = {cell.match for cell in group.values() if cell.pruned} or {"tokens"}
        for match in (measure for measure in MEASURES if measure in asked):
            alike = [cell for cell in group.values() if not cell.pruned or cell.match == match]
            ordered = sorted(alike, key=_place)
            result.append(Section(model, tasks, tuple(ordered), tuple(_labels(ordered)), match))
    return result


def _place(cell: Cell) -> tuple[bool, float, bool, tuple[int, str], float, str]:
    control = cell.record.config.method in CONTROLS
    scores = [t.score for run in cell.runs for t in run.record.tasks]
    average = sum(scores) / len(scores) if scores else 0.0
    order = CONTROLS.index(cell.record.config.method) if control else -average
    return cell.pruned, cell.ratio, not control, cell.group, order, cell.label


def _labels(cells: Sequence[Cell]) -> list[str]:
    """Where two cells have the same name and ratio, what tells them apart is added."""
    named: dict[tuple[str, float], list[Cell]] = {}
    for cell in cells:
        named.setdefault((cell.label, cell.ratio), []).append(cell)
    return [_distinct(cell, named[cell.label, cell.ratio]) for cell in cells]


def _distinct(cell: Cell, namesakes: Sequence[Cell]) -> str:
    said: list[str] = []
    alike = [_traits(other) for other in namesakes]
    mine = _traits(cell)
    for at, trait in enumerate(mine):
        if len(alike) == 1:
            break
        if len({other[at] for other in alike}) > 1:
            said.append(trait)
            alike = [other for other in alike if other[at] == trait]
    return f"{cell.label} ({', '.join(said)})" if said else cell.label


def _traits(cell: Cell) -> tuple[str, ...]:
    """What may differ between cells of the same name, the most telling first; the last one always does."""
    env = cell.record.environment
    own = cell.record.fingerprint[:8]
    return env.dtype, env.device, f"lmms-eval {env.lmms_eval}", f"torch {env.torch}", f"code {env.code[:8]}", own
