"""Frames into the tables that people read: which rows and columns, how many digits, what is said below.

One setting is shown benchmark by benchmark beside its unpruned run; several settings are shown a row each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from meteor_bench.report import tables
from meteor_bench.report.cells import Cell

__all__ = ["Table", "lay_out"]

_TIMES = (
    ("preprocess", "preprocess"),
    ("encode", "encode"),
    ("fuse", "fuse"),
    ("prune", "prune"),
    ("prefill", "prefill"),
    ("ttft", "to first token"),
    ("decode per token", "per token"),
    ("end to end", "end to end"),
)
_FLOPS = ("encode", "fuse", "prune", "prefill", "to first token", "decode")
_MISSING = "–"


@dataclass(frozen=True)
class Table:
    """Text in cells, ready for any renderer.

    Attributes:
        title: what it shows.
        columns: headings; the first column is text, the others are numbers.
        rows: cells, as many as headings.
        breaks: indices of the rows that a new section starts with.
        notes: what was measured and how, below the table.
        wide: needs more than a terminal's 80 columns, left out there.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    breaks: frozenset[int] = frozenset()
    notes: Sequence[str] = field(default_factory=tuple)
    wide: bool = False


def lay_out(cells: Sequence[Cell]) -> list[Table]:
    """Accuracy, tokens and latency of the cells, in this order; a table without rows is left out."""
    frames = tables.accuracy(cells), tables.tokens(cells), tables.latency(cells)
    pruned = [cell for cell in cells if cell.record.config.method != "none"]
    shown = pruned if len(pruned) == 1 else cells
    accuracy, tokens, latency = (f[f["method"] == shown[0].label] if len(shown) == 1 and len(f) else f for f in frames)
    notes = _notes(cells)
    if len(shown) == 1:
        made = [
            _accuracy_of_one(shown[0], accuracy, notes),
            _tokens_of_one(shown[0], tokens),
            _times_of_one(shown[0], latency),
        ]
    else:
        made = [*_accuracy_of_many(shown, accuracy, notes), _tokens_of_many(tokens), _times_of_many(latency)]
    return [table for table in made if table.rows]


def _notes(cells: Sequence[Cell]) -> list[str]:
    """What holds for all numbers of a report."""
    record = cells[-1].record
    env = record.environment
    notes = [
        f"Measured here, nothing copied: lmms-eval {env.lmms_eval}, torch {env.torch}, "
        f"transformers {env.transformers}, {env.dtype}, "
        f"{env.device if env.device != 'cpu' else env.processor}, {env.threads} thread(s).",
        "Intervals: 95 %, clustered by image; differences are paired, in points of 100.",
    ]
    models = {cell.record.model for cell in cells if cell.record.config.method != "none"}
    for model in sorted(models - {record.config.model}):
        methods = sorted({cell.label for cell in cells if cell.record.model == model})
        notes.append(f"{', '.join(methods)} runs on {model}; unpruned is {record.config.model}.")
    said: dict[str, list[str]] = {}
    for cell in cells:
        for note in cell.notes:
            said.setdefault(note, []).append(_row_name(cell))
    return notes + [f"{', '.join(names)}: {note}." for note, names in said.items()]


def _title(what: str, cell: Cell) -> str:
    config = cell.record.config
    ratio = f" at ratio {config.ratio:g}" if config.method != "none" else ""
    seeds = f", {len(cell.runs)} seeds" if len(cell.runs) > 1 else ""
    return f"{what}: {cell.record.model}, {cell.label}{ratio}{seeds}"


def _accuracy_of_one(cell: Cell, frame: pd.DataFrame, notes: Sequence[str]) -> Table:
    compared = cell.unpruned is not None
    heads = (
        ["", "n", "unpruned", "pruned", "diff", "95 % interval"] if compared else ["", "n", "score", "95 % interval"]
    )
    rows: list[list[str]] = []
    breaks, previous = set(), "benchmark"
    for r in frame.to_dict("records"):
        if r["kind"] != previous:
            breaks.add(len(rows))
            previous = r["kind"]
        name = f"{r['name']} (mean)" if r["kind"] == "group" else r["name"]
        mark = "" if r["sampled"] else " ~"
        if compared:
            interval = _interval(r["difference_low"], r["difference_high"]) + mark
            numbers = [_fixed(r["unpruned"], 1), _fixed(r["score"], 1), _signed(r["difference"]), interval]
        else:
            numbers = [_fixed(r["score"], 1), _interval(r["low"], r["high"], signed=False) + mark]
        rows.append([name, f"{r['n']}", *numbers])
    extra = [] if compared or cell.record.config.method == "none" else ["No record of the unpruned model was found."]
    if not frame["sampled"].all():
        extra.append("~ the metric is no mean over questions; its interval is that of the questions' scores.")
    return Table(_title("Accuracy", cell), heads, rows, frozenset(breaks), [*notes, *extra])


def _tokens_of_one(cell: Cell, frame: pd.DataFrame) -> Table:
    if frame.empty:
        return Table("", [], [])
    compared = cell.unpruned is not None
    rows, by_name = [], frame.set_index("name")
    for name, r in by_name.iterrows():
        if str(name).split()[0] in ("requested", "realised", "missed", "text", "answer", "reference", "target"):
            continue
        numbers = [_fixed(r["unpruned"], 1)] if compared else []
        rows.append(
            [_TOKEN_NAMES.get(str(name), str(name)), *numbers, *(_fixed(r[c], 1) for c in ("mean", "min", "max"))]
        )
    notes = ["Visual tokens per question, counted from tensors; the ratio is measured after the last prune."]
    value = by_name["mean"]
    if cell.record.config.method != "none":
        notes.append(
            f"Ratio requested {value['requested ratio']:.4f}, realised {value['realised ratio']:.4f}; "
            + (
                f"{int(value['missed'])} samples missed the budget."
                if cell.record.exact
                else "adaptive: met on average."
            )
        )
        if facts := ", ".join(f"{name} {number:g}" for name, number in tables.flat(cell.record.facts)):
            notes.append(f"Measured on calibration samples, which are never evaluated: {facts}.")
    heads = ["", *(["unpruned"] if compared else []), "mean", "min", "max"]
    return Table(_title("Tokens", cell), heads, rows, frozenset(), notes)


_TOKEN_NAMES = {
    "fused": "after fusion",
    "llm input": "LLM input",
    "final": "after the last prune",
    "layer mean": "LLM layer mean",
    "kv mean": "KV cache mean",
}


def _times_of_one(cell: Cell, frame: pd.DataFrame) -> Table:
    if frame.empty:
        return Table("", [], [])
    compared = "speedup" in frame
    ms = frame[frame["unit"] == "ms"].set_index("name")
    rows = []
    towers = [(name, name) for name in ms.index if str(name).startswith("encode ")]
    for name, shown in [_TIMES[0], *towers, *_TIMES[1:]]:
        if name in ms.index:
            rows.append([f"{shown}, ms", *_time_cells(ms.loc[name], compared, 2)])
    at = len(rows)
    work = frame[frame["unit"] == "GFLOPs"].set_index("name")
    for name in _FLOPS:
        if name in work.index:
            rows.append([f"{name}, GFLOPs", *_time_cells(work.loc[name], compared, 3)])
    heads = ["", *(["unpr. p50", "p90"] if compared else []), "p50", "p90", *(["speed-up"] if compared else [])]
    return Table(_title("Latency", cell), heads, rows, frozenset({at}), _latency_notes(frame))


def _latency_notes(frame: pd.DataFrame) -> list[str]:
    n = int(frame["n"].max())
    notes = [f"{n} requests, batch 1, nothing reused, both models in turn in one process. 1 multiply-add = 2 FLOPs."]
    noisy = frame[(frame["name"] == "end to end") & (frame["iqr"] > 0.1)]
    if len(noisy):
        notes.append(
            f"Unsteady machine: the middle half of the end-to-end times spans {noisy['iqr'].max():.0%} of the median."
        )
    return notes


def _time_cells(r: pd.Series, compared: bool, digits: int) -> list[str]:
    before = [_fixed(r["unpruned_p50"], digits), _fixed(r["unpruned_p90"], digits)] if compared else []
    speedup = r["speedup"] if compared else math.nan
    after = ([f"{speedup:.2f}x"] if not math.isnan(speedup) else [_MISSING]) if compared else []
    return [*before, _fixed(r["p50"], digits), _fixed(r["p90"], digits), *after]


def _accuracy_of_many(cells: Sequence[Cell], frame: pd.DataFrame, notes: Sequence[str]) -> list[Table]:
    groups = list(dict.fromkeys(frame.loc[frame["kind"] == "group", "name"]))
    averages = list(dict.fromkeys(frame.loc[frame["kind"] == "average", "name"]))
    benchmarks = list(dict.fromkeys(frame.loc[frame["kind"] == "benchmark", "name"]))
    rows, wide = [], []
    for cell, part in _parts(cells, frame):
        by_name = part.set_index("name")
        score = by_name["score"].to_dict()
        r = by_name.loc["average"]
        sd = "" if math.isnan(r["sd"]) else f" ±{r['sd']:.1f}"
        head = [_row_name(cell)]
        short = [_fixed(score.get(g), 1) for g in groups]
        rows.append([*head, *short, _fixed(score["average"], 1) + sd, _with_half(r)])
        wide.append([*head, *(_fixed(score.get(name), 1) for name in [*benchmarks, *groups, *averages])])
    several = (
        [f"± standard deviation over {max(len(c.runs) for c in cells)} seeds."]
        if any(len(c.runs) > 1 for c in cells)
        else []
    )
    heads = ["", *groups, "average", "diff (95 %)"]
    return [
        Table("Accuracy", heads, rows, frozenset(), [*notes, *several]),
        Table("Accuracy per benchmark", ["", *benchmarks, *groups, *averages], wide, wide=True),
    ]


def _tokens_of_many(frame: pd.DataFrame) -> Table:
    if frame.empty:
        return Table("", [], [])
    towers = [n for n in dict.fromkeys(frame["name"]) if str(n).startswith("encoder ")]
    rows = []
    for (method, ratio), part in frame.groupby(["method", "ratio"], sort=False):
        mean = part.set_index("name")["mean"].to_dict()
        names = [*towers, "fused", "llm input", "final", "layer mean", "kv mean"]
        realised = _fixed(mean.get("realised ratio"), 4)
        rows.append([_name(method, ratio), *(_fixed(mean.get(n), 1).removesuffix(".0") for n in names), realised])
    heads = ["", *(t.removeprefix("encoder ") for t in towers), "fused", "LLM in", "final", "layers", "KV", "realised"]
    notes = [
        "Mean visual tokens per question: each encoder's output, after fusion, LLM input, after the last prune, "
        "mean over LLM layers and over KV caches; the realised ratio."
    ]
    return Table("Tokens", heads, rows, frozenset(), notes)


def _times_of_many(frame: pd.DataFrame) -> Table:
    if frame.empty:
        return Table("", [], [])
    rows = []
    shown = ("encode", "fuse", "prune", "prefill", "decode per token")
    for (method, ratio), part in frame.groupby(["method", "ratio"], sort=False):
        ms = part[part["unit"] == "ms"].set_index("name")
        work = part[part["unit"] == "GFLOPs"].set_index("name")["p50"].to_dict()
        stages = [_fixed(ms["p50"].get(name), 1) for name in shown]
        end = [_fixed(ms[q].get("end to end"), 1) for q in ("p50", "p90")]
        speedup = ms["speedup"].get("end to end", math.nan) if "speedup" in ms else math.nan
        ratio_text = _MISSING if math.isnan(speedup) else f"{speedup:.2f}x"
        rows.append([_name(method, ratio), *stages, *end, ratio_text, _fixed(work.get("to first token"), 2)])
    heads = ["ms, p50", "encode", "fuse", "prune", "prefill", "token", "end", "p90", "faster", "GFLOPs"]
    notes = [
        *_latency_notes(frame),
        "faster: end to end against the unpruned model timed in the same process. GFLOPs: to the first token.",
    ]
    return Table("Latency", heads, rows, frozenset(), notes)


def _parts(cells: Sequence[Cell], frame: pd.DataFrame) -> list[tuple[Cell, pd.DataFrame]]:
    return [
        (cell, frame[(frame["method"] == cell.label) & (frame["ratio"] == cell.record.config.ratio)]) for cell in cells
    ]


def _row_name(cell: Cell) -> str:
    return _name(cell.label, cell.record.config.ratio)


def _name(method: str, ratio: float) -> str:
    return method if method == "unpruned" else f"{method} {ratio:g}"


def _fixed(value: float | None, digits: int) -> str:
    return _MISSING if value is None or math.isnan(value) else f"{value:.{digits}f}"


def _signed(value: float | None) -> str:
    return _MISSING if value is None or math.isnan(value) else f"{value:+.1f}"


def _with_half(r: pd.Series) -> str:
    """A difference with the half width of its (symmetric) interval."""
    if "difference" not in r or math.isnan(r["difference"]):
        return _MISSING
    return f"{r['difference']:+.1f} ±{_fixed(r['difference_high'] - r['difference'], 1)}"


def _interval(low: float | None, high: float | None, *, signed: bool = True) -> str:
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return _MISSING
    return f"[{low:+.1f}, {high:+.1f}]" if signed else f"[{low:.1f}, {high:.1f}]"
