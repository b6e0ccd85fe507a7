"""Run benchmarks through lmms-eval and bring back what it scored and what we measured."""

from __future__ import annotations

import hashlib
import json
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meteor_bench.core.errors import DataError, UnknownNameError
from meteor_bench.data.lookalike import counted
from meteor_bench.data.suites import Benchmark, benchmark
from meteor_bench.lmms import tasks as known
from meteor_bench.lmms.harness import Quiet, load_evaluator
from meteor_bench.lmms.inputs import HERE, Inputs
from meteor_bench.lmms.journal import Journal
from meteor_bench.lmms.scoring import extra, family, sample_score
from meteor_bench.records.provenance import fingerprint as hash_of

if TYPE_CHECKING:
    from meteor_bench.engine.session import Session
    from meteor_bench.lmms.plugin import MeteorBench, Progress

__all__ = ["TaskResult", "evaluate"]


@dataclass(frozen=True)
class TaskResult:
    """What came out of one benchmark.

    Attributes:
        task: its name.
        metrics: every metric that lmms-eval gave, on its own scale, by "name,filter"; and those of our own.
        headline: the headline metric, 0-100.
        families: mean per-sample score of each family of questions, 0-100; empty where documents name none.
        sample_metric: the metric whose part for one document is `samples[i]["score"]`.
        n, n_expected: documents answered, and those there are under the limit.
        data_digest: SHA-256 over what was asked: pictures, questions, true answers.
        samples: in the order of doc_id: task, doc_id, media_key, family, question, target, answer (as scored), raw
            (as generated), score (0-1), tokens, latency_ms, flops, notes.
    """

    task: str
    metrics: Mapping[str, float]
    headline: float
    families: Mapping[str, float]
    sample_metric: str
    n: int
    n_expected: int
    data_digest: str
    samples: Sequence[Mapping[str, Any]]


def evaluate(
    session: Session,
    tasks: Sequence[str],
    *,
    journal: Path,
    batch_size: int,
    fingerprint: str | None = None,
    limit: int | None = None,
    task_dirs: Sequence[Path] = (),
    inputs: Inputs = HERE,
    on_progress: Progress | None = None,
    reuse: bool = True,
    deterministic: bool = False,
) -> list[TaskResult]:
    """Run benchmarks one after another.

    Args:
        session: the model with its method, ready.
        tasks: names in the benchmark table.
        journal: file that keeps the answers as they are produced; answers in it are not asked for again.
        batch_size: requests answered together.
        fingerprint: of everything that can change an answer; by default of the session's provenance.
        limit: documents per benchmark, None for all.
        task_dirs: folders searched for tasks besides our own.
        inputs: where the data are, and how videos are read.
        on_progress: called with task, number of answers known, number wanted; stdout and stderr work inside it.
        reuse: let questions share what depends on the picture alone.
        deterministic: answer each question by itself.

    Raises:
        UnknownNameError: no such task.
        ConfigError: nothing says where its data are.
        DataError: its data are missing, corrupted or of another size than the table says.
    """
    rows = [counted(benchmark(task), inputs.data_root) for task in tasks]
    for row in rows:
        known.check(row, inputs)
    index = known.index(rows, task_dirs)
    from meteor_bench.lmms.plugin import MeteorBench

    with Journal(journal, fingerprint or hash_of(session.provenance)) as answers:
        quiet = Quiet()
        model = MeteorBench(
            session,
            journal=answers,
            on_progress=on_progress,
            outside=quiet.lifted,
            batch_size=batch_size,
            reuse=reuse,
            deterministic=deterministic,
            inputs=inputs,
        )
        results = []
        for row in rows:
            with known.opened(row, index, inputs) as task:
                results.append(_run(model, index, row, task, limit, quiet, journal.parent.resolve()))
        return results


def _run(
    model: MeteorBench, index: Any, row: Benchmark, task: Any, limit: int | None, quiet: Quiet, out: Path
) -> TaskResult:
    evaluator = load_evaluator()
    from tenacity import RetryError

    # Where submission files go (without it: the working directory), and documents are scored without their pictures.
    arguments = Namespace(
        output_path=str(out), process_with_media=False, reasoning_tags=None, agentic_trace_mode="basic"
    )
    try:
        with quiet:
            results = evaluator.simple_evaluate(
                model,
                tasks=[task],
                task_manager=index,
                limit=limit,
                bootstrap_iters=0,
                log_samples=True,
                process_docs_parallel=1,
                cli_args=arguments,
                # The other one makes an Accelerator, which nothing needs on a single rank.
                distributed_executor_backend="torchrun",
            )
    except RetryError as error:
        # What lmms-eval met five times while scoring.
        cause = error.last_attempt.exception()
        raise DataError(f"{row.task}: {' '.join(str(cause).split())}") from cause
    with quiet:
        return _result(row, task, results, limit)


def _result(row: Benchmark, task: Any, results: Mapping[str, Any], limit: int | None) -> TaskResult:
    scores = results["results"][row.task]
    if row.metric not in scores:
        raise UnknownNameError(f"metric of {row.task}", row.metric, _metrics(scores))
    expected = min(row.n, limit or row.n)
    logged = _of_headline(row, results, expected)
    samples = [_sample(row, task, document) for document in logged]
    if len(samples) != expected:
        raise DataError(f"{row.task}: {len(samples)} of {expected} documents were scored")
    _count_nothing(samples)
    return TaskResult(
        task=row.task,
        metrics=_metrics(scores) | extra(row, logged),
        headline=float(scores[row.metric]) * row.scale,
        families=_families(samples),
        sample_metric=row.sample_metric,
        n=len(samples),
        n_expected=expected,
        data_digest=_digest(samples),
        samples=samples,
    )


def _metrics(scores: Mapping[str, Any]) -> dict[str, float]:
    """The numbers among lmms-eval's results, without its standard errors: intervals are ours."""
    numbers = {k: v for k, v in scores.items() if "_stderr" not in k and isinstance(v, int | float)}
    return {key: float(value) for key, value in numbers.items()}


def _of_headline(row: Benchmark, results: Mapping[str, Any], n: int) -> list[Mapping[str, Any]]:
    """The logged samples of the headline's filter: with several filters they come one filter after another."""
    filters = [f["name"] for f in results["configs"][row.task].get("filter_list") or [{"name": "none"}]]
    at = filters.index(row.metric.partition(",")[2])
    logged: list[Mapping[str, Any]] = results["samples"][row.task][at * n : (at + 1) * n]
    return sorted(logged, key=lambda sample: sample["doc_id"])


def _sample(row: Benchmark, task: Any, logged: Mapping[str, Any]) -> dict[str, Any]:
    measured = logged["token_counts"][0]
    return {
        "task": row.task,
        "doc_id": logged["doc_id"],
        "media_key": measured["media_key"],
        "family": family(row, logged),
        "question": logged["arguments"][0],
        "target": logged["target"],
        "answer": logged["filtered_resps"][0],
        "raw": measured["raw"],
        "score": 0.0 if measured["failed"] else sample_score(row, task, logged),
        "tokens": measured["tokens"],
        "latency_ms": measured["latency_ms"],
        "flops": measured["flops"],
        "notes": measured["notes"],
    }


def _count_nothing(samples: Sequence[dict[str, Any]]) -> None:
    """Zeros where nothing was answered.

    Raises:
        DataError: nothing was answered at all.
    """
    answered = [sample["tokens"] for sample in samples if sample["tokens"]]
    if samples and not answered:
        raise DataError(f"{samples[0]['notes'][0]}; so it is with all documents")
    for sample in samples:
        sample["tokens"] = sample["tokens"] or _zeros(answered[0])


def _zeros(counts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _zeros(value) if isinstance(value, Mapping) else 0 for name, value in counts.items()}


def _families(samples: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    scores: dict[str, list[float]] = {}
    for sample in samples:
        if sample["family"]:
            scores.setdefault(sample["family"], []).append(sample["score"])
    return {family: 100 * sum(values) / len(values) for family, values in sorted(scores.items())}


def _digest(samples: Iterable[Mapping[str, Any]]) -> str:
    total = hashlib.sha256()
    for sample in samples:
        asked = [sample[key] for key in ("doc_id", "media_key", "question", "target")]
        total.update(json.dumps(asked, ensure_ascii=False).encode() + b"\n")
    return total.hexdigest()
