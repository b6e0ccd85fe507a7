"""What a latency run leaves: cells as plain, versioned data beside their raw samples.

    <out>/<model>-f<frames>-r<ratio>-b<batch>-<record>.json           `Cell`; <ratio>-flops where it is of FLOPs
    <out>/<model>-f<frames>-r<ratio>-b<batch>-<record>.raw.jsonl.gz   one pass a line
    <out>/latency.md, .csv, .json                                     the tables of all cells in the folder

<record> begins the fingerprint of all that the numbers depend on, so that other settings replace nothing. The raw
samples are written first: a cell that is there is complete.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from meteor_bench.core.errors import RecordError
from meteor_bench.core.match import MEASURES, Measure, of_ratio
from meteor_bench.records.provenance import Environment
from meteor_bench.utils.atomic_io import write_whole
from meteor_bench.utils.safe_files import UnsafeFile, gunzip, json_lines, open_regular, read_json
from meteor_bench.utils.structuring import PlainError, fit, plain

__all__ = [
    "EAGER",
    "GRAPHS",
    "LIMIT",
    "SCHEMA",
    "UNPRUNED",
    "Cell",
    "Chosen",
    "Row",
    "Selection",
    "cell_files",
    "cell_path",
    "read_cell",
    "read_cells",
    "slug",
    "write_cell",
]

SCHEMA = 1
UNPRUNED = "unpruned"
EAGER = "eager"
GRAPHS = ", graphs"  # behind the name of a contender that is captured
_DIGITS = 8  # of a fingerprint, as in the names of run folders


@dataclass(frozen=True)
class Row:
    """A contender of a cell.

    Attributes:
        name: "unpruned", "eager" (unpruned with eager attention) or the method with what differs from its defaults;
            ", graphs" behind it: all up to the first logits as one, and decoding over a cache of fixed size, both
            captured on a GPU.
        parameters: of the method, with all defaults.
        model: the model that ran; a method may take a variant of the one that was named.
        exact: whether the method promises the budget on every sample (else: on average).
        facts: what was measured for the method beforehand.
        memory_bytes: most that a pass allocates beyond what was there before; None where that cannot be told.
        failure: why it was not timed, or not to the end, "" if it was.
        broken: whether an error of the program or the machine was the cause; the command then ends with status 1.
        uncaptured: why of a ", graphs" nothing but the decoding is captured, "" where all is.
        samples: one per pass, as `runs.latency.interleave.Timing` explains; kept in the raw file.
    """

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    model: str = ""
    exact: bool = True
    facts: Mapping[str, Any] = field(default_factory=dict)
    memory_bytes: int | None = None
    failure: str = ""
    broken: bool = False
    uncaptured: str = ""
    samples: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Cell:
    """Everything timed at one ratio and batch size, interleaved in one process.

    Attributes:
        model: as the user named it.
        random_weights: whether the weights were drawn.
        limit_layers: how many layers of the language model there were, at most; None: all.
        pictures: where the pictures and questions come from.
        match: what the ratio is of; see `core.match`.
        new_tokens: tokens generated, end tokens ignored.
        warmup: passes thrown away.
        weight_bytes: of the model that the user named.
        state: the machine's clocks and neighbours "before" and "after".
        cpu_share: processor time over wall time, all threads together; on a CPU well below the number of threads says
            that others were at work.
        started, seconds: of the timing.
        fingerprint: hash of all that a number here depends on.
        rows: the contenders in the order in which they were timed first.
    """

    schema: int
    fingerprint: str
    model: str
    random_weights: bool
    pictures: str
    ratio: float
    batch: int
    frames: int
    new_tokens: int
    warmup: int
    seed: int
    environment: Environment
    weight_bytes: int
    state: Mapping[str, Any]
    cpu_share: float
    started: str
    seconds: float
    rows: tuple[Row, ...]
    match: Measure = "tokens"
    limit_layers: int | None = None

    @property
    def share(self) -> str:
        """The ratio, and what it is of: "0.76", "0.76 of FLOPs"."""
        return f"{self.ratio:g}{of_ratio(self.match)}"

    @property
    def record(self) -> str:
        """What tells it in its file's name from other settings at the same ratio and batch size."""
        return self.fingerprint[:_DIGITS]


def cell_path(
    out: Path, model: str, frames: int, ratio: float, batch: int, fingerprint: str, match: Measure = "tokens"
) -> Path:
    """Where a cell is written."""
    of = "" if match == "tokens" else f"-{match}"
    return out / f"{slug(model)}-f{frames}-r{ratio:g}{of}-b{batch}-{fingerprint[:_DIGITS]}.json"


def slug(name: str) -> str:
    """A name that can stand in a file's name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")


def _raw_path(path: Path) -> Path:
    return path.with_suffix(".raw.jsonl.gz")


def write_cell(path: Path, cell: Cell) -> None:
    """Write a cell and its raw samples.

    Raises:
        RecordError: they cannot be written.
    """
    lines = [{"row": row.name, **sample} for row in cell.rows for sample in row.samples]
    raw = "".join(json.dumps(_rounded(line), separators=(",", ":")) + "\n" for line in lines)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(_raw_path(path), gzip.compress(raw.encode(), compresslevel=9, mtime=0))
    bare = replace(cell, rows=tuple(replace(row, samples=()) for row in cell.rows))
    write_whole(path, (json.dumps(plain(bare), indent=1, ensure_ascii=False) + "\n").encode())


def _rounded(value: Any) -> Any:
    """Seven digits say all that a clock can."""
    if isinstance(value, Mapping):
        return {key: _rounded(part) for key, part in value.items()}
    return float(f"{value:.7g}") if isinstance(value, float) else value


def read_cell(path: Path) -> Cell:
    """A cell with its samples.

    Raises:
        RecordError: it is missing, cut, foreign or of another version.
    """
    try:
        data = read_json(path)
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            raise RecordError(f"{path} is no latency record of schema {SCHEMA}")
        cell: Cell = fit(data, Cell)
        samples: dict[str, list[Mapping[str, Any]]] = {}
        with open_regular(_raw_path(path)) as stream:
            for number, sample in json_lines(gunzip(stream)):
                if not isinstance(sample, dict) or not isinstance(sample.get("row"), str):
                    raise RecordError(f"{_raw_path(path)}:{number} is no sample: it names no row")
                samples.setdefault(sample.pop("row"), []).append(sample)
    except PlainError as error:
        raise RecordError(f"{path}: {error}") from None
    except (OSError, UnsafeFile) as error:
        raise RecordError(f"{path} or its raw samples are missing, cut or damaged: {error}") from None
    return replace(cell, rows=tuple(replace(row, samples=tuple(samples.get(row.name, ()))) for row in cell.rows))


def cell_files(out: Path) -> list[Path]:
    """The cells' files in a folder."""
    return list(out.glob("*-b*.json"))


def read_cells(out: Path) -> list[Cell]:
    """All cells of a folder, by model, frames, what the ratio is of, batch and ratio; the older first.

    Raises:
        RecordError: one of them is cut or foreign.
    """
    found: Sequence[Cell] = [read_cell(path) for path in cell_files(out)]
    return sorted(
        found, key=lambda c: (c.model, c.frames, MEASURES.index(c.match), c.batch, c.ratio, c.started, c.fingerprint)
    )


LIMIT = 0.05  # what choosing may cost, as a share of the encoder's time


@dataclass(frozen=True)
class Chosen:
    """A method's rounds.

    Attributes:
        encoders: of the model that it ran on; two where it compares encoders.
        decide_ms: its own decisions, all points together.
        decide_cpu_ms: the same in processor time, all threads together; wall time off the CPU.
        around_ms: reading attention and applying the decisions.
        kept: tokens after the last point, of each sample.
    """

    name: str
    encoders: int
    decide_ms: tuple[float, ...]
    decide_cpu_ms: tuple[float, ...]
    around_ms: tuple[float, ...]
    kept: tuple[int, ...]


@dataclass(frozen=True)
class Selection:
    """All methods at one batch size.

    Attributes:
        tokens: of a picture before pruning.
        vit_ms, vit_cpu_ms: encoding the batch with a ViT-L, each round.
    """

    tokens: int
    batch: int
    ratio: float
    environment: Environment
    vit_ms: tuple[float, ...]
    vit_cpu_ms: tuple[float, ...]
    rows: tuple[Chosen, ...]

    def share(self, row: Chosen) -> float:
        """Processor time of the decisions over the encoder's, medians (wall time off the CPU)."""
        return median(row.decide_cpu_ms) / median(self.vit_cpu_ms)
