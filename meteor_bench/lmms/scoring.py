"""What one document is worth: the numbers that paired intervals are made of. And metrics that lmms-eval lacks."""

from __future__ import annotations

import inspect
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from tempfile import TemporaryDirectory
from typing import Any

from meteor_bench.core.errors import UnknownNameError
from meteor_bench.data.suites import Benchmark

__all__ = ["EXTRA", "extra", "family", "sample_score"]

_ROTATION = 1_000_000  # MMBench numbers the rotations of question 17 as 1000017, 2000017, ...


def sample_score(row: Benchmark, task: Any, logged: Mapping[str, Any]) -> float:
    """A document's part in the metric, 0 to 1.

    That is the number that lmms-eval has for the document; or the "score" in what the metric collects of it; or, where
    only prediction and answer are collected (SEED-Bench, MMMU, MMBench, LongVideoBench), what the benchmark's own
    aggregation gives for this document alone. Of metrics that are no mean over documents it is the nearest thing that
    is one: POPE's accuracy for its F1, MME's single questions without the bonus for pairs, MMBench's single rotations.

    Args:
        task: lmms-eval's task object.
        logged: what `process_results` gave, by metric.

    Raises:
        UnknownNameError: the document has no such metric.
    """
    value = _collected(row, logged)
    if isinstance(value, Mapping):
        value = value["score"] if "score" in value else _alone(row, task, value)
    return float(value)


def family(row: Benchmark, logged: Mapping[str, Any]) -> str:
    """The kind of question that a document is; "" where the benchmark names none."""
    value = logged["doc"].get(row.family)
    if value is None:
        collected = _collected(row, logged)
        value = collected.get(row.family) if isinstance(collected, Mapping) else None
    return "" if value is None else str(value)


def _share_of_yes(collected: Sequence[Mapping[str, Any]]) -> float:
    """Of all answers those that POPE takes for a yes; ``pope_yes_ratio`` counts the truths."""
    return [entry["prediction"] for entry in collected].count("yes") / len(collected)


EXTRA: Mapping[str, Callable[[Sequence[Any]], float]] = {"pope_yes_ratio_of_answers": _share_of_yes}
"""Metrics of ours, made as lmms-eval's are: of what `Benchmark.sample_metric` collects of each document."""


def extra(row: Benchmark, logged: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The metrics of our own that a benchmark has, under keys like lmms-eval's.

    Args:
        logged: of each document what `process_results` gave, by metric.
    """
    collected = [_collected(row, document) for document in logged]
    filtered = row.metric.partition(",")[2]
    return {f"{name},{filtered}": EXTRA[name](collected) for name in row.extra}


def _collected(row: Benchmark, logged: Mapping[str, Any]) -> Any:
    for name in row.sample_metric.split("|"):
        if name in logged:
            return logged[name]
    raise UnknownNameError(f"metric of {row.task}", row.sample_metric, logged)


def _alone(row: Benchmark, task: Any, entry: Mapping[str, Any]) -> float:
    """The benchmark's aggregation of a single document, 0 to 1."""
    metric = next(name for name in row.sample_metric.split("|") if name in task.aggregation())
    aggregate = task.aggregation()[metric]
    if isinstance(entry.get("index"), int):
        entry = {**entry, "index": entry["index"] % _ROTATION}
    if "args" not in inspect.signature(aggregate).parameters:
        score = aggregate([entry])
    else:
        # It also writes a file, which must not replace that of the whole.
        with TemporaryDirectory() as folder:
            score = aggregate([entry], args=Namespace(output_path=folder))
    return float(score) * row.scale / 100
