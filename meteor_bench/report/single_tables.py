"""One setting, benchmark by benchmark and stage by stage, beside its unpruned run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from meteor_bench.core.match import MEASURES, OF, WORDS
from meteor_bench.report.runs import Cell
from meteor_bench.report.statistics import FEW
from meteor_bench.report.table import FEW_IMAGES, INFERRED, MISSING, Table, fixed, interval, signed
from meteor_bench.report.times import flat

__all__ = ["accuracy_table", "latency_table", "tokens_table"]

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
_COUNTS = {
    "fused": "after fusion",
    "llm input": "LLM input",
    "final": "after the last prune",
    "layer mean": "LLM layer mean",
    "kv mean": "KV cache mean",
}


def accuracy_table(cell: Cell, frame: pd.DataFrame, notes: Sequence[str]) -> Table:
    """A row per benchmark, group and average."""
    compared = cell.unpruned is not None
    several = len(cell.runs) > 1
    heads = ["", "n", *(["unpruned", "pruned"] if compared else ["score"]), *["±"] * several]
    heads += ["diff", "95 % interval"] if compared else ["95 % interval"]
    rows: list[list[str]] = []
    starts, previous = set(), "benchmark"
    for r in frame.to_dict("records"):
        if r["kind"] != previous:
            starts.add(len(rows))
            previous = r["kind"]
        name = f"{r['name']} (mean)" if r["kind"] == "group" else r["name"]
        few = r["kind"] == "benchmark" and r["images"] < FEW
        mark = FEW_IMAGES * few + " ~" * (not r["sampled"])
        score = [*([fixed(r["unpruned"])] if compared else []), fixed(r["score"]), *[fixed(r["sd"])] * several]
        if compared:
            bounds = [signed(r["difference"]), interval(r["difference_low"], r["difference_high"], plus=True) + mark]
        else:
            bounds = [interval(r["low"], r["high"]) + mark]
        rows.append([name, f"{r['n']}", *score, *bounds])
    if compared:
        rows += [_relative(r, several) for r in frame.to_dict("records") if r["name"] == "average"]
    return Table(_title(cell.what, cell), heads, rows, frozenset(starts), [*notes, *_remarks(cell, frame)])


def _relative(r: Mapping[str, Any], several: bool) -> list[str]:
    score = [fixed(100), fixed(r["relative"]), *[MISSING] * several]
    change, low, high = (r[key] - 100 for key in ("relative", "relative_low", "relative_high"))
    return ["relative, %", f"{r['n']}", *score, signed(change), interval(low, high, plus=True)]


def _remarks(cell: Cell, frame: pd.DataFrame) -> list[str]:
    remarks = [] if cell.unpruned or not cell.pruned else ["No record of the unpruned model was found."]
    if len(cell.runs) > 1:
        remarks.append(f"±: standard deviation over {len(cell.runs)} seeds.")
    if not frame["sampled"].all():
        remarks.append("~ the metric is no mean over questions; its interval is that of the questions' scores.")
    return remarks


def tokens_table(cell: Cell, frame: pd.DataFrame) -> Table:
    """A row per stage."""
    if frame.empty:
        return Table("", [], [])
    compared = cell.unpruned is not None
    by_name = {r["name"]: r for r in frame.to_dict("records")}
    rows = []
    for name, r in by_name.items():
        if name not in _COUNTS and not name.startswith("encoder "):
            continue
        numbers = [fixed(r["unpruned"])] if compared else []
        rows.append([_COUNTS.get(name, name), *numbers, *(fixed(r[c]) for c in ("mean", "min", "max", "sd"))])
    measured = "after the last prune" if cell.match == "tokens" else f"on the {WORDS[cell.match]}"
    notes = [f"Visual tokens per question, counted from tensors; the ratio is measured {measured}."]
    if cell.pruned:
        notes += _ratio_notes(cell, by_name)
    heads = ["", *(["unpruned"] if compared else []), "mean", "min", "max", "sd"]
    return Table(_title("Tokens", cell), heads, rows, frozenset(), notes)


def _ratio_notes(cell: Cell, by_name: Mapping[str, Mapping[str, float]]) -> list[str]:
    realised, requested = by_name["realised ratio"], by_name["requested ratio"]["mean"]
    missed = f"{int(by_name['missed']['mean'])} samples missed the budget."
    of = fixed(by_name["reference"]["mean"]).removesuffix(".0")
    text = f"Ratio requested {requested:.4f} of {of} tokens, realised {realised['mean']:.4f}"
    if cell.match != "tokens":
        text = f"Ratio requested {requested:.4f} of {WORDS[cell.match]}; of {of} final tokens {realised['mean']:.4f}"
    if not math.isnan(realised["sd"]):
        text += f" ({realised['min']:.4f} to {realised['max']:.4f}, sd {realised['sd']:.4f})"
    notes = [f"{text}; {missed if cell.record.exact else 'adaptive: met on average.'}"]
    removed = {measure: by_name.get(f"removed {measure}", {}).get("mean") for measure in MEASURES}
    told = ", ".join(f"{OF[measure]} {share:.4f}" for measure, share in removed.items() if share is not None)
    notes.append(f"Removed of each measure, over all questions together: {told}.")
    if facts := ", ".join(f"{name} {number:g}" for name, number in flat(cell.record.facts)):
        notes.append(f"Measured on calibration samples, which are never evaluated: {facts}.")
    return notes


def latency_table(cell: Cell, frame: pd.DataFrame, notes: Sequence[str]) -> Table:
    """A row per stage and quantity."""
    if frame.empty:
        return Table("", [], [])
    compared = "speedup" in frame and bool(frame["speedup"].notna().any())
    units = {unit: part.set_index("name").to_dict("index") for unit, part in frame.groupby("unit", sort=False)}
    ms, work, memory = (units.get(unit, {}) for unit in ("ms", "GFLOPs", "MiB"))
    towers = [(name, name) for name in ms if name.startswith("encode ")]
    rows = []
    for name, shown in [_TIMES[0], *towers, *_TIMES[1:]]:
        if name in ms:
            rows.append([f"{shown}, ms", *_numbers(ms[name], compared, 2)])
    starts = {len(rows)}
    rows += [[f"{name}, GFLOPs{INFERRED}", *_numbers(work[name], compared, 3)] for name in _FLOPS if name in work]
    rows += [[f"{name}, MiB", *_numbers(r, compared, 0)] for name, r in memory.items()]
    if compared and "ttft" in ms and "to first token" in work:
        share = ms["ttft"]["speedup"] / work["to first token"]["speedup"]
        if not math.isnan(share):
            blank = [MISSING] * 4
            rows.append([f"first token, share of the speed-up by FLOPs{INFERRED}", *blank, f"{share:.0%}"])
    heads = ["", *(["unpr. p50", "p90"] if compared else []), "p50", "p90", *(["speed-up"] if compared else [])]
    return Table(_title("Latency", cell), heads, rows, frozenset(starts), notes)


def _numbers(r: Mapping[str, float], compared: bool, digits: int) -> list[str]:
    before = [fixed(r["unpruned_p50"], digits), fixed(r["unpruned_p90"], digits)] if compared else []
    after = [MISSING if math.isnan(r["speedup"]) else f"{r['speedup']:.2f}x"] if compared else []
    return [*before, fixed(r["p50"], digits), fixed(r["p90"], digits), *after]


def _title(what: str, cell: Cell) -> str:
    ratio = f" at ratio {cell.record.config.share}" if cell.pruned else ""
    seeds = f", {len(cell.runs)} seeds" if len(cell.runs) > 1 else ""
    return f"{what}: {cell.record.model}, {cell.label}{ratio}{seeds}"
