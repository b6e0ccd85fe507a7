"""What is known of a run: its settings, provenance and results as plain, versioned data.

``results/README.md`` explains every column; ``results/schema`` holds the same layout as JSON Schema
(`scripts/record_schema.py`); `meteor_bench.records.run_folder` writes and reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from meteor_bench.config.run_config import RunConfig
from meteor_bench.core.match import Measure
from meteor_bench.core.request import FAILED
from meteor_bench.records.provenance import Environment

__all__ = [
    "LOOKALIKE",
    "LOOKALIKES",
    "SCHEMA",
    "SESSIONS",
    "LatencySample",
    "RunRecord",
    "SampleRecord",
    "SessionName",
    "Spread",
    "TaskRecord",
    "TokenRecord",
    "migrated",
    "worded",
]

SCHEMA = 3
LOOKALIKE = "look-alike "
"""Begins the digest of documents that are none of the benchmark's own."""
LOOKALIKES = "look-alike data: nothing measured on it says anything about the benchmark"
SessionName = Literal["unpruned", "run"]
SESSIONS: tuple[SessionName, ...] = ("unpruned", "run")


def worded(value: Any) -> str:
    """A target or an answer as people read it: the alternatives of a list side by side."""
    return " / ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


@dataclass(frozen=True)
class TaskRecord:
    """A benchmark's result.

    Attributes:
        task: name of the benchmark.
        group: the skill it belongs to.
        metric: the headline metric, as lmms-eval names it.
        score: the headline metric on a scale of 0 to 100.
        metrics: every metric that lmms-eval gave, on its own scale; and those of our own.
        sample_metric: the metric that a sample's score is its part in.
        families: mean score of each kind of question, 0 to 100; empty where documents name none.
        n: documents answered.
        n_expected: documents there are, under the limit.
        data: digest of the documents; of look-alikes, after "look-alike ".
    """

    task: str
    group: str
    metric: str
    score: float
    metrics: Mapping[str, float]
    sample_metric: str
    families: Mapping[str, float]
    n: int
    n_expected: int
    data: str


@dataclass(frozen=True)
class Spread:
    """A count over the samples of a run."""

    mean: float
    min: float
    max: float
    sd: float


@dataclass(frozen=True)
class TokenRecord:
    """Visual tokens of a run, summarised from the samples.

    Attributes:
        towers: tokens that left each encoder.
        fused: after fusion.
        llm_input: at the language model's first layer.
        final: after the last pruning point; what the ratio is measured on.
        layer_mean: mean over the language model's layers.
        kv_mean: mean over the layers' key/value caches.
        text: tokens around the visual ones.
        answer: tokens generated.
        reference: what the unpruned reference model feeds its language model.
        target: what the budget allows after the last pruning point.
        requested_ratio: fraction to remove; `RunConfig.match` says of what.
        realised_ratio: 1 - sum of final / sum of reference. The reference of a model with a projector for each encoder
            is its kin with one: of pocket-independent both ratios are of pocket's 256 tokens, not of its own 576.
        missed: samples whose final count is not the target; 0 where nothing was to be removed.
        realised: measure -> fraction removed, over all samples together, of each of `core.match.MEASURES`: tokens, the
            tokens of all layers, KV cache, and FLOPs to the first token against the unpruned reference model's. Of a
            record of an older version the FLOPs are missing.
    """

    towers: Mapping[str, Spread]
    fused: Spread
    llm_input: Spread
    final: Spread
    layer_mean: Spread
    kv_mean: Spread
    text: Spread
    answer: Spread
    reference: Spread
    target: Spread
    requested_ratio: float
    realised_ratio: float
    missed: int
    realised: Mapping[Measure, float] = field(default_factory=dict)


@dataclass(frozen=True)
class RunRecord:
    """A run.

    Attributes:
        schema: version of this layout.
        status: "partial" until everything is written.
        started, finished: UTC, ISO 8601.
        fingerprint: hash of everything that can change an answer.
        baseline: fingerprint of the unpruned run it is compared with; None for an unpruned run.
        config: what the user asked for.
        model: row of the model table that was run (a method may take a variant of the named one).
        checkpoint: digest of the weights.
        parameters: all hyperparameters of the method.
        positions: the position policy used.
        exact: whether the method promises its budget on every sample.
        method_files: name -> SHA-256 of the file that a method was taken from; empty for rows of the table.
        facts: what was measured offline for the method (a calibrated threshold and what it realised).
        environment: versions, commit, machine.
        tasks: results per benchmark, in the order of the suite.
        tokens: summary of the token counts.
        flops: mean FLOPs per sample.
        seconds: wall time of each part of the run.
        peak_memory: bytes; the largest resident set of the process while it answered, on an accelerator the most that
            was allocated there.
    """

    schema: int
    status: Literal["partial", "complete"]
    started: str
    fingerprint: str
    baseline: str | None
    config: RunConfig
    model: str
    checkpoint: str
    parameters: Mapping[str, Any]
    positions: str
    exact: bool
    facts: Mapping[str, Any]
    environment: Environment
    finished: str | None = None
    method_files: Mapping[str, str] = field(default_factory=dict)
    tasks: tuple[TaskRecord, ...] = ()
    tokens: TokenRecord | None = None
    flops: Mapping[str, float] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    peak_memory: int | None = None

    @property
    def lookalike(self) -> bool:
        """Whether any of its data are look-alikes, on which nothing is measured."""
        return any(task.data.startswith(LOOKALIKE) for task in self.tasks)


@dataclass(frozen=True)
class SampleRecord:
    """One question.

    Attributes:
        task: name of the benchmark.
        doc_id: index of the document in it.
        media_key: the image or video; questions that share it are not independent.
        family: the kind of question, where the document names one.
        question: the prompt.
        target: the true answer.
        answer: what was scored.
        raw: what was generated.
        score: 0 to 1, the document's part in the headline metric (or in what stands for it, `sample_metric`).
        tokens: columns of the token table.
        latency_ms: of the accuracy run, which shares work between samples: not for comparison.
        flops: stage -> FLOPs of this question answered alone.
        notes: substitutions that the engine made.
    """

    task: str
    doc_id: int
    media_key: str
    family: str
    question: str
    target: Any
    answer: Any
    raw: str
    score: float
    tokens: Mapping[str, Any]
    latency_ms: Mapping[str, float]
    flops: Mapping[str, float]
    notes: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether it was not answered."""
        return any(note.startswith(FAILED) for note in self.notes)


@dataclass(frozen=True)
class LatencySample:
    """Raw timing of one request at batch 1, nothing reused.

    Attributes:
        session: "unpruned" or "run".
        request: its key; both sessions answer the same requests, in turn.
        times: milliseconds and FLOPs as `runs.latency.interleave.measure` gives them.
    """

    session: SessionName
    request: str
    times: Mapping[str, Any]


def migrated(data: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """A record of this or an older version in the present layout; None for a version that is not known.

    Version 1 had no `peak_memory`; version 2 had no `RunConfig.match`, for every ratio was of the final tokens, and no
    `TokenRecord.realised`, which follows from its counts but for the FLOPs.
    """
    if data["schema"] not in range(1, SCHEMA + 1):
        return None
    tokens = data.get("tokens")
    if data["schema"] < 3 and isinstance(tokens, Mapping):
        data = {**data, "tokens": {**tokens, **_realised(tokens)}}
    return {**data, "schema": SCHEMA}


def _realised(tokens: Mapping[str, Any]) -> dict[str, Any]:
    """What a token record of version 2 tells of `TokenRecord.realised`; nothing where it is broken."""
    try:
        whole = tokens["reference"]["mean"]
        means = {"layer-mean": tokens["layer_mean"]["mean"], "kv": tokens["kv_mean"]["mean"]}
        found = {measure: 1 - mean / whole for measure, mean in means.items()} if whole else {}
        return {"realised": {"tokens": tokens["realised_ratio"], **found}}
    except (KeyError, TypeError):
        return {}
