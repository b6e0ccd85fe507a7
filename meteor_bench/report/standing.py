"""How runs stand to the unpruned model in the three numbers that a choice is made of; and which no other one beats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from meteor_bench.core.match import to_first_token
from meteor_bench.report.accuracy import accuracy
from meteor_bench.report.html.data import pareto
from meteor_bench.report.runs import Cell, cells, load_run
from meteor_bench.report.sections import Section, sections
from meteor_bench.report.table import INFERRED, Table, fixed, with_half
from meteor_bench.report.times import latency

__all__ = ["Standing", "front", "of_section", "standings", "table"]


@dataclass(frozen=True)
class Standing:
    """A setting beside the unpruned model, on the same questions.

    Attributes:
        method, ratio: the setting.
        n: questions, over all benchmarks.
        difference, low, high: average score less the unpruned one in points, with its paired 95 % interval, clustered
            by image.
        tokens, unpruned_tokens: visual tokens after the last prune, mean per question.
        flops, unpruned_flops: to the first token, mean per question.
        speedup, speedup_low, speedup_high: end to end at batch 1; NaN where it was not timed.
        score, score_low, score_high: the average score itself, with its own interval.
        unpruned: the unpruned model's average score.

    What needs the unpruned model is NaN where no run of it was found.
    """

    method: str
    ratio: float
    n: int
    difference: float
    low: float
    high: float
    tokens: float
    unpruned_tokens: float
    flops: float
    unpruned_flops: float
    speedup: float = math.nan
    speedup_low: float = math.nan
    speedup_high: float = math.nan
    score: float = math.nan
    score_low: float = math.nan
    score_high: float = math.nan
    unpruned: float = math.nan

    @property
    def drop(self) -> float:
        """Points lost; below 0 where some were won."""
        return -self.difference

    @property
    def title(self) -> str:
        """The setting in words, "fastv at 0.5"."""
        return f"{self.method} at {self.ratio:g}"


def standings(paths: Sequence[Path]) -> dict[Path, Standing]:
    """Of runs on the same questions, their folders' standings; the unpruned ones left out.

    Raises:
        RecordError: a folder is broken, they answered different questions, or one has no unpruned run beside it.
    """
    found: dict[Path, Standing] = {}
    for section in sections(cells([load_run(path) for path in paths])):
        for cell, standing in zip(section.cells, of_section(section), strict=True):
            if cell.unpruned is not None:
                found[cell.runs[0].path] = standing
    return found


def of_section(section: Section) -> list[Standing]:
    """The standing of each cell of a section.

    Raises:
        RecordError: samples are missing or broken, or of different documents.
    """
    frame, times = accuracy(section), latency(section)
    average = {r["row"]: r for r in frame[frame["name"] == "average"].to_dict("records")}
    ends = times[(times["name"] == "end to end") & (times["unit"] == "ms")] if len(times) else times
    faster = {r["row"]: r for r in ends.to_dict("records")}
    found = []
    for row, cell in enumerate(section.cells):
        r, end, other = average[row], faster.get(row, {}), cell.unpruned
        found.append(
            Standing(
                cell.record.config.method,
                cell.ratio,
                int(r["n"]),
                r["difference"],
                r["difference_low"],
                r["difference_high"],
                _tokens(cell),
                _tokens(other) if other else math.nan,
                to_first_token(cell.record.flops),
                to_first_token(other.record.flops) if other else math.nan,
                *(end.get(name, math.nan) for name in ("speedup", "speedup_low", "speedup_high")),
                *(r[name] for name in ("score", "low", "high", "unpruned")),
            )
        )
    return found


def _tokens(cell: Cell) -> float:
    return cell.record.tokens.final.mean if cell.record.tokens else math.nan


def front(every: Sequence[Standing]) -> list[Standing]:
    """Those that no other one beats: none loses less at no more FLOPs, or costs less and loses no more."""
    best = pareto([(one.flops, one.difference) for one in every])
    return [one for at, one in enumerate(every) if at in best]


def table(
    whole: Sequence[Standing], left: Sequence[Standing], chosen: Standing | None, what: str = "Accuracy"
) -> Table:
    """Those that were measured on all questions, cheapest first, then those that were left on the way.

    Args:
        chosen: set in bold.
        what: the scores are, as `Cell.what` says it.
    """
    best = {one.title for one in front(whole)}
    whole = sorted(whole, key=lambda one: (one.flops, one.drop))
    left = sorted(left, key=lambda one: (-one.n, one.flops, one.drop))
    timed = any(not math.isnan(one.speedup) for one in (*whole, *left))
    rows = []
    for one in (*whole, *left):
        share = 100 * one.flops / one.unpruned_flops if one.unpruned_flops else math.nan
        name = one.title + " *" * (one in whole and one.title in best)
        change = with_half(one.difference, one.low, one.high)
        speed = [f"{one.speedup:.2f}x" if not math.isnan(one.speedup) else fixed(None)] * timed
        rows.append(
            [name, f"{one.n}", change, fixed(one.tokens), fixed(one.flops / 1e9, 3), f"{fixed(share)} %", *speed]
        )
    heads = ["", "questions", "difference", "tokens", f"GFLOPs{INFERRED}", "of unpruned", *["speed-up"] * timed]
    bold = frozenset((i, 2) for i, one in enumerate(whole) if one == chosen)
    notes = [
        "Difference to the unpruned model: average score in points with its 95 % interval, paired, clustered by image.",
        "* on the Pareto front of those measured on all questions: none of them loses less at no more FLOPs, or costs "
        "less and loses no more. FLOPs to the first token.",
        f"{INFERRED} inferred from closed forms; everything else is measured.",
    ]
    if left:
        notes.insert(2, "Below the gap: left on the way, on the questions that they had answered by then.")
    gap = frozenset({len(whole)} if whole and left else ())
    return Table(f"{what} against cost", heads, rows, gap, notes, bold)
