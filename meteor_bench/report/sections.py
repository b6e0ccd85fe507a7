"""Cells that may stand in one table: the same model, benchmarks and documents, ratios of the same measure; in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from meteor_bench.core.match import MEASURES, Measure, of_ratio
from meteor_bench.data.own_pictures import OWN
from meteor_bench.records.provenance import fingerprint
from meteor_bench.records.schema import RunRecord
from meteor_bench.report.runs import Cell

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
        apart: what tells its questions from those of other sections of the model and benchmarks: ", 96 questions".
    """

    model: str
    tasks: tuple[str, ...]
    cells: tuple[Cell, ...]
    labels: tuple[str, ...]
    match: Measure = "tokens"
    apart: str = ""

    @property
    def what(self) -> str:
        """What the scores are, as in `Cell.what`."""
        return self.cells[0].what

    @property
    def questions(self) -> int:
        """How many questions each cell answered, all benchmarks together."""
        return _asked(self.cells[0].record).questions

    @property
    def data(self) -> str:
        """The questions' digest, eight digits."""
        return _asked(self.cells[0].record).data

    @property
    def of(self) -> str:
        """What a title adds: which questions, and of what the ratios are where not of the final tokens."""
        return self.apart + (f", ratio{of_ratio(self.match)}" if self.match != "tokens" else "")


@dataclass(frozen=True)
class _Asked:
    """What the cells of a section have in common.

    Attributes:
        documents: number and digest of each benchmark's.
        own: the user's files and folders, as they were given; empty where benchmarks are shipped ones.
    """

    model: str
    tasks: tuple[str, ...]
    documents: tuple[tuple[int, str], ...]
    own: tuple[str, ...] = field(compare=False)

    @property
    def questions(self) -> int:
        return sum(n for n, _ in self.documents)

    @property
    def data(self) -> str:
        return fingerprint({"data": self.documents})[:8]

    def __str__(self) -> str:
        of = f" of {', '.join(self.own)}" if self.own else ""
        return f", {self.questions} question{'s' * (self.questions != 1)}{of}"


def sections(cells: Sequence[Cell]) -> list[Section]:
    """Cells by model, benchmarks, documents and what their ratios are of; the unpruned cell of others is there."""
    groups: dict[_Asked, dict[str, Cell]] = {}
    for cell in [*cells, *(c.unpruned for c in cells if c.unpruned)]:
        groups.setdefault(_asked(cell.record), {}).setdefault(cell.record.fingerprint, cell)
    result = []
    for asked, group in groups.items():
        apart = _apart(asked, groups.keys())
        measures = {cell.match for cell in group.values() if cell.pruned} or {"tokens"}
        for match in (measure for measure in MEASURES if measure in measures):
            alike = [cell for cell in group.values() if not cell.pruned or cell.match == match]
            ordered = sorted(alike, key=_place)
            result.append(Section(asked.model, asked.tasks, tuple(ordered), tuple(_labels(ordered)), match, apart))
    return result


def _asked(record: RunRecord) -> _Asked:
    config = record.config
    model = config.model if config.source is None else f"{config.model} ({config.source})"
    names = tuple(t.task for t in record.tasks)
    own = config.tasks if any(name.startswith(OWN) for name in names) else ()
    return _Asked(model, names, tuple((t.n, t.data) for t in record.tasks), tuple(own))


def _apart(asked: _Asked, others: Collection[_Asked]) -> str:
    """What tells the questions from those of the other sections of the model and benchmarks."""
    namesakes = [other for other in others if (other.model, other.tasks) == (asked.model, asked.tasks)]
    if len(namesakes) == 1:
        return ""
    alike = Counter(map(str, namesakes))[str(asked)] > 1
    return f"{asked} (data {asked.data})" if alike else str(asked)


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
