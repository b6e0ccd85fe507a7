"""Raw passes of a latency cell into what is said of each contender: percentiles, work, comparison with the unpruned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, quantiles
from typing import Any

from meteor_bench.core.match import Measure, to_first_token
from meteor_bench.runs.latency.records import UNPRUNED, Cell, Row

__all__ = ["STEADY", "Line", "Spread", "lines", "spread"]

STEADY = 0.10  # the interquartile range, as a share of the median, up to which a machine counts as steady


@dataclass(frozen=True)
class Spread:
    """A quantity over the passes.

    Attributes:
        iqr: interquartile range as a share of the median; 0 where the median is 0.
    """

    n: int
    p50: float
    p90: float
    p99: float
    mean: float
    iqr: float


def spread(values: Sequence[float]) -> Spread:
    """Percentiles with linear interpolation between the order statistics, as NumPy's default.

    Args:
        values: at least one.
    """
    cuts = quantiles(values, n=100, method="inclusive") if len(values) > 1 else [float(values[0])] * 99
    middle, low, high = cuts[49], cuts[24], cuts[74]
    return Spread(len(values), middle, cuts[89], cuts[98], fmean(values), (high - low) / middle if middle else 0.0)


@dataclass(frozen=True)
class Line:
    """A contender that was timed.

    Attributes:
        times: stage -> milliseconds: preprocess, encode.<tower>, encode, fuse, prune, prefill, ttft, decode per token,
            end to end, instrumented, and clocked (the sum of all stages), the last three for the whole pass. Where all
            up to the first token is captured, ttft stands without its parts.
        work: stage -> GFLOPs of a pass: encode, fuse, prune, prefill, ttft, decode.
        kept: least, mean and most tokens after the last pruning point.
        reference: tokens that the unpruned model feeds its language model.
        faster: stage -> time of the unpruned model over this one's (medians): prefill, ttft, end to end.
        lighter: stage -> FLOPs of the unpruned model over this one's: prefill, ttft.
        removed: measure -> fraction removed, over all passes; {} where the record does not tell.
    """

    row: Row
    times: Mapping[str, Spread]
    work: Mapping[str, float]
    kept: tuple[float, float, float]
    reference: int
    faster: Mapping[str, float]
    lighter: Mapping[str, float]
    removed: Mapping[Measure, float]

    @property
    def prune_share(self) -> float | None:
        """Choosing and applying, as a share of the time to the first token; None where they were not timed apart."""
        return self.times["prune"].p50 / self.times["ttft"].p50 if "prune" in self.times else None

    @property
    def realised(self) -> float:
        """Measured speed-up to the first token, as a share of what its FLOPs alone would give."""
        return self.faster["ttft"] / self.lighter["ttft"]

    @property
    def gflops_per_second(self) -> float:
        """Achieved up to the first token."""
        return self.work["ttft"] / self.times["ttft"].p50 * 1e3

    @property
    def instrumentation(self) -> float:
        """What the stage clocks add to a pass, as a share of it."""
        bare = self.times["end to end"].p50 - self.times["preprocess"].p50
        return self.times["instrumented"].p50 / bare - 1

    @property
    def covered(self) -> float:
        """Sum of the stages, as a share of the pass in which they were clocked."""
        return self.times["clocked"].p50 / self.times["instrumented"].p50


def lines(cell: Cell) -> list[Line]:
    """What was timed in a cell, in its order."""
    timed = [row for row in cell.rows if row.samples]
    times = {row.name: _times(row, cell.new_tokens) for row in timed}
    work = {row.name: _work(row) for row in timed}
    plain_times, plain_work = times[UNPRUNED], work[UNPRUNED]
    out = []
    for row in timed:
        own, load = times[row.name], work[row.name]
        kept = [float(count) for sample in row.samples for count in sample["tokens"]["kept"]]
        out.append(
            Line(
                row=row,
                times=own,
                work=load,
                kept=(min(kept), fmean(kept), max(kept)),
                reference=row.samples[0]["tokens"]["reference"],
                faster={s: plain_times[s].p50 / own[s].p50 for s in ("prefill", "ttft", "end to end") if s in own},
                lighter={s: plain_work[s] / load[s] for s in ("prefill", "ttft") if load[s]},
                removed=_removed(row, load["ttft"] / plain_work["ttft"]),
            )
        )
    return out


def _removed(row: Row, work: float) -> dict[Measure, float]:
    """Of each measure.

    Args:
        work: FLOPs to the first token over the unpruned model's.
    """
    counts = [sample["tokens"] for sample in row.samples]
    if any("layer_mean" not in count for count in counts):
        return {}
    names: dict[Measure, str] = {"tokens": "kept", "layer-mean": "layer_mean", "kv": "kv_mean"}
    left = {m: fmean(n for count in counts for n in count[name]) for m, name in names.items()}
    return {**{m: 1 - n / counts[0]["reference"] for m, n in left.items()}, "flops": 1 - work}


def _times(row: Row, new_tokens: int) -> dict[str, Spread]:
    values: dict[str, list[float]] = {}
    for sample in row.samples:
        for stage, ms in _stages(sample, new_tokens):
            values.setdefault(stage, []).append(ms)
    return {stage: spread(found) for stage, found in values.items()}


def _stages(sample: Mapping[str, Any], new_tokens: int) -> Iterator[tuple[str, float]]:
    yield "preprocess", sample["preprocess_ms"]
    for tower, ms in sample["encode_ms"].items():
        yield f"encode.{tower}", ms
    if sample["encode_ms"]:  # not where all is captured as one
        yield "encode", sum(sample["encode_ms"].values())
        for stage in ("fuse", "prune", "prefill"):
            yield stage, sample[f"{stage}_ms"]
    yield "ttft", sample["ttft_ms"]
    yield "decode per token", sample["decode_ms_per_token"]
    yield "end to end", sample["end_to_end_ms"]
    yield "instrumented", sample["instrumented_ms"]
    yield "clocked", sample["ttft_ms"] + sample["decode_ms_per_token"] * (new_tokens - 1)


def _work(row: Row) -> dict[str, float]:
    """Mean GFLOPs of a pass; pruning's too."""
    total: dict[str, float] = {"encode": 0.0}
    for sample in row.samples:
        for stage, count in sample["flops"].items():
            name = "encode" if stage.startswith("encode.") else stage
            total[name] = total.get(name, 0.0) + count / 1e9 / len(row.samples)
    total["ttft"] = to_first_token(total)
    return total
