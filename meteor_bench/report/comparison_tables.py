"""Several settings, a row each: accuracy, accuracy and difference per benchmark, tokens, latency."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from meteor_bench.core.match import MEASURES, OF, WORDS
from meteor_bench.report.accuracy import few_images
from meteor_bench.report.runs import ADAPTATION, Cell
from meteor_bench.report.sections import Section
from meteor_bench.report.table import FEW_IMAGES, INFERRED, Table, fixed, interval, with_half

__all__ = [
    "accuracy_tables",
    "breaks",
    "latency_table",
    "overview_table",
    "removed_table",
    "row_names",
    "tokens_table",
]

# Heading, name in the frame, unit, digits.
_TIMES = (
    ("preproc", "preprocess", "ms", 1),
    ("encode", "encode", "ms", 1),
    ("fuse", "fuse", "ms", 1),
    ("prune", "prune", "ms", 1),
    ("prefill", "prefill", "ms", 1),
    ("TTFT", "ttft", "ms", 1),
    ("token", "decode per token", "ms", 1),
    ("end", "end to end", "ms", 1),
)
_COUNTS = (
    ("fused", "fused"),
    ("LLM in", "llm input"),
    ("final", "final"),
    ("layers", "layer mean"),
    ("KV", "kv mean"),
)


def accuracy_tables(section: Section, frame: pd.DataFrame, notes: Sequence[str]) -> list[Table]:
    """The averages; every benchmark; every benchmark's difference to the unpruned model."""
    names = {kind: list(dict.fromkeys(frame.loc[frame["kind"] == kind, "name"])) for kind in set(frame["kind"])}
    rows = _by_row(frame)
    return [
        _averages(section, rows, names["average"], notes),
        _benchmarks(section, rows, [*names["benchmark"], *names["group"]]),
        _differences(section, rows, names["benchmark"]),
    ]


def overview_table(section: Section, scores: pd.DataFrame, counts: pd.DataFrame, notes: Sequence[str]) -> Table:
    """All settings by all benchmarks, the average and the visual tokens in front."""
    names = list(dict.fromkeys(scores.loc[scores["kind"] == "benchmark", "name"]))
    matched = section.match != "tokens"
    rows, tokens = _by_row(scores), _by_row(counts) if len(counts) else {}
    body, bold = [], set()
    for i, name in enumerate(row_names(section)):
        r = rows[i]["average"]
        difference = with_half(r["difference"], r["difference_low"], r["difference_high"])
        kept = fixed(_get(tokens.get(i, {}), "final", "mean")).removesuffix(".0")
        removed = [_share(_get(tokens.get(i, {}), f"removed {section.match}", "mean"))] * matched
        body.append([name, _score(r), difference, kept, *removed, *(_score(rows[i][column]) for column in names)])
        bold |= {(i, 1)} if r["best"] else set()
        bold |= {(i, 4 + matched + at) for at, column in enumerate(names) if rows[i][column]["best"]}
    heads = ["", "average", "difference", "tokens", *["removed"] * matched, *_headings(section, names)]
    said = [
        "tokens: visual tokens after the last prune, mean. Bold: ahead of all others of its ratio beyond the noise."
    ]
    said += [f"removed: {OF[section.match]}, which the ratio is of."] * matched
    several = max(len(cell.runs) for cell in section.cells)
    said += [f"±: of an average, the standard deviation over {several} seeds."] if several > 1 else []
    return Table("Overview", heads, body, breaks(section.cells), [*notes, *said], frozenset(bold))


def _averages(
    section: Section, rows: Mapping[int, Mapping[str, Any]], averages: Sequence[str], notes: Sequence[str]
) -> Table:
    several = max(len(cell.runs) for cell in section.cells)
    extra = [name for name in averages if name != "average"]
    body, bold = [], set()
    for i, name in enumerate(row_names(section)):
        r = rows[i]["average"]
        body.append(
            [
                name,
                _score(r),
                interval(r["low"], r["high"]) + ("" if r["sampled"] else " ~"),
                with_half(r["difference"], r["difference_low"], r["difference_high"]),
                fixed(r["relative"]),
                *(_score(rows[i][other]) for other in extra),
            ]
        )
        bold |= {(i, 1)} if r["best"] else set()
        bold |= {(i, 5 + at) for at, other in enumerate(extra) if rows[i][other]["best"]}
    said = [f"{name} ±: standard deviation over {several} seeds." for name in ["average"] if several > 1]
    if not all(by_name["average"]["sampled"] for by_name in rows.values()):
        said.append("~ a headline is no mean over questions (F1); the interval is that of the questions' scores.")
    said.append("Bold: ahead of all others of its ratio by more than the noise of each paired difference.")
    heads = ["", "average", "95 % interval", "difference", "relative", *extra]
    return Table(section.what, heads, body, breaks(section.cells), [*notes, *said], frozenset(bold))


def _benchmarks(section: Section, rows: Mapping[int, Mapping[str, Any]], names: Sequence[str]) -> Table:
    body, bold = [], set()
    for i, name in enumerate(row_names(section)):
        body.append([name, *(_score(rows[i][column]) for column in names)])
        bold |= {(i, 1 + at) for at, column in enumerate(names) if rows[i][column]["best"]}
    return Table(
        f"{section.what} per benchmark",
        ["", *_headings(section, names)],
        body,
        breaks(section.cells),
        bold=frozenset(bold),
    )


def _differences(section: Section, rows: Mapping[int, Mapping[str, Any]], names: Sequence[str]) -> Table:
    shown = [i for i in rows if not math.isnan(rows[i]["average"]["difference"])]
    called = row_names(section)
    body: list[list[str]] = []
    for i in shown:
        columns = (rows[i][column] for column in names)
        numbers = (with_half(r["difference"], r["difference_low"], r["difference_high"]) for r in columns)
        body.append([called[i], *numbers])
    heads = ["", *_headings(section, names)]
    title = "Difference to the unpruned model per benchmark"
    return Table(title, heads, body, breaks([section.cells[i] for i in shown]), detail=True)


def tokens_table(section: Section, frame: pd.DataFrame) -> Table:
    """Mean visual tokens at every stage, the ratio that was asked for and the one that came out."""
    if frame.empty:
        return Table("", [], [])
    rows = _by_row(frame)
    towers = [str(n) for n in dict.fromkeys(frame["name"]) if str(n).startswith("encoder ")]
    called = row_names(section)
    body: list[list[str]] = []
    for i in rows:
        counts = [fixed(_get(rows[i], n, "mean")).removesuffix(".0") for n in [*towers, *(n for _, n in _COUNTS)]]
        realised = rows[i].get("realised ratio", {})
        spread = [fixed(realised.get(key), 3) for key in ("min", "max")]
        same = math.isnan(realised.get("sd", math.nan)) or realised["sd"] < 5e-5
        requested = fixed(_get(rows[i], "requested ratio", "mean"), 3)
        shown = [requested, fixed(realised.get("mean"), 4), "" if same else "–".join(spread)]
        shown.append("" if same else fixed(realised.get("sd"), 4))
        body.append([called[i], *counts, *shown])
    heads = ["", *(t.removeprefix("encoder ") for t in towers), *(h for h, _ in _COUNTS)]
    heads += ["requested", "realised", "range", "sd"]
    notes = [
        "Mean visual tokens per question: each encoder's output, after fusion, LLM input, after the last prune, mean "
        "over LLM layers and over KV caches. Realised ratio: over all questions; range and sd where questions differ."
    ]
    of = dict.fromkeys(fixed(_get(rows[i], "reference", "mean")).removesuffix(".0") for i in rows)
    notes.append(f"Ratios are of {' or '.join(of)} tokens, those of the unpruned model.")
    return Table("Tokens", heads, body, breaks([section.cells[i] for i in rows]), notes)


def removed_table(section: Section, frame: pd.DataFrame) -> Table:
    """The fraction of each measure that a setting removes, beside the one that was asked for."""
    if frame.empty:
        return Table("", [], [])
    rows = {i: by_name for i, by_name in _by_row(frame).items() if section.cells[i].pruned}
    called = row_names(section)
    body = [
        [
            called[i],
            fixed(_get(by_name, "requested ratio", "mean"), 3),
            *(_share(_get(by_name, f"removed {measure}", "mean")) for measure in MEASURES),
        ]
        for i, by_name in rows.items()
    ]
    heads = ["", "requested", *(OF[measure] for measure in MEASURES)]
    notes = [f"Requested of the {WORDS[section.match]}. Fractions removed, over all questions together."]
    notes.append("FLOPs to the first token against the unpruned model's, selection included; inferred from counts.")
    return Table("Removed", heads, body, breaks([section.cells[i] for i in rows]), notes, detail=True)


def latency_table(section: Section, frame: pd.DataFrame, notes: Sequence[str]) -> Table:
    """Medians of the stages, the speed-up with its interval, FLOPs and, where it was measured, memory.

    Empty where nothing was timed: memory alone makes no table of latency.
    """
    if frame.empty or not (frame["unit"] == "ms").any():
        return Table("", [], [])
    rows: dict[int, dict[tuple[str, str], dict[str, Any]]] = {}
    for r in frame.to_dict("records"):
        rows.setdefault(r["row"], {})[r["name"], r["unit"]] = r
    columns = [column for column in _TIMES if any(column[1:3] in by_stage for by_stage in rows.values())]
    memory = any(("peak memory", "MiB") in by_stage for by_stage in rows.values())
    heads = [
        "ms, p50",
        *(heading for heading, *_ in columns),
        "p90",
        "faster",
        "±",
        f"GFLOPs{INFERRED}",
        *["MiB"] * memory,
    ]
    called = row_names(section)
    body: list[list[str]] = []
    bold: set[tuple[int, int]] = set()
    for i, by_stage in rows.items():
        bold |= {(len(body), 1 + at) for at, c in enumerate(columns) if by_stage.get(c[1:3], {}).get("best")}
        stages = [fixed(by_stage.get((stage, unit), {}).get("p50"), digits) for _, stage, unit, digits in columns]
        end = by_stage.get(("end to end", "ms"), {})
        bold |= {(len(body), 2 + len(columns))} if end.get("best") else set()
        work = fixed(by_stage.get(("to first token", "GFLOPs"), {}).get("p50"), 2)
        used = [fixed(by_stage.get(("peak memory", "MiB"), {}).get("p50"), 0)] * memory
        body.append([called[i], *stages, fixed(end.get("p90"), 1), *_faster(end), work, *used])
    return Table("Latency", heads, body, breaks([section.cells[i] for i in rows]), notes, frozenset(bold))


def _faster(end: Mapping[str, float]) -> list[str]:
    """The speed-up and the wider half of its interval."""
    speedup = end.get("speedup", math.nan)
    if math.isnan(speedup):
        return [fixed(None), ""]
    half = max(end["speedup_high"] - speedup, speedup - end["speedup_low"])
    return [f"{speedup:.2f}x", fixed(half, 2)]


def row_names(section: Section) -> list[str]:
    """A name for each row: the method and its ratio."""
    return [
        f"{label.replace(f' ({ADAPTATION})', '†')} {cell.ratio:g}" if cell.pruned else label
        for cell, label in zip(section.cells, section.labels, strict=True)
    ]


def breaks(cells: Sequence[Cell]) -> frozenset[int]:
    """The rows at which another ratio begins."""
    ratios = [cell.ratio if cell.pruned else None for cell in cells]
    return frozenset(i for i in range(1, len(ratios)) if ratios[i] != ratios[i - 1])


def _share(value: float | None) -> str:
    return fixed(value, 4)


def _score(r: Mapping[str, Any]) -> str:
    return fixed(r["score"]) + ("" if math.isnan(r["sd"]) else f" ±{r['sd']:.1f}")


def _headings(section: Section, names: Sequence[str]) -> list[str]:
    """Without the prefix that all benchmarks share: "pocket_gqa" is "gqa"; those on few images are marked."""
    stems = {name.partition("_")[0] for name in names if "_" in name}
    short = [name.partition("_")[2] if len(stems) == 1 and "_" in name else name for name in names]
    few = few_images(section)
    return [heading + FEW_IMAGES * (name in few) for name, heading in zip(names, short, strict=True)]


def _by_row(frame: pd.DataFrame) -> dict[int, dict[str, Any]]:
    """Row -> name -> the frame's row."""
    rows: dict[int, dict[str, Any]] = {}
    for r in frame.to_dict("records"):
        rows.setdefault(r["row"], {})[r["name"]] = r
    return rows


def _get(by_name: Mapping[str, Mapping[str, float]], name: str, column: str) -> float | None:
    return by_name.get(name, {}).get(column)
