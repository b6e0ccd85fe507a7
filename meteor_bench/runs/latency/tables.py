"""Latency cells as tables, and as CSV and JSON with every number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from statistics import median
from typing import TYPE_CHECKING, Any

from meteor_bench.core.match import MEASURES, OF, WORDS
from meteor_bench.report.document import Document
from meteor_bench.report.table import INFERRED, MARKS, MISSING, Table, fixed
from meteor_bench.runs.latency.records import GRAPHS, UNPRUNED, Cell
from meteor_bench.runs.latency.summary import STEADY, Line, lines
from meteor_bench.utils.structuring import plain

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["document", "lay_out"]

_SHOWN = ("preprocess", "encode", "fuse", "prune", "prefill", "ttft", "decode per token", "end to end")
_HEADS = ("prep", "encode", "fuse", "prune", "prefill", "first", "token", "end", "faster")


def document(cells: Sequence[Cell]) -> Document:
    """Latency cells: a line of CSV for each quantity of each contender; JSON has the settings, not the raw samples."""
    return Document(lambda: lay_out(cells), lambda: {"latency": _numbers(cells)}, (), lambda: _data(cells))


def _numbers(cells: Sequence[Cell]) -> pd.DataFrame:
    """Percentiles of the times, one value for the rest."""
    import pandas as pd

    about = ("model", "frames", "ratio", "match", "batch", "record")
    rows = [
        {name: getattr(cell, name) for name in about} | {"contender": line.row.name} | quantity
        for cell in cells
        for line in lines(cell)
        for quantity in _quantities(line)
    ]
    return pd.DataFrame(rows)


def _data(cells: Sequence[Cell]) -> dict[str, Any]:
    """Every cell with its settings and the summary of its contenders."""
    found = []
    for cell in cells:
        told = {line.row.name: _told(line) for line in lines(cell)}
        record: dict[str, Any] = plain(cell)
        for row in record["rows"]:
            del row["samples"]
            row |= told.get(row["name"], {})
        found.append(record)
    return {"cells": _rounded(found)}


def lay_out(cells: Sequence[Cell]) -> list[Table]:
    """Times, spread and work of each cell; of several cells also how much faster each contender is in them.

    Cells of one ratio and batch size (other settings, an older version) are told apart by the names of their files.
    """
    alike = Counter(_of(cell) for cell in cells)
    marks = [f", record {cell.record}" if alike[_of(cell)] > 1 else "" for cell in cells]
    made = [table for cell, mark in zip(cells, marks, strict=True) for table in _tables(cell, mark)]
    return [*made, _overview(cells, marks)] if len(cells) > 1 else made


def _of(cell: Cell) -> str:
    frames = f", {cell.frames} frames" if cell.frames > 1 else ""
    return f"{cell.model}{frames}, ratio {cell.share}, batch {cell.batch}"


def _tables(cell: Cell, mark: str) -> Iterator[Table]:
    found, of = lines(cell), _of(cell) + mark
    yield Table(f"Latency: {of}", ["ms, p50", *_HEADS], [_times(line) for line in found], notes=_notes(cell, found))
    towers = [stage for stage in found[0].times if stage.startswith("encode.")]
    if len(towers) > 1:
        rows = [[_name(line), *(_middle(line, t) for t in towers)] for line in found if "encode" in line.times]
        heads = ["ms, p50", *(t.removeprefix("encode.") for t in towers)]
        yield Table(f"Encoders: {of}", heads, rows, detail=True)
    heads = ["ms", "first", "p90", "p99", "IQR", "end", "p90", "p99", "IQR", "clocks", "stages"]
    yield Table(f"Spread: {of}", heads, [_spreads(line) for line in found], notes=_spread_notes(found))
    if cell.match != "tokens":
        yield _removed(of, cell, found)
    fewer, realised, prefill = (head + INFERRED for head in ("fewer", "of it", "prefill"))
    heads = ["", "kept", "chosen", "GFLOPs", fewer, "faster", realised, prefill, "GFLOP/s", "MiB"]
    yield Table(f"Work to the first token: {of}", heads, [_works(line) for line in found], notes=_work_notes(cell))


def _removed(of: str, cell: Cell, found: Sequence[Line]) -> Table:
    """The fraction of each measure that a contender removes."""
    rows = [[_name(line), *(fixed(line.removed.get(m), 4) for m in MEASURES)] for line in found if line.removed]
    notes = [f"The ratio, {cell.ratio:g}, is of the {WORDS[cell.match]}. Fractions removed, all passes together."]
    return Table(f"Removed: {of}", ["", *(OF[m] for m in MEASURES)], rows, notes=notes)


def _name(line: Line) -> str:
    return line.row.name + (" ~" if not line.row.exact else "")


def _three(value: float) -> str:
    """A number to three digits, more before the point."""
    return fixed(value, 2 if value < 9.995 else 1 if value < 99.95 else 0)


def _middle(line: Line, stage: str) -> str:
    """The median of a stage, where it was timed."""
    return _three(line.times[stage].p50) if stage in line.times else MISSING


def _times(line: Line) -> list[str]:
    times = [_middle(line, stage) for stage in _SHOWN]
    return [_name(line), *times, f"{line.faster['end to end']:.2f}x"]


def _spreads(line: Line) -> list[str]:
    cells = [_name(line)]
    for stage in ("ttft", "end to end"):
        s = line.times[stage]
        mark = "!" if s.iqr > STEADY else ""
        cells += [_three(s.p50), _three(s.p90), _three(s.p99), f"{s.iqr:.0%}{mark}"]
    return [*cells, f"{line.instrumentation:+.1%}", f"{line.covered:.1%}"]


def _works(line: Line) -> list[str]:
    low, mean, high = line.kept
    kept = f"{mean:.0f}" if low == high else f"{mean:.1f}"
    memory = line.row.memory_bytes
    return [
        _name(line),
        kept,
        MISSING if line.prune_share is None else f"{line.prune_share:.1%}",
        _three(line.work["ttft"]),
        f"{line.lighter['ttft']:.2f}x",
        f"{line.faster['ttft']:.2f}x",
        f"{line.realised:.0%}",
        f"{line.faster['prefill'] / line.lighter['prefill']:.0%}" if "prefill" in line.faster else MISSING,
        fixed(line.gflops_per_second, 0),
        MISSING if memory is None else _three(memory / 2**20),
    ]


def _notes(cell: Cell, found: Sequence[Line]) -> list[str]:
    env, passes = cell.environment, found[0].times["ttft"].n
    machine = env.processor if env.device == "cpu" else env.device
    notes = [
        f"{machine}, {env.threads} thread(s), {env.dtype}, torch {env.torch}, transformers {env.transformers}; "
        f"{_clocks(cell)}.",
        f"{passes} passes of each in turn in one process after {cell.warmup} that were thrown away; {cell.pictures}; "
        f"{cell.new_tokens} tokens generated, end tokens ignored; nothing reused between passes.",
        "prep: decoding, scaling, tokenising. first: to the first token, encode + fuse + prune + prefill. prune: all "
        "that a method adds (reading attention, choosing, applying). token: each further one. end: all of it, timed "
        "without stage clocks. faster: that against unpruned. eager: unpruned, with attention that writes out every "
        "weight.",
    ]
    if any(line.row.name.endswith(GRAPHS) for line in found):
        how = "nothing captured on a CPU" if env.device == "cpu" else "both replayed CUDA graphs"
        notes.append(
            "graphs: all up to the first token as one pass, whose parts are not timed, and each further one over a "
            f"cache of fixed size; {how}."
        )
    notes += [
        f"{line.row.name}: only its decoding; up to the first token as without, {line.row.uncaptured}."
        for line in found
        if line.row.uncaptured
    ]
    if env.device == "cpu":
        notes.append("A CPU: what pays on a GPU may not pay here, and the other way round.")
    if cell.random_weights:
        whose = "the real model's" if cell.limit_layers is None else f"of its first {cell.limit_layers} layers only"
        notes.append(f"Random weights: times, work and memory are {whose}, answers are not.")
    adaptive = [line for line in found if not line.row.exact]
    if adaptive:
        how = "calibrated on such noise to keep the budget" if cell.random_weights else "calibrated to the budget"
        said = ", ".join(
            f"{line.row.name} {line.kept[1]:.1f} ({line.kept[0]:.0f}-{line.kept[2]:.0f})" for line in adaptive
        )
        notes.append(f"~ adaptive: its count depends on the sample, {how} on average; kept here: {said}.")
    others = {line.row.model for line in found} - {found[0].row.model}
    for model in sorted(others):
        names = ", ".join(line.row.name for line in found if line.row.model == model)
        notes.append(f"{names} runs on {model}, unpruned is {found[0].row.model}.")
    notes += [f"{row.name}: not timed, {row.failure}." for row in cell.rows if row.failure]
    return notes


def _clocks(cell: Cell) -> str:
    """What is known of the machine's state, in words."""
    before, after = cell.state["before"], cell.state["after"]
    said = []
    if cell.environment.device != "cpu":
        for key, name in (("clocks.sm", "clock"), ("temperature.gpu", "temperature"), ("power.draw", "power")):
            if key in before and key in after:
                said.append(f"{name} {before[key]} before, {after[key]} after")
        others = before.get("other_processes")
        said.append("other processes on it unknown" if others is None else f"{len(others)} other processes on it")
    elif before["cpu_mhz"]:
        said.append(f"clock {median(before['cpu_mhz']):.0f} MHz before, {median(after['cpu_mhz']):.0f} after")
    said.append(f"load {before['load'][0]:.1f} of {before['cpus']} CPUs before, {after['load'][0]:.1f} after")
    if cell.environment.device == "cpu":
        said.append(f"this process had {cell.cpu_share / cell.environment.threads:.0%} of its threads' time")
    return "; ".join(said)


def _spread_notes(found: Sequence[Line]) -> list[str]:
    notes = [
        "First token, and end to end. IQR: interquartile range as a share of the median. clocks: what timing the "
        "stages adds to a pass. stages: their sum as a share of the pass that they were timed in."
    ]
    unsteady = [line for line in found if max(line.times[s].iqr for s in ("ttft", "end to end")) > STEADY]
    if unsteady:
        worst = max(line.times[s].iqr for line in unsteady for s in ("ttft", "end to end"))
        names = ", ".join(line.row.name for line in unsteady)
        notes.append(f"! Unsteady machine: the middle half spans up to {worst:.0%} of the median ({names}).")
    return notes


def _work_notes(cell: Cell) -> list[str]:
    return [
        "kept: visual tokens after the last pruning point, of each sample. chosen: prune as a share of the time to the "
        "first token. GFLOPs of the whole batch, 1 multiply-add = 2 FLOPs, choosing included. faster: measured, "
        "against unpruned. fewer: its limit were computing all that takes time, from FLOPs; of it: faster as a share "
        f"of fewer, and the same for the prefill alone. {INFERRED} {MARKS[INFERRED]}, but choosing's FLOPs are "
        "counted. GFLOP/s: achieved. MiB: what a pass needs beside the weights "
        f"({cell.weight_bytes / 2**20:.0f} MiB)."
    ]


def _overview(cells: Sequence[Cell], marks: Sequence[str]) -> Table:
    """Time to the first token against unpruned: measured, what FLOPs alone would give, the share of that."""
    found = [{line.row.name: line for line in lines(cell)} for cell in cells]
    names = [name for name in dict.fromkeys(name for part in found for name in part) if name != UNPRUNED]
    several = len({(cell.model, cell.frames) for cell in cells}) > 1
    heads = [
        f"{cell.model + ' ' if several else ''}{cell.share}, b{cell.batch}{mark}"
        for cell, mark in zip(cells, marks, strict=True)
    ]
    shown: dict[str, Callable[[Line], str]] = {
        "": lambda line: f"{line.faster['ttft']:.2f}x",
        f", by FLOPs{INFERRED}": lambda line: f"{line.lighter['ttft']:.2f}x",
        f", share of that{INFERRED}": lambda line: f"{line.realised:.0%}",
    }
    rows = [
        [name + what, *(tell(part[name]) if name in part else MISSING for part in found)]
        for name in names
        for what, tell in shown.items()
    ]
    base = ["unpruned, ms", *(fixed(part[UNPRUNED].times["ttft"].p50, 1) for part in found)]
    notes = [
        f"Measured; {INFERRED} {MARKS[INFERRED]}: the limit were computing all that takes time, and the share realised."
    ]
    return Table("Faster to the first token than unpruned: ratio, batch", ["", *heads], [base, *rows], notes=notes)


def _told(line: Line) -> dict[str, Any]:
    low, mean, high = line.kept
    return {
        "times_ms": {stage: asdict(value) for stage, value in line.times.items()},
        "gflops": dict(line.work),
        "kept": {"min": low, "mean": mean, "max": high, "reference": line.reference},
        "faster": dict(line.faster),
        "lighter": dict(line.lighter),
        "realised": line.realised,
        "prune_share": line.prune_share,
        "gflops_per_second": line.gflops_per_second,
        "instrumentation": line.instrumentation,
        "covered": line.covered,
        "unsteady": max(line.times[s].iqr for s in ("ttft", "end to end")) > STEADY,
    }


def _quantities(line: Line) -> Iterator[dict[str, Any]]:
    for stage, times in line.times.items():
        yield {"quantity": stage, "unit": "ms", **asdict(times)}
    for stage, count in line.work.items():
        yield {"quantity": stage, "unit": "GFLOPs", "mean": count}
    yield {"quantity": "kept", "unit": "tokens", "mean": line.kept[1]}
    for stage, gain in line.faster.items():
        yield {"quantity": f"{stage}, time of unpruned", "unit": "ratio", "p50": gain}
    for stage, gain in line.lighter.items():
        yield {"quantity": f"{stage}, FLOPs of unpruned", "unit": "ratio", "mean": gain}
    yield {"quantity": "ttft, time saved as a share of FLOPs saved", "unit": "ratio", "p50": line.realised}
    yield {"quantity": "to first token", "unit": "GFLOP/s", "p50": line.gflops_per_second}
    if line.row.memory_bytes is not None:
        yield {"quantity": "memory", "unit": "bytes", "p50": line.row.memory_bytes}


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_rounded(part) for part in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
