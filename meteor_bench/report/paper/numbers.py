"""Reported figures with their sources, and the runs that their rows correspond to; read from ``numbers/*.yaml``.

Light: no torch, no pandas.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml

from meteor_bench.config.run_config import Setting
from meteor_bench.core.errors import DataError, UnknownNameError
from meteor_bench.utils.structuring import PlainError, fit

__all__ = ["CONFIDENCE", "Column", "Paper", "PaperTable", "Row", "Run", "Source", "paper", "papers"]

FOLDER = Path(__file__).parent / "numbers"
COMMON = "common"

Confidence = Literal["paper", "readme", "secondary"]
CONFIDENCE: Mapping[Confidence, str] = {
    "paper": "read in the paper",
    "readme": "read in the README of the authors' repository",
    "secondary": "read in a later paper or in notes on it, not checked against the original",
}
Reported = float | str | None


@dataclass(frozen=True)
class Source:
    """Where figures were read.

    Attributes:
        title: of the paper.
        where: its number, venue, or the table in it.
        confidence: how directly it was read.
    """

    title: str
    where: str
    confidence: Confidence


@dataclass(frozen=True)
class Column:
    """What a column shows; ``numbers/common.yaml`` explains the keys.

    Attributes:
        is_: its kind (key ``is``).
        tasks, metric: of a benchmark.
        times: brings our number to the reported scale; ``points`` that scale to 0-100.
        digits: after the decimal point.
        heading: None: the column's name.
        name: its key.
    """

    is_: Literal["benchmark", "tokens", "tflops", "group", "average", "relative", "share", "time", "change"] = (
        "benchmark"
    )
    tasks: tuple[str, ...] = ()
    metric: tuple[str, ...] = ()
    times: float = 1.0
    points: float | None = None
    digits: int = 1
    heading: str | None = None
    group: str = ""
    over: Literal["suite", "groups", "columns"] = "suite"
    stages: tuple[Literal["encode", "fuse", "prune", "prefill", "decode", "end"], ...] = ()
    of: Literal["tokens", "score", "flops", "speed"] | None = None
    name: str = ""

    @property
    def title(self) -> str:
        """The heading."""
        return self.heading or self.name

    @property
    def to_points(self) -> float:
        """Factor from the reported scale to 0-100."""
        return 1 / self.times if self.points is None else self.points


@dataclass(frozen=True)
class Run(Setting):
    """The run of a row. ``model``: another one than the table's."""

    model: str | None = None


@dataclass(frozen=True)
class Row:
    """A row of a paper's table.

    Attributes:
        name: what stands at its left.
        run: what it is here; None for what cannot be run here.
        minus: the run that is subtracted, where the row is a difference.
        reported: one figure per column, None where none is known; empty for a row that is ours alone.
        section: whether a new section starts with it.
    """

    name: str
    run: Run | None = None
    minus: Run | None = None
    reported: tuple[Reported, ...] = ()
    section: bool = False

    @property
    def runs(self) -> Iterator[Run]:
        """The runs that it needs."""
        yield from (run for run in (self.run, self.minus) if run)


@dataclass(frozen=True)
class PaperTable:
    """A table or ablation.

    Attributes:
        title: what it shows.
        source: key of the source of all its figures.
        model: what the figures are of.
        like: models here that are this one.
        suites: "pocket" and "other": the benchmarks that runs of a pocket model or of another are asked, as a suite's
            name or as a list.
        columns: keys of the column table.
        rows: in the paper's order.
        notes: what a reader must know.
        name: its key.
    """

    title: str
    source: str
    model: str
    suites: Mapping[str, str | tuple[str, ...]]
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    like: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    name: str = ""


@dataclass(frozen=True)
class Paper:
    """A paper's tables, with what they refer to.

    Attributes:
        title: short name.
        tables: in the paper's order.
        sources, columns: by key, those of all papers.
        name: what it is called on the command line.
    """

    title: str
    tables: tuple[PaperTable, ...]
    sources: Mapping[str, Source]
    columns: Mapping[str, Column]
    name: str

    def table(self, name: str) -> PaperTable:
        """A table by its key.

        Raises:
            UnknownNameError: there is none.
        """
        for table in self.tables:
            if table.name == name:
                return table
        raise UnknownNameError(f"table of {self.name}", name, [table.name for table in self.tables])

    def columns_of(self, table: PaperTable) -> list[Column]:
        """The columns of a table."""
        return [self.columns[name] for name in table.columns]


@dataclass(frozen=True)
class _Common:
    sources: Mapping[str, Source]
    columns: Mapping[str, Any]


@dataclass(frozen=True)
class _File:
    title: str
    tables: Mapping[str, PaperTable]


def papers() -> list[str]:
    """Names of the papers, METEOR and EvoPrune first."""
    found = {file.stem for file in FOLDER.glob("*.yaml")} - {COMMON}
    return sorted(found, key=lambda name: (name not in ("meteor", "evoprune"), name == "evoprune", name))


def paper(name: str) -> Paper:
    """A paper by its name.

    Raises:
        UnknownNameError: there is none.
        DataError: its file is damaged.
    """
    if name not in papers():
        raise UnknownNameError("paper", name, papers())
    sources, columns = _common()
    content: _File = _read(name, _File)
    tables = tuple(replace(table, name=key) for key, table in content.tables.items())
    for table in tables:
        for column in table.columns:
            if column not in columns:
                raise DataError(f"{name}.yaml: {table.name}: {UnknownNameError('column', column, columns)}")
        if table.source not in sources:
            raise DataError(f"{name}.yaml: {table.name}: {UnknownNameError('source', table.source, sources)}")
        for row in table.rows:
            if row.reported and len(row.reported) != len(table.columns):
                raise DataError(f"{name}.yaml: {table.name}: {row.name} has not a figure for each column")
    return Paper(content.title, tables, sources, columns, name)


class _Shared(NamedTuple):
    """What several papers refer to: sources and columns by name."""

    sources: Mapping[str, Source]
    columns: Mapping[str, Column]


@cache
def _common() -> _Shared:
    common: _Common = _read(COMMON, _Common)
    columns = {}
    for name, values in common.columns.items():
        given = {"is_" if key == "is" else key: value for key, value in values.items()}
        columns[name] = _fit({**given, "name": name}, Column, f"{COMMON}.yaml: columns.{name}")
    return _Shared(common.sources, columns)


def _read(name: str, kind: type) -> Any:
    file = FOLDER / f"{name}.yaml"
    try:
        return _fit(_parsed(file.read_text(encoding="utf-8")), kind, file.name)
    except (OSError, yaml.YAMLError) as error:
        raise DataError(f"{file.name}: {' '.join(str(error).split())}; install meteor-bench again") from None


@lru_cache(maxsize=16)
def _parsed(text: str) -> Any:
    """YAML as plain data; kept, for each of its hundreds of rows takes a millisecond."""
    return yaml.safe_load(text)


def _fit(value: Any, kind: type, where: str) -> Any:
    try:
        return fit(value, kind)
    except PlainError as error:
        raise DataError(f"{where}: {error}") from None
