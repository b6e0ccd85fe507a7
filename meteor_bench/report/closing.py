"""What a run came to in three sentences: accuracy beside the unpruned model, tokens, FLOPs and speed.

It stands above the tables that `run` ends with. A number that is not there is said to be missing, with the reason.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from meteor_bench.core.request import FAILED
from meteor_bench.data.own_pictures import LIKENESS
from meteor_bench.report import render
from meteor_bench.report.document import Document
from meteor_bench.report.formats import json_values
from meteor_bench.report.runs import Cell, load
from meteor_bench.report.sections import sections
from meteor_bench.report.standing import Standing, of_section

__all__ = ["Closing", "closing", "document"]


@dataclass(frozen=True)
class Closing:
    """A run beside the unpruned model.

    Attributes:
        cell: the run.
        standing: its numbers.
    """

    cell: Cell
    standing: Standing

    @property
    def numbers(self) -> dict[str, Any]:
        """For programs: the standing without what was not measured, and what was removed."""
        shares = {"removed_tokens": self._removed("tokens"), "removed_flops": self._removed("flops")}
        return json_values(asdict(self.standing) | shares)

    def sentences(self) -> list[str]:
        """A line for each number, in whole sentences."""
        return [self._accuracy(), self._tokens(), self._cost()]

    def _accuracy(self) -> str:
        one = self.standing
        if self.cell.what != "Accuracy":
            return self._agreement()
        alone = f"{one.score:.1f}{_bounds(one.score_low, one.score_high)} on {_count(one.n, 'question')}"
        if not self.cell.pruned:
            return f"Accuracy: {alone}. Nothing was pruned, so there is no difference to the unpruned model."
        if self.cell.unpruned is None:
            return (
                f"Accuracy: {alone}. There is no difference to the unpruned model, "
                "because no run of it on these questions was found."
            )
        lost = round(one.difference, 1)
        how = "as much as" if lost == 0 else f"{abs(lost):.1f} points {'below' if lost < 0 else 'above'}"
        text = (
            f"Accuracy: {one.score:.1f} on {_count(one.n, 'question')}, {how} the unpruned model's {one.unpruned:.1f}"
        )
        if math.isnan(one.low):
            return f"{text}. There is no interval: the questions are about too few pictures."
        text += f" (95 % interval of the difference: {one.low:+.1f} to {one.high:+.1f})."
        return f"{text} It holds 0, so the difference may be chance." if one.low <= 0 <= one.high else text

    def _agreement(self) -> str:
        """Of a folder of pictures without answers: how many are the unpruned model's own."""
        one, what = self.standing, self.cell.what
        if not self.cell.pruned:
            text = f"{what}: these are its own answers, to {_count(one.n, 'picture')}; nothing was pruned"
            return text + self._unanswered() + "."
        bounds = _bounds(one.score_low, one.score_high)
        alike = sum(task.metrics[LIKENESS] * task.n for task in self.cell.record.tasks) / one.n
        text = f"{what}: {one.score:.1f} % of {_count(one.n, 'answer')} are the same{bounds}"
        return f"{text}; their mean ANLS is {alike:.2f}{self._unanswered()}."

    def _unanswered(self) -> str:
        """Pictures that neither model was shown, which lower the agreement; "" where there are none."""
        failed = sum(count for note, count in self.cell.runs[0].scores.notes.items() if note.startswith(FAILED))
        counts = "counts" if failed == 1 else "count"
        return f"; {_count(failed, 'picture')} could not be read and {counts} as not the same" if failed else ""

    def _tokens(self) -> str:
        one = self.standing
        if math.isnan(one.tokens):
            return "Tokens: they were not counted."
        text = f"Tokens: {one.tokens:.1f} visual tokens a question after the last prune"
        if math.isnan(one.unpruned_tokens):
            return f"{text}."
        return f"{text} instead of {one.unpruned_tokens:.1f}, {_percent(self._removed('tokens'))}."

    def _cost(self) -> str:
        one = self.standing
        text = f"Cost: {one.flops / 1e9:.3g} GFLOPs to the first token"
        if not math.isnan(one.unpruned_flops):
            text += f" instead of {one.unpruned_flops / 1e9:.3g}, {_percent(self._removed('flops'))}"
        text += ", by closed forms."
        if not self.cell.pruned:
            return text
        if math.isnan(one.speedup):
            return f"{text} Speed beside the unpruned model was not measured."
        bounds = _bounds(one.speedup_low, one.speedup_high, 2)
        return f"{text} Measured end to end at batch 1 it is {one.speedup:.2f} times as fast{bounds}."

    def _removed(self, what: str) -> float:
        """The share that was removed; NaN where there is nothing to compare with."""
        kept, whole = (getattr(self.standing, prefix + what) for prefix in ("", "unpruned_"))
        return 1 - kept / whole if whole else math.nan


def closing(folder: Path) -> Closing:
    """A finished run's.

    Raises:
        RecordError: it is broken.
    """
    (cell,) = load(folder)
    for section in sections([cell]):
        for at, other in enumerate(section.cells):
            if other is cell:
                return Closing(cell, of_section(section)[at])
    raise AssertionError("a cell is in its own section")


def document(folder: Path) -> Document:
    """A finished run as `run` prints it: the sentences, the tables, the folder; JSON has the numbers under "run".

    Raises:
        RecordError: it is broken.
    """
    said = closing(folder)
    tables = render.document([said.cell])
    assert tables.data is not None
    made = tables.data

    def data() -> dict[str, Any]:
        return {"folder": str(folder), "run": said.numbers, **made()}

    return replace(tables, lead=said.sentences(), tail=(str(folder),), data=data)


def _percent(share: float) -> str:
    return f"{abs(100 * share):.1f} % {'fewer' if share >= 0 else 'more'}"


def _bounds(low: float, high: float, digits: int = 1) -> str:
    if math.isnan(low) or math.isnan(high):
        return ""
    return f" (95 % interval {low:.{digits}f} to {high:.{digits}f})"


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"
